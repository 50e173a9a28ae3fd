"""What the interpreter's ``POST /execute`` answers: one JSON object per line, written as it happens.

First ``number_of_executions``, then ``stdout``, ``stderr``, ``result`` and at most one ``error``,
``keepalive`` every few seconds of silence, and always ``end_of_execution`` last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from atoll_wire.values import Object, WireError, encode, get_bool, get_int, get_object, get_text, parse_object

MAX_LINE = 256 << 20
"""Longest line a decoder accepts, bytes: a result carries its images inside."""
FORMATS = (
    *("text", "html", "markdown", "svg", "png", "jpeg", "pdf"),
    *("latex", "json", "javascript", "data", "chart"),
)
"""The formats of a result, as they are named on the wire. ``png``, ``jpeg`` and ``pdf`` are base64."""


@dataclass(frozen=True, slots=True)
class Request:
    """At most one of ``context_id`` and ``language``; neither is the default Python context."""

    code: str
    context_id: str | None = None
    language: str | None = None
    env_vars: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Count:
    """The code was accepted as the context's n-th."""

    execution_count: int


@dataclass(frozen=True, slots=True)
class Stdout:
    text: str
    timestamp: str = ""


@dataclass(frozen=True, slots=True)
class Stderr:
    text: str
    timestamp: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """One displayed value in every format it has. ``is_main``: the value of the last expression."""

    formats: Object
    is_main: bool = False
    extra: Object = field(default_factory=dict[str, object])

    def text(self, name: str) -> str | None:
        """A format that is a string; ``None`` when the result has it not."""
        value = self.formats.get(name)
        return value if isinstance(value, str) else None


@dataclass(frozen=True, slots=True)
class Failure:
    """The exception the code ended with; ``traceback`` is many lines in one string."""

    name: str
    value: str
    traceback: str


@dataclass(frozen=True, slots=True)
class Keepalive:
    pass


@dataclass(frozen=True, slots=True)
class End:
    pass


Event = Count | Stdout | Stderr | Result | Failure | Keepalive | End


class LineDecoder:
    """Cuts a body's bytes, which may be split anywhere, into lines."""

    def __init__(self, max_line: int = MAX_LINE) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._max_line = max_line

    @property
    def pending(self) -> int:
        """Bytes after the last newline; not 0 at the end of the body means it was cut off."""
        return self._size

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that ``data`` completes, without newline. Raises `WireError` for an endless one."""
        *complete, rest = data.split(b"\n")
        lines: list[bytes] = []
        for part in complete:
            self._keep(part)
            lines.append(b"".join(self._parts))
            self._parts, self._size = [], 0
        self._keep(rest)
        return lines

    def _keep(self, part: bytes) -> None:
        if part:
            self._parts.append(part)
            self._size += len(part)
        if self._size > self._max_line:
            raise WireError(f"a line of more than {self._max_line} bytes")


def encode_request(request: Request) -> bytes:
    body: dict[str, object] = {"code": request.code}
    if request.context_id is not None:
        body["context_id"] = request.context_id
    if request.language is not None:
        body["language"] = request.language
    if request.env_vars:
        body["env_vars"] = dict(request.env_vars)
    return encode(body)


def parse_event(line: bytes | str) -> Event | None:
    """One line; ``None`` for a type this version does not know. Raises :class:`WireError`."""
    fields = parse_object(line, "a line of the execution")
    match get_text(fields, "type"):
        case "number_of_executions":
            return Count(get_int(fields, "execution_count"))
        case "stdout":
            return Stdout(get_text(fields, "text"), get_text(fields, "timestamp"))
        case "stderr":
            return Stderr(get_text(fields, "text"), get_text(fields, "timestamp"))
        case "result":
            return _parse_result(fields)
        case "error":
            return Failure(get_text(fields, "name"), get_text(fields, "value"), get_text(fields, "traceback"))
        case "keepalive":
            return Keepalive()
        case "end_of_execution":
            return End()
        case _:
            return None


def describe_event(event: Event) -> dict[str, object]:
    """The line's JSON object."""
    match event:
        case Count(count):
            return {"type": "number_of_executions", "execution_count": count}
        case Stdout(text, timestamp):
            return {"type": "stdout", "text": text, "timestamp": timestamp}
        case Stderr(text, timestamp):
            return {"type": "stderr", "text": text, "timestamp": timestamp}
        case Result(formats, is_main, extra):
            return {"type": "result", **formats, "is_main_result": is_main, "extra": dict(extra)}
        case Failure(name, value, traceback):
            return {"type": "error", "name": name, "value": value, "traceback": traceback}
        case Keepalive():
            return {"type": "keepalive"}
        case End():
            return {"type": "end_of_execution"}


def encode_event(event: Event) -> bytes:
    """The line, newline included."""
    return encode(describe_event(event)) + b"\n"


def _parse_result(fields: Object) -> Result:
    formats = {name: fields[name] for name in FORMATS if fields.get(name) is not None}
    return Result(formats, get_bool(fields, "is_main_result"), dict(get_object(fields, "extra") or {}))
