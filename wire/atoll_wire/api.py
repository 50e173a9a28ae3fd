"""Bodies of the control API, as a client of it needs them. Times are ISO 8601 with a zone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from atoll_wire.values import (
    Object,
    WireError,
    as_list,
    as_object,
    encode,
    get_int,
    get_optional_text,
    get_text,
    get_texts,
    need_text,
    parse_json,
    parse_object,
)

API_KEY_HEADER = "X-API-Key"
ACCESS_TOKEN_HEADER = "X-Access-Token"  # noqa: S105 (a header's name)
NEXT_TOKEN_HEADER = "X-Next-Token"  # noqa: S105 (a header's name)


@dataclass(frozen=True, slots=True)
class NewSandbox:
    """``POST /v2/sandboxes``. ``template``: an id or a name; ``timeout``: seconds, ``None``: the server's."""

    template: str
    timeout: int | None = None
    env_vars: Mapping[str, str] = field(default_factory=dict[str, str])
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    allow_internet_access: bool | None = None


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The answer to create and connect. ``access_token`` opens the daemon and the interpreter inside."""

    sandbox_id: str
    template_id: str
    envd_version: str
    alias: str | None = None
    access_token: str | None = None
    domain: str | None = None


@dataclass(frozen=True, slots=True)
class SandboxInfo:
    """A sandbox as list and get tell it; ``access_token`` only from get."""

    sandbox_id: str
    template_id: str
    alias: str | None
    state: str
    started_at: datetime
    end_at: datetime
    vcpu: int
    memory_mb: int
    disk_mb: int
    envd_version: str
    metadata: Mapping[str, str]
    access_token: str | None = None
    kept_until: datetime | None = None
    """When a paused one is removed; from Atoll's get only."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Who or what ended a sandbox, and when."""

    reason: str
    detail: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ApiError:
    """An error body; ``code`` equals the HTTP status. ``ended``: of a sandbox that is over; Atoll's own."""

    code: int
    message: str
    error_code: str | None = None
    ended: Ended | None = None


def encode_new_sandbox(new: NewSandbox) -> bytes:
    body: dict[str, object] = {
        "templateID": new.template,
        "metadata": dict(new.metadata),
        "envVars": dict(new.env_vars),
    }
    if new.timeout is not None:
        body["timeout"] = new.timeout
    if new.allow_internet_access is not None:
        body["allow_internet_access"] = new.allow_internet_access
    return encode(body)


def parse_sandbox(body: bytes) -> Sandbox:
    """Raises :class:`WireError`."""
    fields = parse_object(body, "the sandbox")
    return Sandbox(
        sandbox_id=need_text(fields, "sandboxID", "the sandbox"),
        template_id=get_text(fields, "templateID"),
        envd_version=get_text(fields, "envdVersion"),
        alias=get_optional_text(fields, "alias"),
        access_token=get_optional_text(fields, "envdAccessToken"),
        domain=get_optional_text(fields, "domain"),
    )


def parse_sandbox_info(body: bytes) -> SandboxInfo:
    """The answer of ``GET /sandboxes/{id}``. Raises :class:`WireError`."""
    return _parse_info(parse_object(body, "the sandbox"))


def parse_sandbox_list(body: bytes) -> list[SandboxInfo]:
    """A page of ``GET /v2/sandboxes``. Raises :class:`WireError`."""
    items = as_list(parse_json(body, "the list of sandboxes"), "the list of sandboxes")
    return [_parse_info(as_object(item, "a sandbox")) for item in items]


def parse_api_error(status: int, body: bytes) -> ApiError:
    """The error in an answer; when the body is not one, its text (or the bare status) is the message."""
    try:
        fields = parse_object(body, "the error")
        message = get_text(fields, "message") or f"HTTP status {status}"
        code, word = get_int(fields, "code", status), get_optional_text(fields, "error_code")
        return ApiError(code, message, word, _parse_ended(fields.get("ended")))
    except WireError:
        return ApiError(status, body[:500].decode("utf-8", "replace").strip() or f"HTTP status {status}")


def encode_rollback(snapshot_id: str) -> bytes:
    """``POST /sandboxes/{id}/rollback``, Atoll's own."""
    return encode({"snapshotID": snapshot_id})


def _parse_ended(value: object) -> Ended | None:
    if value is None:
        return None
    fields = as_object(value, "the end")
    return Ended(get_text(fields, "reason"), get_text(fields, "detail"), _time(fields, "at"))


def _parse_info(fields: Object) -> SandboxInfo:
    return SandboxInfo(
        sandbox_id=need_text(fields, "sandboxID", "the sandbox"),
        template_id=get_text(fields, "templateID"),
        alias=get_optional_text(fields, "alias"),
        state=get_text(fields, "state"),
        started_at=_time(fields, "startedAt"),
        end_at=_time(fields, "endAt"),
        vcpu=get_int(fields, "cpuCount"),
        memory_mb=get_int(fields, "memoryMB"),
        disk_mb=get_int(fields, "diskSizeMB"),
        envd_version=get_text(fields, "envdVersion"),
        metadata=get_texts(fields, "metadata"),
        access_token=get_optional_text(fields, "envdAccessToken"),
        kept_until=_time(fields, "keptUntil") if "keptUntil" in fields else None,
    )


def _time(fields: Object, name: str) -> datetime:
    text = need_text(fields, name, "the sandbox")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise WireError(f"{name} {text!r} is no ISO 8601 time") from error
    if moment.tzinfo is None:
        raise WireError(f"{name} {text!r} has no time zone")
    return moment
