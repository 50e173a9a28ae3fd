"""Long bodies, tunnels, and who gets to know when one end leaves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from atolld.model.sandbox import SandboxId
from atolld.proxy import connection, relay, upstream

from .conftest import Client, House, answering, ok, read_request, until

MIB = 1024 * 1024
UPGRADE = "Connection: keep-alive, Upgrade\nUpgrade: websocket\nSec-WebSocket-Key: x\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def resident() -> int:
    """Bytes of this process, which is server, service and client here."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_events_come_through_one_by_one(house: House) -> None:
    more = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for number in range(3):
            writer.write(b"data: %d\n\n" % number)
            await more.wait()
            more.clear()

    _, host = await house.sandbox(handle)
    client = await house.client()
    await client.send(f"GET / HTTP/1.1\nHost: {host}\n\n")
    assert b"text/event-stream" in await client.head()
    for number in range(3):
        assert await client.reader.readuntil(b"\n\n") == b"data: %d\n\n" % number
        more.set()
    assert await client.is_closed()


async def test_bodies_of_many_megabytes_arrive_whole_both_ways(house: House) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * MIB))
        left = 64 * MIB
        while left:
            data = await reader.read(256 * 1024)
            left -= len(data)
            writer.write(data)
            await writer.drain()

    _, host = await house.sandbox(handle)
    client = await house.client()
    piece = os.urandom(MIB)

    async def send() -> None:
        for _ in range(64):
            await client.send(piece)

    await client.send(f"POST / HTTP/1.1\nHost: {host}\nContent-Length: {64 * MIB}\n\n")
    sending = asyncio.ensure_future(send())
    await client.head()
    for _ in range(64):
        assert await client.reader.readexactly(MIB) == piece
    await sending


async def test_a_slow_reader_costs_one_buffer(house: House) -> None:
    sent = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1024 * MIB))
        piece = bytes(64 * 1024)
        while True:
            writer.write(piece)
            await writer.drain()
            sent += len(piece)

    _, host = await house.sandbox(handle)
    client = await house.client(receive_buffer=64 * 1024)
    await client.send(f"GET / HTTP/1.1\nHost: {host}\n\n")
    await client.head()
    idle = resident()
    for _ in range(20):
        await client.reader.readexactly(256 * 1024)
        assert resident() - idle < 20 * MIB
    await until_steady(lambda: sent)
    assert resident() - idle < 20 * MIB
    assert sent < 40 * MIB  # what the kernel's buffers of two connections hold, and 5 MiB read


async def test_a_service_that_does_not_read_costs_one_buffer(house: House) -> None:
    go_on = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await go_on.wait()

    _, host = await house.sandbox(handle)
    client = await house.client()
    await client.send(f"POST / HTTP/1.1\nHost: {host}\nContent-Length: {1024 * MIB}\n\n")
    await send_until_stopped(client, bytes(64 * 1024), most=40 * MIB)
    go_on.set()


async def test_a_client_that_pipelines_and_never_reads_is_stopped(house: House) -> None:
    service, host = await house.sandbox(answering(ok(bytes(100_000))))
    client = await house.client(receive_buffer=64 * 1024)
    request = f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    client.reader._transport.pause_reading()  # type: ignore[attr-defined]
    await send_until_stopped(client, request * 1000, most=60 * MIB)
    assert service.connections >= 1


async def send_until_stopped(client: Client, piece: bytes, *, most: int) -> None:
    """Sends until nobody takes any more: at most ``most`` bytes, which the kernel's buffers hold, not we."""
    idle, sent = resident(), 0

    async def send() -> None:
        nonlocal sent
        while True:
            await client.send(piece)
            sent += len(piece)

    sending = asyncio.ensure_future(send())
    await until_steady(lambda: sent)
    sending.cancel()
    assert sent < most
    assert resident() - idle < 20 * MIB


async def until_steady(count: Callable[[], int]) -> None:
    """Until ``count`` has stopped growing."""
    before = -1
    async with asyncio.timeout(10):
        while count() != before:
            before = count()
            await asyncio.sleep(0.1)


async def test_two_hundred_streams_at_once_do_not_mix(house: House) -> None:
    started = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        name = head.split(b" ")[1]
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await started.wait()
        for _ in range(20):
            writer.write(b"%x\r\n%s\r\n" % (len(name), name))
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n")

    service, host = await house.sandbox(handle)
    clients = [await house.client() for _ in range(200)]
    for number, client in enumerate(clients):
        await client.send(f"GET /{number} HTTP/1.1\nHost: {host}\n\n")
        await client.head()
    assert service.connections - service.ended == 200
    started.set()
    bodies = await asyncio.gather(*(client.reader.readuntil(b"0\r\n\r\n") for client in clients))
    for number, body in enumerate(bodies):
        assert body == b"%x\r\n/%d\r\n" % (len(f"/{number}"), number) * 20 + b"0\r\n\r\n"


async def streaming(house: House) -> tuple[Client, asyncio.Event]:
    """A client in the middle of a stream; the event is set when the service gets to know that it left."""
    left = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        assert await reader.read() == b""
        left.set()

    _, host = await house.sandbox(handle)
    client = await house.client()
    await client.send(f"GET / HTTP/1.1\nHost: {host}\n\n")
    await client.reader.readuntil(b"a\r\n")
    return client, left


@pytest.mark.parametrize("how", ["close", "abort", "half-close"])
async def test_the_service_gets_to_know_at_once_that_the_client_left(house: House, how: str) -> None:
    client, left = await streaming(house)
    if how == "close":
        client.writer.close()
    elif how == "abort":
        linger = b"\1\0\0\0\0\0\0\0"  # on, 0 seconds: a reset
        client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        client.writer.transport.abort()
    else:
        client.writer.write_eof()
    await asyncio.wait_for(left.wait(), 1)


async def test_the_service_gets_to_know_that_the_client_left_before_any_answer(house: House) -> None:
    left = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.read()
        left.set()

    _, host = await house.sandbox(handle)
    client = await house.client()
    await client.send(f"POST / HTTP/1.1\nHost: {host}\nContent-Length: 100\n\nabc")
    client.writer.close()
    await asyncio.wait_for(left.wait(), 1)


async def test_a_service_that_does_not_mind_a_half_closed_client_still_answers(house: House) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.read()
        writer.write(ok(b"%d" % len(request)))

    _, host = await house.sandbox(handle)
    client = await house.client()
    request = f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    await client.send(request)
    client.writer.write_eof()
    assert (await client.answer()).body == b"%d" % len(request)
    assert await client.is_closed()


async def test_a_service_that_ignores_that_the_client_left_is_cut(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "HALF_CLOSED_SECONDS", 0.1)
    never = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await never.wait()

    _, host = await house.sandbox(handle)
    client = await house.client()
    await client.send(f"GET / HTTP/1.1\nHost: {host}\n\n")
    client.writer.write_eof()
    assert (await client.answer()).status == 502
    assert await client.is_closed()
    never.set()


@pytest.mark.parametrize("framing", ["Content-Length: 100", "Transfer-Encoding: chunked"])
async def test_an_answer_that_breaks_off_breaks_off_for_the_client(house: House, framing: str) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n5\r\nabcde\r\n".encode())

    _, host = await house.sandbox(handle)
    client = await house.client()
    await client.send(f"GET / HTTP/1.1\nHost: {host}\n\n")
    await client.head()
    assert await asyncio.wait_for(client.reader.read(), 1) == b"5\r\nabcde\r\n"


async def test_a_stream_may_be_silent_for_as_long_as_it_likes(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every time limit there is, scaled down to a tenth of the silence."""
    for module, name in (
        (connection, "IDLE_SECONDS"),
        (connection, "HEAD_SECONDS"),
        (connection, "LINGER_SECONDS"),
        (upstream, "IDLE_SECONDS"),
        (upstream, "CONNECT_SECONDS"),
        (relay, "HALF_CLOSED_SECONDS"),
    ):
        monkeypatch.setattr(module, name, 0.1)
    speak = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        head = SWITCHED if b"websocket" in request else b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
        writer.write(head)
        await speak.wait()
        writer.write(b"hello")

    _, host = await house.sandbox(handle)
    stream, tunnel = await house.client(), await house.client()
    await stream.send(f"GET / HTTP/1.1\nHost: {host}\n\n")
    await tunnel.send(f"GET / HTTP/1.1\nHost: {host}\n{UPGRADE}\n")
    for client in (stream, tunnel):
        await client.head()
    await asyncio.sleep(1)
    speak.set()
    for client in (stream, tunnel):
        assert await client.reader.readexactly(5) == b"hello"


async def test_streams_of_a_sandbox_that_is_gone_end(house: House) -> None:
    client, _ = await streaming(house)
    house.routes.withdraw(SandboxId("i1"))
    assert await client.is_closed()


async def test_a_request_to_a_sandbox_that_goes_meanwhile_is_told_so(house: House) -> None:
    read = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        read.set()
        await reader.read()

    _, host = await house.sandbox(handle)
    client = await house.client()
    await client.send(f"GET / HTTP/1.1\nHost: {host}\n\n")
    await read.wait()
    house.routes.withdraw(SandboxId("i1"))
    answer = await client.answer()
    assert (answer.status, b"was not found" in answer.body) == (502, True)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Switches protocols, echoes until the client ends, then says goodbye."""
    head = await reader.readuntil(b"\r\n\r\n")
    writer.write(SWITCHED + (b"" if b"Upgrade: websocket\r\n" in head else b"no upgrade asked"))
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write(b"bye")


async def test_a_websocket_is_a_tunnel_and_half_close_goes_through_it(house: House) -> None:
    _, host = await house.sandbox(echo)
    client = await house.client()
    await client.send(f"GET /ws HTTP/1.1\nHost: {host}\n{UPGRADE}\n")
    await client.send(b"\x81\x05early")
    head = await client.head()
    assert head == SWITCHED
    assert await client.reader.readexactly(7) == b"\x81\x05early"
    await client.send(b"GET / HTTP/1.1\r\n\r\n")
    assert await client.reader.readexactly(18) == b"GET / HTTP/1.1\r\n\r\n"
    client.writer.write_eof()
    assert await client.reader.read() == b"bye"


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_a_tunnel_ends_when_its_client_leaves(house: House, how: str) -> None:
    service, host = await house.sandbox(echo)
    client = await house.client()
    await client.send(f"GET /ws HTTP/1.1\nHost: {host}\n{UPGRADE}\n")
    await client.head()
    (client.writer.close if how == "close" else client.writer.transport.abort)()
    await until(lambda: service.ended == 1, 1)


async def test_a_tunnel_ends_when_its_service_leaves(house: House) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCHED)

    _, host = await house.sandbox(handle)
    client = await house.client()
    await client.send(f"GET /ws HTTP/1.1\nHost: {host}\n{UPGRADE}\n")
    await client.head()
    assert await client.is_closed()


async def test_half_a_tunnel_that_is_silent_is_cut(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "HALF_CLOSED_SECONDS", 0.1)
    never = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCHED)
        await never.wait()

    _, host = await house.sandbox(handle)
    client = await house.client()
    await client.send(f"GET /ws HTTP/1.1\nHost: {host}\n{UPGRADE}\n")
    await client.head()
    client.writer.write_eof()
    assert await client.is_closed()
    never.set()


async def test_a_refused_upgrade_leaves_an_ordinary_connection(house: House) -> None:
    _, host = await house.sandbox(answering(ok()))
    client = await house.client()
    for _ in range(2):
        assert (await client.get(host, headers=UPGRADE)).body == b"hello"


async def test_upgrades_that_would_hide_requests_are_not_asked_for(house: House) -> None:
    seen: list[bytes] = []
    _, host = await house.sandbox(answering(ok(), seen))
    client = await house.client()
    await client.get(host, headers="Connection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: x\n")
    assert seen == [f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()]


async def test_a_full_tunnel_stops_its_sender(house: House) -> None:
    _, host = await house.sandbox(echo)
    client = await house.client(receive_buffer=64 * 1024)
    await client.send(f"GET /ws HTTP/1.1\nHost: {host}\n{UPGRADE}\n")
    await client.head()
    await send_until_stopped(client, bytes(64 * 1024), most=60 * MIB)


async def test_a_crowd_that_leaves_at_any_moment_leaves_nothing_behind(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "IDLE_SECONDS", 0.05)
    chance = random.Random(1)

    async def moody(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await read_request(reader)
            mood = chance.random()
            if mood < 0.1:
                writer.transport.abort()
            if mood < 0.2:
                return
            if mood < 0.3:
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")
                return
            if mood < 0.4 and b"websocket" in request:
                writer.write(SWITCHED)
                writer.write(await reader.read(100))
            writer.write(ok(b"x" * chance.choice((0, 1, 100_000))))

    async def visit(hosts: list[str]) -> None:
        client = await house.client()
        for _ in range(chance.randrange(1, 5)):
            size = chance.choice((0, 10, 100_000))
            upgrade = chance.choice(("", UPGRADE))
            head = f"POST / HTTP/1.1\nHost: {chance.choice(hosts)}\n{upgrade}Content-Length: {size}\n\n"
            data = head.replace("\n", "\r\n").encode() + bytes(size)
            part = data if chance.random() < 0.8 else data[: chance.randrange(len(data))]
            await client.send(part)
            if chance.random() < 0.5 or part is not data:
                break
            await client.reader.read(chance.randrange(1, 200_000))
        how = chance.choice((client.writer.close, client.writer.transport.abort, client.writer.write_eof))
        how()
        client.writer.close()

    async def try_to_visit(hosts: list[str]) -> None:
        with contextlib.suppress(OSError, RuntimeError):  # what a client sees when its connection is cut
            await visit(hosts)

    _, host = await house.sandbox(moody)
    await house.api(answering(ok()))
    hosts = [host, host, "localhost", "80-gone.example.org", "9-i1.example.org"]
    for _ in range(3):
        await asyncio.gather(*(try_to_visit(hosts) for _ in range(80)))
    await until(lambda: house.door.open_connections == (0, 0))
