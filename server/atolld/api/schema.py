"""Bodies of the control API. Wire names are spelt here and nowhere else in the server.

A field a client may leave out may also be ``null``: some send it so.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType, field

from atolld.control.sandboxes import NewSandbox
from atolld.model.errors import InvalidRequest
from atolld.model.records import SandboxRecord
from atolld.model.sandbox import ASLEEP

CLIENT_ID = "atoll"
"""A relic of the wire: once part of sandbox ids, now the same for all."""

V1_TIMEOUT = 15
V2_TIMEOUT = 300
CONNECT_TIMEOUT = 300


class AutoResume(msgspec.Struct):
    enabled: bool | None = None


class Iam(msgspec.Struct):
    tokens: dict[str, Any] | None = None


class NewSandboxBody(msgspec.Struct):
    """``POST /sandboxes`` and ``POST /v2/sandboxes``."""

    template_id: str = field(name="templateID")
    timeout: int | None = None
    secure: bool | None = None
    allow_internet_access: bool | None = None
    metadata: dict[str, str] | None = None
    env_vars: dict[str, str] | None = field(name="envVars", default=None)
    auto_pause: bool | None = field(name="autoPause", default=None)
    auto_pause_memory: bool | None = field(name="autoPauseMemory", default=None)
    auto_resume: AutoResume | None = field(name="autoResume", default=None)
    network: dict[str, Any] | None = None
    iam: Iam | None = None
    volume_mounts: list[Any] | None = field(name="volumeMounts", default=None)


class ConnectBody(msgspec.Struct):
    timeout: int | None = None


class TimeoutBody(msgspec.Struct):
    timeout: int


class RefreshBody(msgspec.Struct):
    duration: int | None = None


class SandboxBody(msgspec.Struct):
    """The answer to create and connect."""

    template_id: str = field(name="templateID")
    sandbox_id: str = field(name="sandboxID")
    client_id: str = field(name="clientID")
    envd_version: str = field(name="envdVersion")
    alias: str | UnsetType = UNSET
    envd_access_token: str | UnsetType = field(name="envdAccessToken", default=UNSET)
    domain: str | None = None


class ListedSandboxBody(msgspec.Struct, kw_only=True):
    template_id: str = field(name="templateID")
    sandbox_id: str = field(name="sandboxID")
    client_id: str = field(name="clientID")
    started_at: datetime = field(name="startedAt")
    end_at: datetime = field(name="endAt")
    cpu_count: int = field(name="cpuCount")
    memory_mb: int = field(name="memoryMB")
    disk_size_mb: int = field(name="diskSizeMB")
    envd_version: str = field(name="envdVersion")
    state: Literal["running", "paused"]
    metadata: Mapping[str, str]
    alias: str | UnsetType = UNSET


class LifecycleBody(msgspec.Struct):
    auto_resume: bool = field(name="autoResume")
    on_timeout: Literal["kill", "pause"] = field(name="onTimeout")


class SandboxDetailBody(ListedSandboxBody, kw_only=True):
    allow_internet_access: bool = field(name="allowInternetAccess")
    lifecycle: LifecycleBody
    envd_access_token: str | UnsetType = field(name="envdAccessToken", default=UNSET)
    domain: str | None = None


class ErrorBody(msgspec.Struct, omit_defaults=True):
    """``code`` is the HTTP status once more: clients read it here."""

    code: int
    message: str
    error_code: str | None = None


def parse_new_sandbox(body: NewSandboxBody, *, version: Literal[1, 2]) -> NewSandbox:
    """Version 2 is always secured and lives longer by default. Raises :class:`InvalidRequest`."""
    _refuse_unsupported(body)
    default = V1_TIMEOUT if version == 1 else V2_TIMEOUT
    return NewSandbox(
        template=body.template_id,
        timeout=default if body.timeout is None else body.timeout,
        secure=version == 2 or body.secure is True,
        allow_internet=body.allow_internet_access is not False,
        metadata=body.metadata or {},
        envs=body.env_vars or {},
    )


def _refuse_unsupported(body: NewSandboxBody) -> None:
    """Better a clear no than a sandbox that is not what was asked for."""
    network = {key: value for key, value in (body.network or {}).items() if value not in (None, [], {})}
    network.pop("allowPublicTraffic", None) if network.get("allowPublicTraffic") is True else None
    refused = {
        "autoPause": body.auto_pause is True,
        "autoPauseMemory": body.auto_pause_memory is False,
        "autoResume": body.auto_resume is not None and body.auto_resume.enabled is True,
        "network": bool(network),
        "iam": body.iam is not None and bool(body.iam.tokens),
        "volumeMounts": bool(body.volume_mounts),
    }
    names = ", ".join(name for name, is_refused in refused.items() if is_refused)
    if names:
        raise InvalidRequest(f"This server does not offer {names} yet: create the sandbox without")


def encode_sandbox(record: SandboxRecord, domain: str) -> SandboxBody:
    return SandboxBody(
        template_id=record.template_id,
        sandbox_id=record.sandbox_id,
        client_id=CLIENT_ID,
        envd_version=record.envd_version,
        alias=_or_unset(record.alias),
        envd_access_token=_or_unset(record.access_token),
        domain=domain,
    )


def encode_listed(record: SandboxRecord) -> ListedSandboxBody:
    return ListedSandboxBody(**_listed_fields(record))


def encode_detail(record: SandboxRecord, domain: str) -> SandboxDetailBody:
    return SandboxDetailBody(
        **_listed_fields(record),
        allow_internet_access=record.allow_internet,
        lifecycle=LifecycleBody(auto_resume=False, on_timeout="kill"),
        envd_access_token=_or_unset(record.access_token),
        domain=domain,
    )


def _listed_fields(record: SandboxRecord) -> dict[str, Any]:
    return {
        "template_id": record.template_id,
        "sandbox_id": record.sandbox_id,
        "client_id": CLIENT_ID,
        "started_at": record.started_at,
        "end_at": record.deadline.at,
        "cpu_count": record.resources.vcpu,
        "memory_mb": record.resources.memory_mib,
        "disk_size_mb": record.resources.disk_mib,
        "envd_version": record.envd_version,
        "state": "paused" if record.state in ASLEEP else "running",
        "metadata": record.metadata,
        "alias": _or_unset(record.alias),
    }


def _or_unset(value: str | None) -> str | UnsetType:
    return UNSET if value is None else value
