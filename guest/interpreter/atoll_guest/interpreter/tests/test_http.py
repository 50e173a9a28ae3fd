import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from atoll_guest.interpreter import http
from atoll_guest.interpreter.http import Reply, Request

Exchange = Callable[[bytes], Awaitable[bytes]]


class App:
    """A handler that tells what it got, and what became of it."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.waiting = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.written = 0

    async def handle(self, request: Request, reply: Reply) -> None:
        self.requests.append(request)
        match request.path:
            case "/echo":
                await reply.respond(200, request.body, "text/plain")
            case "/fail":
                raise RuntimeError("boom")
            case "/stream":
                reply.begin(200, "")
                for part in (b"a", b"bc"):
                    await reply.write(part)
                await reply.end()
            case "/flood":
                reply.begin(200, "")
                while True:
                    await reply.write(b"x" * 65536)
                    self.written += 65536
            case _:
                self.waiting.set()
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    self.cancelled.set()
                    raise


@pytest.fixture
async def app() -> AsyncIterator[tuple[App, int]]:
    app = App()
    settings = http.Settings(max_body_bytes=1000, extra_headers=b"X-Extra: 1\r\n")
    server = await http.serve(app.handle, "127.0.0.1", 0, settings)
    yield app, server.sockets[0].getsockname()[1]
    server.close()


async def exchange(port: int, *pieces: bytes) -> bytes:
    """Send the pieces one after the other; all that comes back until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.01)
    with contextlib.closing(writer):
        return await asyncio.wait_for(reader.read(-1), 5)


CLOSE = b"Connection: close\r\n"


async def test_a_body_arrives_with_its_length_or_in_chunks(app: tuple[App, int]) -> None:
    plain = b"POST /echo?x=1 HTTP/1.1\r\nContent-Length: 5\r\n" + CLOSE + b"\r\nhel"
    chunked = (
        b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
        + CLOSE
        + b"\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
    )
    for answer in (await exchange(app[1], plain, b"lo"), await exchange(app[1], chunked)):
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\nhello")
        assert b"X-Extra: 1\r\n" in answer
    assert app[0].requests[0].path == "/echo"


async def test_requests_of_one_connection_are_answered_in_order(app: tuple[App, int]) -> None:
    one = b"POST /echo HTTP/1.1\r\nContent-Length: 1\r\n\r\n1"
    two = b"POST /echo HTTP/1.1\r\nContent-Length: 1\r\n" + CLOSE + b"\r\n2"
    answer = await exchange(app[1], one + two)
    assert [part[-1:] for part in answer.split(b"HTTP/1.1 200 OK")[1:]] == [b"1", b"2"]


async def test_a_streamed_answer_is_chunked(app: tuple[App, int]) -> None:
    answer = await exchange(app[1], b"GET /stream HTTP/1.1\r\n" + CLOSE + b"\r\n")
    assert answer.endswith(b"\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"NONSENSE\r\n\r\n", b"400"),
        (b"POST /echo HTTP/1.1\r\nContent-Length: 5000\r\n\r\n" + b"x" * 2000, b"413"),
        (b"GET /echo HTTP/1.1\r\nA: " + b"x" * 70000 + b"\r\n\r\n", b"413"),
        (b"GET /fail HTTP/1.1\r\n\r\n", b"500"),
    ],
)
async def test_bad_requests_and_failures_end_with_a_status_and_a_closed_connection(
    app: tuple[App, int], request_bytes: bytes, status: bytes
) -> None:
    answer = await exchange(app[1], request_bytes)
    assert answer.split(b" ")[1] == status
    assert b"Connection: close" in answer


async def test_expect_100_continue_is_answered(app: tuple[App, int]) -> None:
    head = b"POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n" + CLOSE + b"\r\n"
    answer = await exchange(app[1], head, b"ok")
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


async def test_a_client_that_hangs_up_cancels_its_request(app: tuple[App, int]) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", app[1])
    writer.write(b"GET /wait HTTP/1.1\r\n\r\n")
    await writer.drain()
    await asyncio.wait_for(app[0].waiting.wait(), 5)
    writer.close()
    await asyncio.wait_for(app[0].cancelled.wait(), 5)


async def test_a_client_that_does_not_read_stops_the_writer(app: tuple[App, int]) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", app[1], limit=1024)
    writer.write(b"GET /flood HTTP/1.1\r\n\r\n")
    before = -1
    while app[0].written != before:
        before = app[0].written
        await asyncio.sleep(0.2)
    assert 0 < app[0].written < 32 << 20
    writer.transport.abort()
