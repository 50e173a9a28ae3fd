"""How the door opens, how it closes, and what it costs to walk through."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from pathlib import Path

import pytest

from atolld.model.routes import Routes
from atolld.proxy import FrontDoor, measure_overhead

from .conftest import House, answering, ok, until


async def test_a_stop_lets_what_is_under_way_end_and_takes_nothing_new(house: House) -> None:
    go_on = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await go_on.wait()
        writer.write(ok())

    service, host = await house.sandbox(handle)
    busy, idle = await house.client(), await house.client()
    await busy.send(f"GET / HTTP/1.1\nHost: {host}\n\n")
    await until(lambda: service.connections == 1)
    stopping = asyncio.ensure_future(house.door.stop(5))
    assert await idle.is_closed()
    with pytest.raises(ConnectionRefusedError):
        await house.client()
    go_on.set()
    answer = await busy.answer()
    assert (answer.body, answer.headers["connection"]) == (b"hello", "close")
    assert await busy.is_closed()
    await asyncio.wait_for(stopping, 1)


async def test_a_stop_cuts_what_does_not_end_in_time(house: House) -> None:
    service, host = await house.sandbox(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"))
    client = await house.client()
    await client.send(f"GET / HTTP/1.1\nHost: {host}\n\n")
    await client.head()
    await asyncio.wait_for(house.door.stop(0.1), 1)
    assert await client.is_closed()
    await until(lambda: service.ended == 1)


async def test_an_answer_that_promised_more_is_the_last_all_the_same(house: House) -> None:
    more = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na")
        await more.wait()
        writer.write(b"b")

    _, host = await house.sandbox(handle)
    client = await house.client()
    await client.send(f"GET / HTTP/1.1\nHost: {host}\n\n")
    await client.head()
    stopping = asyncio.ensure_future(house.door.stop(5))
    await asyncio.sleep(0)
    more.set()
    assert await client.reader.read() == b"ab"
    await asyncio.wait_for(stopping, 1)


async def test_a_successor_shares_the_port_and_a_second_server_does_not(house: House, tmp_path: Path) -> None:
    client = await house.client()
    with pytest.raises(OSError, match="in use") as taken:
        await FrontDoor(Routes(), [], tmp_path / "api").start("127.0.0.1", house.door.port)
    assert taken.value.errno == errno.EADDRINUSE
    successor = FrontDoor(house.routes, [], house.api_socket)
    await successor.start("127.0.0.1", house.door.port, beside=True)
    await house.door.stop(1)
    assert await client.is_closed()
    _, host = await house.sandbox(answering(ok()))
    assert (await (await house.client()).get(host)).status == 200
    await successor.stop(0)


async def test_a_taken_port_is_told(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(OSError, match="in use") as taken:
            await FrontDoor(Routes(), [], tmp_path / "api").start("localhost", other.getsockname()[1])
    assert taken.value.errno == errno.EADDRINUSE


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_nothing_is_left_open_after_a_stop(house: House) -> None:
    before = open_files()
    service, host = await house.sandbox(answering(ok()))
    for _ in range(20):
        client = await house.client()
        assert (await client.get(host)).status == 200
        client.writer.close()
    await house.door.stop(1)
    await until(lambda: service.ended == service.connections)
    await until(lambda: open_files() <= before + 1)  # the service's listener


async def test_the_door_costs_little(house: House) -> None:
    service, host = await house.sandbox(answering(ok(b"x")))
    port = int(host.partition("-")[0])
    overhead = await measure_overhead(("127.0.0.2", port), ("127.0.0.1", house.door.port), host, requests=500)
    print(f"direct {overhead.direct_ms:.3f} ms, through the door {overhead.door_ms:.3f} ms")
    assert overhead.added_ms < 1.5
    assert service.connections == 2


async def test_a_successor_gets_the_port_and_the_last_requests_of_open_connections(
    house: House, tmp_path: Path
) -> None:
    """Nobody is refused between the two, and what was under way ends where it began."""
    go_on = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await go_on.wait()
        writer.write(ok(b"old"))

    service, host = await house.sandbox(handle)
    busy, idle = await house.client(), await house.client()
    await busy.send(f"GET / HTTP/1.1\nHost: {host}\n\n")
    await until(lambda: service.connections == 1)

    passed = house.door.pass_on()
    early = await house.client()
    asked = [asyncio.ensure_future(each.get("api.example.org")) for each in (early, idle)]
    await asyncio.sleep(0)
    api = await asyncio.start_unix_server(answering(ok(b"new")), tmp_path / "new.sock")
    successor = FrontDoor(Routes(), [], tmp_path / "new.sock")
    await successor.start("localhost", 0, listeners=passed)

    first, last = await asyncio.gather(*asked)
    assert (first.body, last.body, last.headers["connection"]) == (b"new", b"new", "close")
    assert "connection" not in first.headers
    assert await idle.is_closed()
    stopping = asyncio.ensure_future(house.door.stop(5, patience=5))
    go_on.set()
    assert (await busy.answer()).body == b"old"
    await asyncio.wait_for(stopping, 1)
    await successor.stop(0)
    api.close()


async def test_idle_connections_of_a_replaced_server_are_closed_after_a_while(house: House) -> None:
    idle = await house.client()
    await until(lambda: house.door.open_connections[0] == 1)
    for listener in house.door.pass_on():
        listener.close()
    await asyncio.wait_for(house.door.stop(5, patience=0.1), 1)
    assert await idle.is_closed()
