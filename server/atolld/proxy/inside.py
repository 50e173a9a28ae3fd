"""Services that listen on the sandbox's own loopback only: reached through its daemon, which becomes a
connection to them on ``GET /tunnel?port=N`` with ``Upgrade: atoll-tunnel``."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import TypeVar, cast

from atoll_wire.hosts import ENVD_PORT
from atolld.proxy.relay import HeadTooLarge, Side

_S = TypeVar("_S", bound=Side)
_SWITCHED = b"HTTP/1.1 101 "


async def open_inside(
    protocol: Callable[[], _S], address: str, port: int, token: str | None, tls: ssl.SSLContext | None
) -> _S:
    """A connection to the service, as if it had been reached directly; ``token`` is the daemon's. Raises
    ``OSError``, ``ConnectionRefusedError`` when nothing listens inside either."""
    loop = asyncio.get_running_loop()
    _, side = await loop.create_connection(protocol, address, ENVD_PORT)
    try:
        side.write(_request(address, port, token))
        try:
            head = await side.read_head()
        except HeadTooLarge:
            head = None
        if head is None or not head.startswith(_SWITCHED):
            raise ConnectionRefusedError(f"nothing listens on port {port}, inside neither")
        if tls is not None:
            side.transport = cast(asyncio.Transport, await loop.start_tls(side.transport, side, tls))
    except BaseException:
        side.abort()
        raise
    return side


def _request(address: str, port: int, token: str | None) -> bytes:
    guard = f"X-Access-Token: {token}\r\n" if token else ""
    return (
        f"GET /tunnel?port={port} HTTP/1.1\r\nHost: {address}:{ENVD_PORT}\r\n{guard}"
        "Connection: Upgrade\r\nUpgrade: atoll-tunnel\r\n\r\n"
    ).encode()
