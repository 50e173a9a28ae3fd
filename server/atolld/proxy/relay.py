"""Bytes from one connection to another, as they come, no faster than they are taken.

A :class:`Side` is one end: the client's connection or one to an upstream. A :class:`Pour` moves one body from
a side to the other. A side whose write buffer is full stops the reading of the side that pours into it, so a
slow reader costs one buffer and no more.
"""

from __future__ import annotations

import asyncio
import re
from enum import Enum
from typing import cast

from atolld.proxy.framing import BadFraming, Framing, UntilClose

MAX_HEAD = 64 * 1024
HALF_CLOSED_SECONDS = 60.0
"""How long one direction may be silent once the other has ended."""
_HEAD_END = re.compile(rb"\r?\n\r?\n")


class HeadTooLarge(Exception):
    pass


class Outcome(Enum):
    """How a body ended."""

    WHOLE = "whole"
    CUT = "cut"
    MALFORMED = "malformed"


class Side(asyncio.Protocol):
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.held = bytearray()
        """What arrived and has no taker yet."""
        self.received = 0
        self.eof = False
        """The other end sends no more; it may still read."""
        self.lost = False
        self.half_closed = False
        """We send no more."""
        self.pouring: Pour | None = None
        self.source: Side | None = None
        """The side that pours into this one."""
        self._full = False
        self._reading = True
        self._deaf = False
        self._waiter: asyncio.Future[None] | None = None
        self._quiet: asyncio.TimerHandle | None = None

    # --- what the event loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        if self._deaf:
            return
        if self.pouring is not None:
            self.pouring.feed(data)
            return
        self.held += data
        self._wake()
        self.regulate()

    def eof_received(self) -> bool:
        self.eof = True
        if self.pouring is not None:
            self.pouring.end(clean=True)
        self._wake()
        return not self.lost and self.transport.can_write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = self.eof = True
        self._full = False
        if self._quiet is not None:
            self._quiet.cancel()
        if self.pouring is not None:
            self.pouring.end(clean=exc is None)
        if self.source is not None:
            self.source.regulate()
        self._wake()

    def pause_writing(self) -> None:
        self._full = True
        if self.source is not None:
            self.source.regulate()

    def resume_writing(self) -> None:
        self._full = False
        if self.source is not None:
            self.source.regulate()
        self._wake()

    # --- what an exchange does

    async def read_head(self) -> bytes | None:
        """Up to and with the empty line; ``None`` when the other end stops before it. Raises
        :class:`HeadTooLarge`."""
        scanned = 0
        while (found := self._head_end(scanned)) is None:
            if len(self.held) > MAX_HEAD:
                raise HeadTooLarge
            if self.eof:
                return None
            scanned = len(self.held)
            await self.wait_more()
        if found > MAX_HEAD:
            raise HeadTooLarge
        raw = bytes(self.held[:found])
        del self.held[:found]
        self.regulate()
        return raw

    def _head_end(self, scanned: int) -> int | None:
        if self.held.startswith((b"\r", b"\n")):  # left by old clients (RFC 9112 §2.2)
            self.held = self.held.lstrip(b"\r\n")
        found = _HEAD_END.search(self.held, max(0, scanned - 3))
        return found.end() if found else None

    async def wait_more(self) -> None:
        """Until something arrives, or can be written again, or the connection ends. One waiter at a time."""
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def wait_drained(self) -> None:
        """Until what was written is (nearly) sent."""
        while self._full:
            await self.wait_more()

    def write(self, data: bytes) -> None:
        """To a connection that is gone: nowhere."""
        if data and not self.half_closed and not self.transport.is_closing():
            self.transport.write(data)

    def half_close(self) -> None:
        """Pass on that no more will come; a connection that cannot say so is closed."""
        if self.half_closed or self.transport.is_closing():
            return
        self.half_closed = True
        if not self.transport.can_write_eof():
            self.transport.close()
            return
        try:
            self.transport.write_eof()
        except OSError:  # the other end has reset the connection, which we are about to be told
            self.transport.abort()

    def close(self) -> None:
        """After what was written has been sent."""
        self.transport.close()

    def abort(self) -> None:
        """At once; what was not sent yet is dropped."""
        self.transport.abort()

    def deafen(self) -> None:
        """Read on, but only to notice the end."""
        self._deaf = True
        self.held.clear()
        self.regulate()

    def cut_when_quiet(self) -> None:
        """Abort once nothing has arrived for a while: whoever reads what arrives may be gone for good."""

        def check(received: int) -> None:
            if self.received == received:
                self.abort()
            else:
                self._quiet = self._loop.call_later(HALF_CLOSED_SECONDS, check, self.received)

        if self._quiet is None and not self.lost:
            self._quiet = self._loop.call_later(HALF_CLOSED_SECONDS, check, self.received)

    def regulate(self) -> None:
        """Read exactly while there is room for what arrives."""
        if self.lost or self.eof or self.transport.is_closing():
            return
        taker_is_full = self.pouring is not None and self.pouring.sink.is_full
        reading = not taker_is_full and len(self.held) <= MAX_HEAD
        if reading != self._reading:
            self._reading = reading
            (self.transport.resume_reading if reading else self.transport.pause_reading)()

    @property
    def is_full(self) -> bool:
        return self._full

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Pour:
    """One body on its way from ``source`` to ``sink``; starts at once, with ``lead`` in front. ``done`` never
    fails."""

    def __init__(self, source: Side, sink: Side, framing: Framing, lead: bytes = b"") -> None:
        self.done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.begun = False
        self.sink = sink
        self._source = source
        self._framing = framing
        source.pouring = self
        sink.source = source
        held = bytes(source.held)
        source.held.clear()
        self.feed(held, lead)
        if source.eof and not self.done.done():
            self.end(clean=True)
        source.regulate()

    def feed(self, data: bytes, lead: bytes = b"") -> None:
        try:
            taken = self._framing.take(data)
        except BadFraming:
            self._finish(Outcome.MALFORMED)
            return
        self.begun = self.begun or taken > 0
        body = data if taken == len(data) else data[:taken]
        self.sink.write(lead + body if lead else body)
        if self._framing.done:
            self._source.held += data[taken:]
            self._finish(Outcome.WHOLE)

    def end(self, *, clean: bool) -> None:
        """The source sends no more."""
        whole = clean and isinstance(self._framing, UntilClose)
        self._finish(Outcome.WHOLE if whole else Outcome.CUT)

    def detach(self) -> None:
        """Stop, so that what follows can be poured elsewhere."""
        if not self.done.done():
            self._finish(Outcome.CUT)

    def _finish(self, outcome: Outcome) -> None:
        self._source.pouring = None
        if self.sink.source is self._source:
            self.sink.source = None
        if not self.done.done():  # cancelled with the exchange that awaited it
            self.done.set_result(outcome)
        self._source.regulate()
