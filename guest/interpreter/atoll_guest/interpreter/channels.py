"""One ZeroMQ connection to a kernel's socket, on asyncio streams.

Back-pressure is the stream's: who does not receive stops reading the socket, and the kernel's prints wait.
"""

import asyncio
from collections import deque
from collections.abc import Sequence

from . import zmtp

_READ_BYTES = 256 * 1024


class ChannelClosed(ConnectionError):
    """The kernel's end of the connection is gone."""


class Channel:
    """Opened by `Channel.open`; one task receives, any task sends."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, max_part: int | None
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = zmtp.Decoder(max_part)
        self._ready: deque[list[bytes]] = deque()

    @classmethod
    async def open(cls, address: str, socket_type: str, max_part: int | None = None) -> "Channel":
        """Connect to "ipc:///path" or "tcp://host:port" as a DEALER or SUB (subscribed to all). Parts of
        messages larger than `max_part` bytes arrive as `zmtp.Oversized`.

        Raises OSError while nothing listens there, ChannelClosed when it hangs up, ZmtpError.
        """
        scheme, _, rest = address.partition("://")
        if scheme == "ipc":
            reader, writer = await asyncio.open_unix_connection(rest, limit=_READ_BYTES)
        else:
            host, _, port = rest.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port), limit=_READ_BYTES)
        try:
            writer.write(zmtp.GREETING)
            zmtp.check_greeting(await reader.readexactly(zmtp.GREETING_SIZE))
            writer.write(zmtp.encode_ready(socket_type))
            if socket_type == "SUB":
                writer.write(zmtp.encode_message([zmtp.SUBSCRIBE_ALL]))
        except asyncio.IncompleteReadError as error:
            writer.close()
            raise ChannelClosed("the kernel hung up while connecting") from error
        except BaseException:
            writer.close()
            raise
        return cls(reader, writer, max_part)

    async def send(self, parts: Sequence[bytes]) -> None:
        """Raises ChannelClosed."""
        try:
            self._writer.write(zmtp.encode_message(parts))
            await self._writer.drain()
        except ConnectionError as error:
            raise ChannelClosed("the kernel's connection is closed") from error

    async def receive(self) -> list[bytes]:
        """The next message. Raises ChannelClosed when there will be none."""
        while not self._ready:
            try:
                data = await self._reader.read(_READ_BYTES)
            except ConnectionError as error:
                raise ChannelClosed("the kernel's connection broke") from error
            if not data:
                raise ChannelClosed("the kernel's connection is closed")
            self._ready.extend(self._decoder.feed(data))
        return self._ready.popleft()

    def close(self) -> None:
        """At once; a receiver gets ChannelClosed."""
        self._writer.transport.abort()
        self._reader.feed_eof()
