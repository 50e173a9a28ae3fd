"""The Connect protocol with its JSON codec, as both published SDKs speak it.

A stream's body is envelopes: one byte of flags, the payload's length as a big-endian uint32, the payload.
The last one has the flag ``END_STREAM`` and holds ``{}`` or ``{"error": {"code", "message"}}``: a stream's
error is told there, with HTTP 200. A unary call's error is an HTTP status and ``{"code": "not_found", …}``.
Format: https://connectrpc.com/docs/protocol, limited to what the clients use (no compression).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from atoll_wire.values import WireError, encode, get_object, get_text, parse_object

COMPRESSED = 0x01
END_STREAM = 0x02
STREAM_CONTENT_TYPE = "application/connect+json"
UNARY_CONTENT_TYPE = "application/json"
VERSION_HEADER = "Connect-Protocol-Version"
TIMEOUT_HEADER = "Connect-Timeout-Ms"
KEEPALIVE_HEADER = "Keepalive-Ping-Interval"
MAX_PAYLOAD = 64 << 20
"""Longest payload a decoder accepts, bytes. What we send is far below; a larger length is garbage."""

_HEADER = struct.Struct(">BI")


class Code(StrEnum):
    CANCELED = "canceled"
    UNKNOWN = "unknown"
    INVALID_ARGUMENT = "invalid_argument"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    NOT_FOUND = "not_found"
    ALREADY_EXISTS = "already_exists"
    PERMISSION_DENIED = "permission_denied"
    RESOURCE_EXHAUSTED = "resource_exhausted"
    FAILED_PRECONDITION = "failed_precondition"
    ABORTED = "aborted"
    OUT_OF_RANGE = "out_of_range"
    UNIMPLEMENTED = "unimplemented"
    INTERNAL = "internal"
    UNAVAILABLE = "unavailable"
    DATA_LOSS = "data_loss"
    UNAUTHENTICATED = "unauthenticated"


HTTP_STATUS: Mapping[Code, int] = {
    Code.CANCELED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}
"""The status of a unary call that fails with the code."""

_CODE_OF_STATUS: Mapping[int, Code] = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    409: Code.ALREADY_EXISTS,
    413: Code.RESOURCE_EXHAUSTED,
    429: Code.RESOURCE_EXHAUSTED,
    499: Code.CANCELED,
    500: Code.INTERNAL,
    501: Code.UNIMPLEMENTED,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
}


class ConnectError(Exception):
    """A call that failed, with the code of the wire."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Envelope:
    flags: int
    payload: bytes

    @property
    def is_end(self) -> bool:
        return bool(self.flags & END_STREAM)


class EnvelopeDecoder:
    """Cuts a stream's bytes, which may be split anywhere, into envelopes."""

    def __init__(self, max_payload: int = MAX_PAYLOAD) -> None:
        self._buffer = bytearray()
        self._max_payload = max_payload

    @property
    def pending(self) -> int:
        """Bytes of an envelope that is not complete; not 0 at the end of the body means it was cut off."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Envelope]:
        """The envelopes that ``data`` completes. Raises :class:`WireError` for an impossible length."""
        self._buffer += data
        envelopes: list[Envelope] = []
        start = 0
        while len(self._buffer) - start >= _HEADER.size:
            flags, length = _HEADER.unpack_from(self._buffer, start)
            if length > self._max_payload:
                raise WireError(f"an envelope of {length} bytes is over the limit of {self._max_payload}")
            end = start + _HEADER.size + length
            if len(self._buffer) < end:
                break
            envelopes.append(Envelope(flags, bytes(self._buffer[start + _HEADER.size : end])))
            start = end
        del self._buffer[:start]
        return envelopes


def encode_envelope(payload: bytes, flags: int = 0) -> bytes:
    return _HEADER.pack(flags, len(payload)) + payload


def encode_end(error: ConnectError | None = None) -> bytes:
    """The envelope that closes a stream."""
    body: dict[str, object] = {} if error is None else {"error": _describe(error)}
    return encode_envelope(encode(body), END_STREAM)


def parse_end(payload: bytes) -> ConnectError | None:
    """The error that a stream ended with; ``None`` when it ended well. Raises :class:`WireError`."""
    error = get_object(parse_object(payload, "the end of the stream"), "error")
    if error is None:
        return None
    return ConnectError(parse_code(get_text(error, "code")), get_text(error, "message"))


def encode_error(error: ConnectError) -> tuple[int, bytes]:
    """Status and body of a unary call that fails."""
    return HTTP_STATUS[error.code], encode(_describe(error))


def parse_error(status: int, body: bytes) -> ConnectError:
    """The error in an answer that is no 200: the daemon's own, or the proxy's, with its integer ``code``."""
    fallback = code_of_status(status)
    bare = f"HTTP status {status}"
    try:
        fields = parse_object(body, "the error")
        code = fields.get("code")
        message = get_text(fields, "message")
    except WireError:
        return ConnectError(fallback, body[:500].decode("utf-8", "replace").strip() or bare)
    return ConnectError(parse_code(code) if isinstance(code, str) else fallback, message or bare)


def code_of_status(status: int) -> Code:
    """What a status means when the body has no code of its own."""
    return _CODE_OF_STATUS.get(status, Code.UNKNOWN)


def parse_code(text: str) -> Code:
    """Codes are an open set: one we do not know is :attr:`Code.UNKNOWN`."""
    try:
        return Code(text)
    except ValueError:
        return Code.UNKNOWN


def _describe(error: ConnectError) -> dict[str, object]:
    return {"code": error.code.value, "message": error.message}
