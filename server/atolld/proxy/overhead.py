"""What a request costs more through the door than straight to the sandbox's address: both in one run, by
turns."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass

_WARM_UP = 50


@dataclass(frozen=True, slots=True)
class Overhead:
    """Medians over all requests, milliseconds."""

    direct_ms: float
    door_ms: float

    @property
    def added_ms(self) -> float:
        return self.door_ms - self.direct_ms


async def measure_overhead(
    direct: tuple[str, int], door: tuple[str, int], host: str, *, path: str = "/", requests: int = 2000
) -> Overhead:
    """``direct`` is the service itself, ``door`` where the front door listens, ``host`` what it knows the
    service by. The service must answer with a Content-Length and keep its connections."""
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    straight, through = await _Caller.connect(*direct), await _Caller.connect(*door)
    try:
        for _ in range(_WARM_UP):
            await straight.call(request)
            await through.call(request)
        direct_ms: list[float] = []
        door_ms: list[float] = []
        for _ in range(requests):
            direct_ms.append(await straight.call(request))
            door_ms.append(await through.call(request))
    finally:
        straight.close()
        through.close()
    return Overhead(statistics.median(direct_ms), statistics.median(door_ms))


class _Caller:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, host: str, port: int) -> _Caller:
        return cls(*await asyncio.open_connection(host, port))

    async def call(self, request: bytes) -> float:
        """Milliseconds from the first byte sent to the last byte read."""
        begun = time.perf_counter()
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        size = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
        await self._reader.readexactly(size)
        return (time.perf_counter() - begun) * 1000

    def close(self) -> None:
        self._writer.close()
