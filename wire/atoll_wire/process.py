"""Messages of ``process.Process``, the daemon's service for commands and terminals (JSON codec).

Start and Connect answer with a stream of events: one :class:`Started`, then :class:`Output` and
:class:`Keepalive` in any order, one :class:`Ended`, then the end envelope. The deadline of a started process
is the call's ``Connect-Timeout-Ms``; without one it runs on. It outlives the connection.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from atoll_wire.values import (
    Object,
    WireError,
    as_object,
    encode,
    get_bool,
    get_bytes,
    get_int,
    get_list,
    get_object,
    get_optional_text,
    get_text,
    get_texts,
    parse_object,
)

SERVICE = "/process.Process"
Stream = Literal["stdout", "stderr", "pty"]
Signal = Literal["SIGNAL_SIGTERM", "SIGNAL_SIGKILL"]
_STREAMS: tuple[Stream, ...] = ("stdout", "stderr", "pty")


@dataclass(frozen=True, slots=True)
class Started:
    pid: int


@dataclass(frozen=True, slots=True)
class Output:
    stream: Stream
    data: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """``exit_code`` is -1 and ``exited`` false when a signal ended it; ``status`` says which."""

    exit_code: int
    exited: bool
    status: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Keepalive:
    pass


Event = Started | Output | Ended | Keepalive


@dataclass(frozen=True, slots=True)
class Start:
    """A command to start. ``cwd`` ``None``: the template's. ``stdin`` false: it reads end-of-file at once."""

    cmd: str
    args: Sequence[str] = ()
    envs: Mapping[str, str] = field(default_factory=dict[str, str])
    cwd: str | None = None
    stdin: bool = False
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class Process:
    """A living process, as List tells it."""

    pid: int
    cmd: str
    args: tuple[str, ...] = ()
    envs: Mapping[str, str] = field(default_factory=dict[str, str])
    cwd: str | None = None
    tag: str | None = None


def encode_start(start: Start) -> bytes:
    process: dict[str, object] = {"cmd": start.cmd, "args": list(start.args)}
    if start.envs:
        process["envs"] = dict(start.envs)
    if start.cwd is not None:
        process["cwd"] = start.cwd
    message: dict[str, object] = {"process": process, "stdin": start.stdin}
    if start.tag is not None:
        message["tag"] = start.tag
    return encode(message)


def parse_start(payload: bytes) -> Start:
    """Raises :class:`WireError`. An absent ``stdin`` means open."""
    message = parse_object(payload, "the Start request")
    config = get_object(message, "process") or {}
    return Start(
        cmd=get_text(config, "cmd"),
        args=_texts(config, "args"),
        envs=get_texts(config, "envs"),
        cwd=get_optional_text(config, "cwd"),
        stdin=get_bool(message, "stdin", True),
        tag=get_optional_text(message, "tag"),
    )


def encode_connect(process: int | str) -> bytes:
    """Connect and CloseStdin: a process by pid, or by tag when ``process`` is a string."""
    return encode({"process": _selector(process)})


encode_close_stdin = encode_connect


def encode_send_input(process: int | str, data: bytes, stream: Literal["stdin", "pty"] = "stdin") -> bytes:
    return encode({"process": _selector(process), "input": {stream: base64.b64encode(data).decode()}})


def encode_send_signal(process: int | str, signal: Signal) -> bytes:
    return encode({"process": _selector(process), "signal": signal})


def parse_event(payload: bytes) -> Event | None:
    """An event of a Start or Connect stream; ``None`` for a kind this version does not know."""
    event = get_object(parse_object(payload, "the process event"), "event") or {}
    if (start := get_object(event, "start")) is not None:
        return Started(get_int(start, "pid"))
    if (data := get_object(event, "data")) is not None:
        return _parse_output(data)
    if (end := get_object(event, "end")) is not None:
        return Ended(
            get_int(end, "exitCode"),
            get_bool(end, "exited"),
            get_text(end, "status"),
            get_optional_text(end, "error"),
        )
    return Keepalive() if "keepalive" in event else None


def encode_event(event: Event) -> bytes:
    match event:
        case Started(pid):
            body: dict[str, object] = {"start": {"pid": pid}}
        case Output(stream, data):
            body = {"data": {stream: base64.b64encode(data).decode()}}
        case Ended(exit_code, exited, status, error):
            end: dict[str, object] = {"exitCode": exit_code, "exited": exited, "status": status}
            body = {"end": end if error is None else {**end, "error": error}}
        case Keepalive():
            body = {"keepalive": {}}
    return encode({"event": body})


def parse_processes(body: bytes) -> list[Process]:
    """The answer of List."""
    items = get_list(parse_object(body, "the process list"), "processes")
    return [_parse_process(as_object(item, "a process")) for item in items]


def _parse_process(item: Object) -> Process:
    config = get_object(item, "config") or {}
    return Process(
        pid=get_int(item, "pid"),
        cmd=get_text(config, "cmd"),
        args=_texts(config, "args"),
        envs=get_texts(config, "envs"),
        cwd=get_optional_text(config, "cwd"),
        tag=get_optional_text(item, "tag"),
    )


def _parse_output(data: Object) -> Output | None:
    for stream in _STREAMS:
        if stream in data:
            return Output(stream, get_bytes(data, stream))
    return None


def _selector(process: int | str) -> dict[str, object]:
    return {"tag": process} if isinstance(process, str) else {"pid": process}


def _texts(source: Object, name: str) -> tuple[str, ...]:
    values = get_list(source, name)
    for value in values:
        if not isinstance(value, str):
            raise WireError(f"{name} holds something that is no string")
    return tuple(value for value in values if isinstance(value, str))
