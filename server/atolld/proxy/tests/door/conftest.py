"""Services on loopback addresses as sandboxes, a service on a unix socket as the API, and the door before
them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from atolld.model.routes import Route, Routes
from atolld.model.sandbox import SandboxId
from atolld.proxy import FrontDoor

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Answer:
    status: int
    head: bytes
    headers: dict[str, str]
    body: bytes


@dataclass
class Service:
    """A server that counts its connections."""

    handler: Handler
    connections: int = 0
    ended: int = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self.handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.ended += 1
            writer.close()


class Client:
    """A raw connection to the door."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, text: str | bytes) -> None:
        """Line ends of ``text`` become CRLF; bytes go as they are."""
        data = text.replace("\n", "\r\n").encode("latin-1") if isinstance(text, str) else text
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def answer(self, *, method: str = "GET") -> Answer:
        head = await self.head()
        lines = head.decode("latin-1").split("\r\n")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:] if line)}
        status = int(lines[0].split(" ")[1])
        body = b""
        if method != "HEAD" and status >= 200 and status not in (204, 304):
            body = await self._body(headers)
        return Answer(status, head, headers, body)

    async def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            return await self.reader.readuntil(b"0\r\n\r\n")
        if "content-length" in headers:
            return await self.reader.readexactly(int(headers["content-length"]))
        return await self.reader.read()

    async def get(self, host: str, path: str = "/", headers: str = "", *, method: str = "GET") -> Answer:
        await self.send(f"{method} {path} HTTP/1.1\nHost: {host}\n{headers}\n")
        return await self.answer(method=method)

    async def is_closed(self) -> bool:
        """Waits for the end of the connection; whatever comes before it is an error."""
        try:
            return await asyncio.wait_for(self.reader.read(), 5) == b""
        except ConnectionError:
            return True


class House:
    """The door, and how tests put services behind it."""

    def __init__(self, directory: Path) -> None:
        self.routes = Routes()
        self.api_socket = directory / "api.sock"
        self.woken: list[SandboxId] = []
        self.on_wake: Callable[[SandboxId], Awaitable[Route | None]] | None = None
        self.door = FrontDoor(self.routes, ["atoll.test:8600"], self.api_socket, self._wake)
        self._servers: list[asyncio.Server] = []
        self._clients: list[Client] = []
        self._next = 2

    async def _wake(self, sandbox_id: SandboxId) -> Route | None:
        self.woken.append(sandbox_id)
        return None if self.on_wake is None else await self.on_wake(sandbox_id)

    async def api(self, handler: Handler) -> Service:
        service = Service(handler)
        self._servers.append(await asyncio.start_unix_server(service, self.api_socket))
        return service

    async def sandbox(
        self, handler: Handler, sandbox_id: str = "i1", route: Route | None = None, **listen: object
    ) -> tuple[Service, str]:
        """A service in a sandbox, and the host name it has."""
        service = Service(handler)
        address = f"127.0.0.{self._next}"
        self._next += 1
        server = await asyncio.start_server(service, address, 0, **listen)  # type: ignore[arg-type]
        self._servers.append(server)
        port = server.sockets[0].getsockname()[1]
        self.publish(sandbox_id, address, route)
        return service, f"{port}-{sandbox_id}.example.org"

    def publish(self, sandbox_id: str, address: str, route: Route | None = None, **fields: object) -> None:
        base = route or Route(address)
        self.routes.publish(SandboxId(sandbox_id), replace(base, address=address, **fields))  # type: ignore[arg-type]

    async def client(self, address: str = "127.0.0.1", *, receive_buffer: int | None = None) -> Client:
        """``receive_buffer``: bytes the kernel takes for it, so that not reading is felt soon."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            await asyncio.get_running_loop().sock_connect(sock, (address, self.door.port))
        except BaseException:
            sock.close()
            raise
        client = Client(*await asyncio.open_connection(sock=sock))
        self._clients.append(client)
        return client

    async def close(self) -> None:
        for client in self._clients:
            client.writer.transport.abort()
        await self.door.stop(0)
        for server in self._servers:
            server.close()


@pytest.fixture
async def house(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[House]:
    """Whatever a test does, the door itself must not stumble."""
    house = House(tmp_path)
    await house.door.start("localhost", 0)
    try:
        yield house
    finally:
        await house.close()
    logged = [caplog.handler.format(record) for record in caplog.get_records("call")]
    assert [
        text for text in logged if "/atolld/proxy/relay.py" in text or "failed at a request" in text
    ] == []


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """One request with a Content-Length or chunked body, raw. Raises ``IncompleteReadError`` at the end."""
    head = await reader.readuntil(b"\r\n\r\n")
    low = head.lower()
    if b"transfer-encoding: chunked" in low:
        return head + await reader.readuntil(b"0\r\n\r\n")
    if b"content-length: " in low:
        return head + await reader.readexactly(int(low.split(b"content-length: ")[1].split(b"\r\n")[0]))
    return head


def answering(response: bytes | Callable[[bytes], bytes], seen: list[bytes] | None = None) -> Handler:
    """Answers every request on a kept connection with ``response``."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await read_request(reader)
            if seen is not None:
                seen.append(request)
            writer.write(response if isinstance(response, bytes) else response(request))
            await writer.drain()

    return handle


def ok(body: bytes = b"hello", extra: str = "") -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body


async def until(condition: Callable[[], bool], seconds: float = 5) -> None:
    """Until ``condition`` holds, which other tasks of this loop (or the kernel) make true."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (what is waited for tells nobody)
            await asyncio.sleep(0.005)
