"""Services that listen on the sandbox's loopback only, reached through its daemon's tunnel."""

from __future__ import annotations

import asyncio
import json

import pytest

from .conftest import Answer, Handler, House, answering, ok, read_request

SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: atoll-tunnel\r\n\r\n"
NOBODY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 2\r\n\r\n{}"
PORT = 3000


class Daemon:
    """What envd does with a tunnel: refuses, or becomes the service behind it."""

    def __init__(self, service: Handler | None, *, token: str | None = None) -> None:
        self.service = service
        self.token = token
        self.asked: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        self.asked.append(request)
        if self.token is not None and f"X-Access-Token: {self.token}\r\n".encode() not in request:
            writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
        elif self.service is None:
            writer.write(NOBODY)
        else:
            writer.write(SWITCHED)
            await self.service(reader, writer)


async def ask(house: House, daemon: Daemon, times: int = 1, token: str | None = None) -> list[Answer]:
    """Requests for a port that is closed from outside."""
    server = await asyncio.start_server(daemon, "127.0.0.77", 49983)
    house.publish("i1", "127.0.0.77", envd_token=token)
    try:
        client = await house.client()
        return [await client.get(f"{PORT}-i1.example.org", f"/{n}") for n in range(times)]
    finally:
        server.close()


@pytest.mark.parametrize("token", [None, "secret"])
async def test_a_service_on_the_loopback_inside_is_reached(house: House, token: str | None) -> None:
    seen: list[bytes] = []
    daemon = Daemon(answering(ok(), seen), token=token)
    first, second = await ask(house, daemon, 2, token)
    assert (first.status, first.body, second.body) == (200, b"hello", b"hello")
    assert [request.split(b" ")[1] for request in seen] == [b"/0", b"/1"]
    assert len(daemon.asked) == 1, "the tunnel is kept for the next request"
    assert daemon.asked[0].startswith(b"GET /tunnel?port=3000 HTTP/1.1\r\n")


@pytest.mark.parametrize("daemon", [Daemon(None), Daemon(answering(ok()), token="another")])
async def test_a_port_that_is_closed_inside_as_well_is_told_as_ever(house: House, daemon: Daemon) -> None:
    (answer,) = await ask(house, daemon)
    assert answer.status == 502
    assert json.loads(answer.body) == {
        "sandboxId": "i1",
        "message": "The sandbox is running but port is not open",
        "port": PORT,
        "code": 502,
    }


async def test_a_daemon_that_hangs_up_or_talks_without_end_means_a_closed_port(house: House) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.close()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"x" * 100_000)
        await writer.drain()

    for handler in (hang_up, talk):
        server = await asyncio.start_server(handler, "127.0.0.78", 49983)
        house.publish("i1", "127.0.0.78")
        answer = await (await house.client()).get(f"{PORT}-i1.example.org")
        server.close()
        await server.wait_closed()
        assert (answer.status, b"port is not open" in answer.body) == (502, True)


async def test_the_tunnel_itself_is_not_for_the_public(house: House) -> None:
    daemon = Daemon(answering(ok()))
    server = await asyncio.start_server(daemon, "127.0.0.79", 49983)
    house.publish("i1", "127.0.0.79")
    upgrade = "Connection: Upgrade\nUpgrade: atoll-tunnel\n"
    answer = await (await house.client()).get("49983-i1.example.org", "/tunnel?port=22", upgrade)
    server.close()
    assert (answer.status, daemon.asked) == (404, [])
