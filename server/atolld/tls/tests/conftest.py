"""A front door's double behind a real Caddy."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from atolld.config import Config, TlsSettings
from atolld.tls.front import TlsFront, bundle_file, find_caddy

Answer = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def client_context(bundle: Path) -> ssl.SSLContext:
    """As strict as Python 3.13 is by default."""
    context = ssl.create_default_context(cafile=bundle)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


async def _tell_head(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(head) + head)


@dataclass
class Upstream:
    """Answers each connection once; ``answer`` may be replaced."""

    port: int = 0
    answer: Answer = _tell_head
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    """A client went away before its answer was whole."""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await self.answer(await reader.readuntil(b"\r\n\r\n"), reader, writer)
            await writer.drain()
        writer.close()


@pytest.fixture
async def upstream() -> AsyncGenerator[Upstream]:
    it = Upstream()
    server = await asyncio.start_server(it.handle, "127.0.0.1", 0)
    it.port = server.sockets[0].getsockname()[1]
    yield it
    server.close()


@pytest.fixture
def settings(tmp_path: Path, upstream: Upstream) -> Config:
    port = free_port()
    return Config(
        home=tmp_path,
        port=upstream.port,
        tls=TlsSettings(wanted=True, port=port, domain=f"atoll.localhost:{port}"),
    )


@dataclass
class House:
    front: TlsFront
    config: Config
    upstream: Upstream

    async def connect(
        self, host: str = "3000-iabc.atoll.localhost"
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """An HTTP/1.1 connection, verified; the resolver is not asked."""
        context = client_context(bundle_file(self.config))
        return await asyncio.open_connection(
            "127.0.0.1", self.config.tls.port, ssl=context, server_hostname=host
        )

    async def head_told(self, head: bytes) -> bytes:
        """What the front door gets of ``head``."""
        reader, writer = await self.connect()
        writer.write(head)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200"), answer
        told = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        return told


@pytest.fixture
async def house(settings: Config, upstream: Upstream) -> AsyncGenerator[House]:
    if find_caddy(settings) is None:
        pytest.skip("Caddy is not installed")
    front = TlsFront(settings, {})
    await front.open()
    yield House(front, settings, upstream)
    await front.close()
