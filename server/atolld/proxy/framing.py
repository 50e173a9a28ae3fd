"""Where a message's body ends (RFC 9112 §6). Bodies go through byte for byte, chunk marks and trailers
included; these classes only count. Pure."""

from __future__ import annotations

import re
from typing import Protocol

from atolld.proxy.heads import BadHead, RequestHead, ResponseHead

_MAX_LINE = 8 * 1024
_MAX_TRAILERS = 64 * 1024
_CRLF = b"\r\n"
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n\0]*)?\r\n")
_TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\r\n\0]*\r\n")


class BadFraming(Exception):
    """The body is not framed as its head says."""


class Framing(Protocol):
    @property
    def done(self) -> bool:
        """Whether the whole body has been taken."""
        ...

    def take(self, data: bytes) -> int:
        """How many leading bytes of ``data`` belong to the body. Raises :class:`BadFraming`."""
        ...


class Length:
    """A body of as many bytes as were announced, none included."""

    def __init__(self, size: int) -> None:
        self._left = size

    @property
    def done(self) -> bool:
        return self._left == 0

    def take(self, data: bytes) -> int:
        taken = min(len(data), self._left)
        self._left -= taken
        return taken


class UntilClose:
    """A body (or a tunnel) that only the end of the connection ends."""

    done = False

    def take(self, data: bytes) -> int:
        return len(data)


class Chunked:
    """Strict: what it lets through, every other parser reads in the same way."""

    def __init__(self) -> None:
        self.done = False
        self._chunk_left = 0
        self._after_chunk = False
        self._in_trailers = False
        self._line = bytearray()
        self._trailer_bytes = 0

    def take(self, data: bytes) -> int:
        at = 0
        while at < len(data) and not self.done:
            if self._chunk_left:
                step = min(self._chunk_left, len(data) - at)
                self._chunk_left -= step
                at += step
            else:
                at = self._take_line(data, at)
        return at

    def _take_line(self, data: bytes, at: int) -> int:
        newline = data.find(b"\n", at, at + _MAX_LINE)
        end = newline + 1 if newline >= 0 else min(len(data), at + _MAX_LINE)
        self._line += data[at:end]
        if len(self._line) > _MAX_LINE:
            raise BadFraming("a line of the chunked body is too long")
        if newline >= 0:
            line = bytes(self._line)
            self._line.clear()
            self._read_line(line)
        return end

    def _read_line(self, line: bytes) -> None:
        if self._after_chunk:
            if line != _CRLF:
                raise BadFraming("a chunk is longer than it says")
            self._after_chunk = False
        elif self._in_trailers:
            self._read_trailer(line)
        else:
            self._read_size(line)

    def _read_size(self, line: bytes) -> None:
        found = _SIZE.fullmatch(line)
        if found is None:
            raise BadFraming("a chunk without a size")
        self._chunk_left = int(found[1], 16)
        self._after_chunk = self._chunk_left > 0
        self._in_trailers = self._chunk_left == 0

    def _read_trailer(self, line: bytes) -> None:
        self._trailer_bytes += len(line)
        if line == _CRLF:
            self.done = True
        elif self._trailer_bytes > _MAX_TRAILERS or not _TRAILER.fullmatch(line):
            raise BadFraming("the trailers of the chunked body are malformed or too long")


def request_framing(head: RequestHead) -> Framing:
    """Raises :class:`BadHead` for every head whose body two readers could end in two places."""
    codings, lengths = head.values(b"transfer-encoding"), head.values(b"content-length")
    if codings:
        if lengths or head.version != "1.1" or [c.lower() for c in codings] != [b"chunked"]:
            raise BadHead(400, "Invalid Transfer-Encoding")
        return Chunked()
    return _length(lengths, 400) or Length(0)


def response_framing(head: ResponseHead, method: bytes) -> Framing:
    """Raises :class:`BadHead` with 502."""
    if method == b"HEAD" or head.status < 200 or head.status in (204, 304):
        return Length(0)
    codings, lengths = head.values(b"transfer-encoding"), head.values(b"content-length")
    if codings:
        if lengths or [c.lower() for c in codings] != [b"chunked"]:
            raise BadHead(502, "Invalid Transfer-Encoding")
        return Chunked()
    return _length(lengths, 502) or UntilClose()


def _length(lengths: list[bytes], status: int) -> Length | None:
    if not lengths:
        return None
    if len(lengths) > 1 or not lengths[0].isdigit() or len(lengths[0]) > 18:
        raise BadHead(status, "Invalid Content-Length")
    return Length(int(lengths[0]))
