"""ZMTP 3.0, the wire protocol of ZeroMQ, as far as a Jupyter client needs it: NULL security, client side,
no I/O.

Source: ZeroMQ RFC 23. Why not libzmq: it costs the service 8 MB, a thread, and hides the socket's back-
pressure.
"""

from collections.abc import Sequence

GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31)
GREETING_SIZE = len(GREETING)
SUBSCRIBE_ALL = b"\x01"  # as a message: 1 = subscribe, then the prefix, here empty

_MORE, _LONG, _COMMAND = 0x01, 0x02, 0x04


class ZmtpError(Exception):
    """The peer does not speak ZMTP 3 with NULL security: the kernel's connection file names something
    else.
    """


def check_greeting(greeting: bytes) -> None:
    """Raises ZmtpError unless `greeting` (64 bytes) is one of a ZMTP 3.x peer with NULL security."""
    if greeting[0] != 0xFF or not greeting[9] & 1 or greeting[10] < 3:
        raise ZmtpError(f"not a ZeroMQ 3 peer: {greeting[:12]!r}")
    if greeting[12:32].rstrip(b"\0") != b"NULL":
        raise ZmtpError(f"the kernel wants security mechanism {greeting[12:32]!r}; only NULL is supported")


def encode_ready(socket_type: str) -> bytes:
    """The READY command of a socket of this type ("DEALER", "SUB")."""
    body = b"\x05READY" + _property(b"Socket-Type", socket_type.encode()) + _property(b"Identity", b"")
    return bytes((_COMMAND, len(body))) + body


def _property(name: bytes, value: bytes) -> bytes:
    return bytes((len(name),)) + name + len(value).to_bytes(4, "big") + value


def encode_pieces(parts: Sequence[bytes]) -> list[bytes]:
    """One multipart message: heads and parts in turn, none of them copied."""
    pieces: list[bytes] = []
    last = len(parts) - 1
    for index, part in enumerate(parts):
        flags = _MORE if index < last else 0
        if len(part) > 255:
            pieces.append(bytes((flags | _LONG,)) + len(part).to_bytes(8, "big"))
        else:
            pieces.append(bytes((flags, len(part))))
        pieces.append(part)
    return pieces


def encode_message(parts: Sequence[bytes]) -> bytes:
    """One multipart message."""
    return b"".join(encode_pieces(parts))


class Oversized(bytes):
    """Stands for a part that was larger than wanted and is gone; `size` says how large."""

    size: int = 0

    @classmethod
    def of(cls, size: int) -> "Oversized":
        part = cls()
        part.size = size
        return part


class Decoder:
    """Bytes in, whole multipart messages out. Commands (READY, PING …) are skipped; ERROR raises
    ZmtpError. A part larger than `max_part` is never collected: an `Oversized` takes its place.
    """

    def __init__(self, max_part: int | None = None) -> None:
        self._max_part = max_part
        self._skipping = 0
        self._buffer = bytearray()
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> list[list[bytes]]:
        """The messages that `data` completes."""
        skipped = min(self._skipping, len(data))
        self._skipping -= skipped
        self._buffer += memoryview(data)[skipped:]
        messages: list[list[bytes]] = []
        position = 0
        while (frame := self._frame(position)) is not None:
            flags, start, end = frame
            body = self._body(start, end)
            if body is None:
                break
            position = min(end, len(self._buffer))
            self._skipping = end - position
            if flags & _COMMAND:
                _check_command(body)
                continue
            self._parts.append(body)
            if not flags & _MORE:
                messages.append(self._parts)
                self._parts = []
        if position:
            del self._buffer[:position]
        return messages

    def _body(self, start: int, end: int) -> bytes | None:
        """None while it is incomplete."""
        if self._max_part is not None and end - start > self._max_part:
            return Oversized.of(end - start)
        return bytes(memoryview(self._buffer)[start:end]) if end <= len(self._buffer) else None

    def _frame(self, position: int) -> tuple[int, int, int] | None:
        """(flags, start, end) of the frame at `position`, None while its head is incomplete."""
        header = 9 if position < len(self._buffer) and self._buffer[position] & _LONG else 2
        start = position + header
        if start > len(self._buffer):
            return None
        return (
            self._buffer[position],
            start,
            start + int.from_bytes(self._buffer[position + 1 : start], "big"),
        )


def _check_command(body: bytes) -> None:
    if body.startswith(b"\x05ERROR"):
        raise ZmtpError(f"the kernel refused the connection: {body[7:].decode(errors='replace')}")
