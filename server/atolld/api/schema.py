"""Bodies of the control API. Wire names are spelt here and nowhere else in the server.

A field a client may leave out may also be ``null``: some send it so.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType, field

from atolld.api.ports import PORTS_FIELDS, PortsBody, encode_ports, parse_ports
from atolld.control.sandboxes import NewSandbox
from atolld.model.errors import AtollError, InvalidRequest
from atolld.model.records import End, SandboxRecord
from atolld.model.sandbox import ASLEEP
from atolld.model.team import Team
from atolld.store.snapshots import SnapshotRow

CLIENT_ID = "atoll"
"""A relic of the wire: once part of sandbox ids, now the same for all."""

SNAPSHOT_SOURCE = "sandboxID"
"""Query parameter of the list of snapshots."""

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
    memory: bool | None = None


class PauseBody(msgspec.Struct):
    memory: bool | None = None
    require_healthy_guest: bool | None = field(name="requireHealthyGuest", default=None)


class ForkBody(msgspec.Struct):
    timeout: int | None = None
    count: int | None = None


class SnapshotBody(msgspec.Struct):
    name: str | None = None
    memory: bool | None = None


class RollbackBody(msgspec.Struct):
    snapshot_id: str = field(name="snapshotID")


class TimeoutBody(msgspec.Struct):
    timeout: int


class RefreshBody(msgspec.Struct):
    duration: int | None = None


class EndedBody(msgspec.Struct):
    """Who or what ended a sandbox, for as long as it is remembered."""

    reason: str
    detail: str
    at: datetime


class ErrorBody(msgspec.Struct, omit_defaults=True):
    """``code`` is the HTTP status once more: clients read it here. ``ended`` comes with the 404 of a sandbox
    that there was."""

    code: int
    message: str
    error_code: str | None = None
    ended: EndedBody | None = None


class SandboxBody(msgspec.Struct):
    """The answer to create and connect."""

    template_id: str = field(name="templateID")
    sandbox_id: str = field(name="sandboxID")
    client_id: str = field(name="clientID")
    envd_version: str = field(name="envdVersion")
    alias: str | UnsetType = UNSET
    envd_access_token: str | UnsetType = field(name="envdAccessToken", default=UNSET)
    traffic_access_token: str | UnsetType = field(name="trafficAccessToken", default=UNSET)
    domain: str | None = None


class ForkResultBody(msgspec.Struct):
    """One of the two."""

    sandbox: SandboxBody | UnsetType = UNSET
    error: ErrorBody | UnsetType = UNSET


class SnapshotInfoBody(msgspec.Struct):
    snapshot_id: str = field(name="snapshotID")
    names: list[str]


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
    envd_unresponsive_at_pause: bool | UnsetType = field(name="envdUnresponsiveAtPause", default=UNSET)


class LifecycleBody(msgspec.Struct):
    auto_resume: bool = field(name="autoResume")
    on_timeout: Literal["kill", "pause"] = field(name="onTimeout")


class SandboxDetailBody(ListedSandboxBody, kw_only=True):
    allow_internet_access: bool = field(name="allowInternetAccess")
    lifecycle: LifecycleBody
    network: PortsBody | UnsetType = UNSET
    pause_mode: Literal["full", "filesystem"] | UnsetType = field(name="pauseMode", default=UNSET)
    kept_until: datetime | UnsetType = field(name="keptUntil", default=UNSET)
    """Beyond the sheet: when a paused one is removed."""
    envd_access_token: str | UnsetType = field(name="envdAccessToken", default=UNSET)
    domain: str | None = None


def parse_new_sandbox(body: NewSandboxBody, *, version: Literal[1, 2]) -> NewSandbox:
    """Version 2 is always secured and lives longer by default. Raises :class:`InvalidRequest`."""
    _refuse_unsupported(body)
    secure = version == 2 or body.secure is True
    ports = parse_ports(body.network or {})
    allow_public = ports.allow_public_traffic is not False
    auto_pause = body.auto_pause is True
    auto_resume = body.auto_resume is not None and body.auto_resume.enabled is True
    if not allow_public and not secure:
        raise InvalidRequest("allowPublicTraffic false needs a secured sandbox: create it with secure true")
    auto_pause_memory = body.auto_pause_memory is not False
    if not auto_pause_memory and not auto_pause:
        raise InvalidRequest("autoPauseMemory false needs autoPause: it says how that pauses")
    if not auto_pause_memory and auto_resume:
        raise InvalidRequest("autoPauseMemory false excludes autoResume: traffic does not boot a sandbox")
    if auto_resume and not auto_pause:
        raise InvalidRequest("autoResume needs autoPause: it resumes what was paused at its timeout")
    default = V1_TIMEOUT if version == 1 else V2_TIMEOUT
    return NewSandbox(
        template=body.template_id,
        timeout=default if body.timeout is None else body.timeout,
        secure=secure,
        allow_internet=body.allow_internet_access is not False,
        metadata=body.metadata or {},
        envs=body.env_vars or {},
        auto_pause=auto_pause,
        auto_pause_memory=auto_pause_memory,
        auto_resume=auto_resume,
        allow_public=allow_public,
        mask_host=ports.mask_request_host or None,
        https_ports=frozenset(ports.https_ports or ()),
    )


def _refuse_unsupported(body: NewSandboxBody) -> None:
    """Better a clear no than a sandbox that is not what was asked for."""
    others = {key: value for key, value in (body.network or {}).items() if key not in PORTS_FIELDS}
    refused = {
        "network": any(value not in (None, [], {}) for value in others.values()),
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
        traffic_access_token=_or_unset(record.traffic_token),
        domain=domain,
    )


def encode_fork(outcome: SandboxRecord | AtollError, domain: str) -> ForkResultBody:
    if isinstance(outcome, AtollError):
        return ForkResultBody(error=ErrorBody(outcome.code, outcome.message, outcome.error_code))
    return ForkResultBody(sandbox=encode_sandbox(outcome, domain))


def encode_snapshot(row: SnapshotRow, team: Team) -> SnapshotInfoBody:
    """Named ones by their name, others by their template's id; the tag is always told."""
    if row.name is None:
        return SnapshotInfoBody(f"{row.template_id}:{row.tag}", [])
    name = f"{team.slug}/{row.name}:{row.tag}"
    return SnapshotInfoBody(name, [name])


def encode_listed(record: SandboxRecord) -> ListedSandboxBody:
    return ListedSandboxBody(**_listed_fields(record))


def encode_ended(end: End) -> EndedBody:
    return EndedBody(end.reason, end.detail, end.at)


def encode_detail(record: SandboxRecord, domain: str, kept_until: datetime | None) -> SandboxDetailBody:
    return SandboxDetailBody(
        **_listed_fields(record),
        allow_internet_access=record.allow_internet,
        lifecycle=LifecycleBody(
            auto_resume=record.auto_resume, on_timeout="pause" if record.auto_pause else "kill"
        ),
        network=encode_ports(record),
        pause_mode=_pause_mode(record),
        kept_until=UNSET if kept_until is None else kept_until,
        envd_access_token=_or_unset(record.access_token),
        domain=domain,
    )


def _listed_fields(record: SandboxRecord) -> dict[str, Any]:
    return {
        "template_id": record.template_id,
        "sandbox_id": record.sandbox_id,
        "client_id": CLIENT_ID,
        "started_at": record.started_at,
        "end_at": record.paused_at or record.deadline.at,
        "cpu_count": record.resources.vcpu,
        "memory_mb": record.resources.memory_mib,
        "disk_size_mb": record.resources.disk_mib,
        "envd_version": record.envd_version,
        "state": "paused" if record.state in ASLEEP else "running",
        "metadata": record.metadata,
        "alias": _or_unset(record.alias),
        "envd_unresponsive_at_pause": record.guest_silent or UNSET,
    }


def _pause_mode(record: SandboxRecord) -> Literal["full", "filesystem"] | UnsetType:
    if record.state not in ASLEEP:
        return UNSET
    return "filesystem" if record.without_memory else "full"


def _or_unset(value: str | None) -> str | UnsetType:
    return UNSET if value is None else value
