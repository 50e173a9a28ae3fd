"""A small HTTP/1.1 server on asyncio and httptools: keep-alive, chunked bodies both ways, back-pressure.

Knows nothing of the application. What a framework would not give as directly: when the client hangs up, the
task that serves its request is cancelled at once. (It also starts in half the memory of an ASGI stack; see
the ADR.)
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import httptools

_log = logging.getLogger(__name__)

MAX_HEADER_BYTES = 64 * 1024
MAX_PIPELINED = 16
_PIECE_BYTES = 64 * 1024
_PATIENCE_SECONDS = 0.005


@dataclass(slots=True)
class Request:
    """`path` without the query; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Reply:
    """The answer to one request: either `respond` once, or `begin`, `write`…, `end`.

    What is written in one turn of the event loop goes out as one piece: each costs a system call here and a
    wake-up at every station on its way. Only `patient` pieces wait longer, and not long.
    """

    def __init__(self, connection: "_Connection", keep_alive: bool, extra_headers: bytes) -> None:
        self._connection = connection
        self._extra_headers = extra_headers
        self.keep_alive = keep_alive
        self.begun = False
        self.ended = False
        self._pending = bytearray()
        self._flushing: asyncio.Handle | None = None
        self._is_patient = False

    async def respond(self, status: int, body: bytes, content_type: str) -> None:
        """A whole answer."""
        head = self._head(status, content_type) + f"Content-Length: {len(body)}\r\n\r\n".encode()
        self.begun = self.ended = True
        await self._connection.send(head + body)

    def begin(self, status: int, content_type: str) -> None:
        """Head of an answer whose body follows in chunks."""
        self.begun = True
        self._pending += self._head(status, content_type) + b"Transfer-Encoding: chunked\r\n\r\n"
        self._flush_soon(is_patient=True)

    async def write(self, chunk: bytes, *, is_patient: bool = False) -> None:
        """One non-empty piece of the body; waits while the client does not read.

        A patient one may travel with what comes next.
        """
        self._pending += b"%x\r\n%b\r\n" % (len(chunk), chunk)
        if len(self._pending) < _PIECE_BYTES:
            self._flush_soon(is_patient)
        await self._drain()

    async def end(self) -> None:
        self.ended = True
        self._pending += b"0\r\n\r\n"
        self.flush()
        await self._connection.drain()

    async def _drain(self) -> None:
        if len(self._pending) >= _PIECE_BYTES:
            self.flush()
        await self._connection.drain()

    def _flush_soon(self, is_patient: bool) -> None:
        if self._flushing is not None:
            if is_patient or not self._is_patient:
                return
            self._flushing.cancel()
        loop = asyncio.get_running_loop()
        self._is_patient = is_patient
        self._flushing = (
            loop.call_later(_PATIENCE_SECONDS, self.flush) if is_patient else loop.call_soon(self.flush)
        )

    def flush(self) -> None:
        """Hand what is pending to the transport."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        if self._pending:
            self._connection.write(bytes(self._pending))
            self._pending.clear()

    def _head(self, status: int, content_type: str) -> bytes:
        connection = "keep-alive" if self.keep_alive else "close"
        lines = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nConnection: {connection}\r\n"
        if content_type:
            lines += f"Content-Type: {content_type}\r\n"
        return lines.encode() + self._extra_headers


Handler = Callable[[Request, Reply], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Settings:
    """`extra_headers` go into every answer, each ended by CRLF."""

    max_body_bytes: int = 256 * 1024 * 1024
    extra_headers: bytes = b""


async def serve(handler: Handler, host: str, port: int, settings: Settings | None = None) -> asyncio.Server:
    """Listen. Raises OSError when the port is taken."""
    chosen = settings or Settings()
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: _Connection(handler, chosen), host, port, backlog=512)


@dataclass(slots=True)
class _Incoming:
    """A request while it is being parsed."""

    url: bytes = b""
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytearray = field(default_factory=bytearray)
    header_bytes: int = 0


class _Connection(asyncio.Protocol):
    def __init__(self, handler: Handler, settings: Settings) -> None:
        self._handler = handler
        self._settings = settings
        self._parser = httptools.HttpRequestParser(self)
        self._incoming = _Incoming()
        self._waiting: deque[tuple[Request, bool]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    # --- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._waiting.clear()
        self._writable.set()
        if self._task is not None:
            self._task.cancel()

    def eof_received(self) -> bool:
        return False  # a client that closes its side has gone: close ours, which cancels what it asked for

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except _TooLarge as error:
            self._refuse(413, str(error))
        except httptools.HttpParserUpgrade:
            self._refuse(400, "This server does not upgrade connections")
        except httptools.HttpParserError as error:
            cause = error.__context__
            if isinstance(cause, _TooLarge):
                self._refuse(413, str(cause))
            else:
                self._refuse(400, f"Bad HTTP request: {error}")

    # --- httptools' side

    def on_message_begin(self) -> None:
        self._incoming = _Incoming()

    def on_url(self, url: bytes) -> None:
        self._incoming.url += url
        self._count_header(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_header(len(name) + len(value))
        self._incoming.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._incoming.headers.get("expect", "").lower() == "100-continue" and self._transport:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        if len(self._incoming.body) + len(body) > self._settings.max_body_bytes:
            raise _TooLarge(f"The body is larger than {self._settings.max_body_bytes} bytes")
        self._incoming.body += body

    def on_message_complete(self) -> None:
        incoming = self._incoming
        path = incoming.url.split(b"?", 1)[0].decode("latin-1")
        method = self._parser.get_method().decode("latin-1")
        request = Request(method, path, incoming.headers, bytes(incoming.body))
        self._waiting.append((request, self._parser.should_keep_alive()))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._serve())
        elif len(self._waiting) > MAX_PIPELINED:
            self._refuse(400, "Too many pipelined requests")

    def _count_header(self, size: int) -> None:
        self._incoming.header_bytes += size
        if self._incoming.header_bytes > MAX_HEADER_BYTES:
            raise _TooLarge(f"The header is larger than {MAX_HEADER_BYTES} bytes")

    # --- serving

    async def send(self, data: bytes) -> None:
        """Waits for a slow client; a lost connection cancels the caller, so nothing is raised for it here."""
        self.write(data)
        await self.drain()

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait while the client does not read."""
        if not self._writable.is_set():
            await self._writable.wait()

    async def _serve(self) -> None:
        try:
            while self._waiting and self._transport is not None:
                request, keep_alive = self._waiting.popleft()
                reply = Reply(self, keep_alive, self._settings.extra_headers)
                await self._answer(request, reply)
                if not reply.keep_alive or not reply.ended:
                    reply.flush()
                    self._close()
        finally:
            self._task = None

    async def _answer(self, request: Request, reply: Reply) -> None:
        try:
            await self._handler(request, reply)
        except Exception:
            _log.exception("%s %s failed", request.method, request.path)
            if not reply.begun:
                reply.keep_alive = False
                await reply.respond(500, b"Internal error of the code interpreter; see its log", "text/plain")

    def _refuse(self, status: int, text: str) -> None:
        if self._transport is None:
            return
        body = text.encode()
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nConnection: close\r\n"
        head += f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)
        self._close()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class _TooLarge(Exception):
    """The client sends more than we take."""
