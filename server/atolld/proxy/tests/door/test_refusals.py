"""What the door answers itself: exact statuses, bodies and words."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket

import pytest

from atolld.model.errors import AtollError, Conflict, Forbidden, TooMany
from atolld.model.routes import Route
from atolld.model.sandbox import SandboxId
from atolld.proxy import connection

from .conftest import House, answering, ok, read_request, until

BROWSER = "Accept: text/html,*/*\nUser-Agent: Mozilla/5.0 (X11)\n"


def free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


async def test_an_unknown_sandbox(house: House) -> None:
    answer = await (await house.client()).get("49983-i1.example.org", "/health")
    assert answer.status == 502
    assert answer.body == b'{"sandboxId":"i1","message":"The sandbox was not found","code":502}'
    assert answer.headers["content-type"].startswith("application/json")


async def test_a_closed_port(house: House) -> None:
    house.publish("i1", "127.0.0.9")
    port = free_port("127.0.0.9")
    answer = await (await house.client()).get(f"{port}-i1.example.org")
    assert answer.status == 502
    assert answer.body == (
        b'{"sandboxId":"i1","message":"The sandbox is running but port is not open",'
        b'"port":%d,"code":502}' % port
    )


@pytest.mark.parametrize(
    ("host", "headers", "body"),
    [
        ("localhost", "E2b-Sandbox-Id: i1\n", b"missing header"),
        ("localhost", "E2b-Sandbox-Port: 1\n", b"missing header"),
        ("localhost", "E2b-Sandbox-Id: i_1\nE2b-Sandbox-Port: 1\n", b"Invalid sandbox ID"),
        ("99999-i1.example.org", "", b"Invalid sandbox port"),
        ("exa mple", "", b"Invalid host"),
    ],
)
async def test_bad_routing(house: House, host: str, headers: str, body: bytes) -> None:
    client = await house.client()
    for _ in range(2):
        answer = await client.get(host, headers=headers)
        assert (answer.status, answer.body) == (400, body)
        assert answer.headers["content-type"].startswith("text/plain")


async def test_a_private_sandbox(house: House) -> None:
    private = Route("", allow_public=False, traffic_token_sha256=hashlib.sha256(b"t").hexdigest())
    _, host = await house.sandbox(answering(ok()), route=private)
    client = await house.client()
    missing, wrong = await client.get(host), await client.get(host, headers="e2b-traffic-access-token: x\n")
    right = await client.get(host, headers="e2b-traffic-access-token: t\n")
    assert (missing.status, wrong.status, right.status) == (403, 403, 200)
    secured = "Sandbox is secured with traffic access token. "
    assert json.loads(missing.body) == {
        "sandboxId": "i1",
        "message": secured + "Token header 'e2b-traffic-access-token' is missing",
        "code": 403,
    }
    assert json.loads(wrong.body) == {
        "sandboxId": "i1",
        "message": secured + "Provided token in header 'e2b-traffic-access-token' is invalid",
        "code": 403,
    }


@pytest.mark.parametrize(
    "error",
    [
        Forbidden("Only with valid credentials does this sandbox resume. Give its access token."),
        Conflict("The sandbox is still transitioning. Try again in a moment."),
        TooMany("you have reached the maximum number of concurrent sandboxes (20)"),
    ],
)
async def test_a_sandbox_that_is_not_woken(house: House, error: AtollError) -> None:
    async def refuse(_: SandboxId) -> Route | None:
        raise error

    house.on_wake = refuse
    answer = await (await house.client()).get("80-i1.example.org")
    assert answer.status == error.code
    assert json.loads(answer.body) == {"sandboxId": "i1", "message": error.message, "code": error.code}


async def test_a_failure_to_wake_is_ours_and_said(house: House) -> None:
    async def fail(_: SandboxId) -> Route | None:
        raise KeyError("a bug")

    house.on_wake = fail
    client = await house.client()
    for _ in range(2):
        answer = await client.get("80-i1.example.org")
        assert (answer.status, json.loads(answer.body)["code"]) == (500, 500)


async def test_a_sleeping_sandbox_is_woken_once_however_many_ask(house: House) -> None:
    _, host = await house.sandbox(answering(ok()))
    route = house.routes.get(SandboxId("i1"))
    house.routes.withdraw(SandboxId("i1"))
    clients = [await house.client() for _ in range(5)]
    let_go = asyncio.Event()

    async def wake(sandbox_id: SandboxId) -> Route | None:
        await let_go.wait()
        assert route is not None
        house.routes.publish(sandbox_id, route)
        return route

    house.on_wake = wake
    answers = [asyncio.ensure_future(client.get(host)) for client in clients]
    gone = await house.client()
    await gone.send(f"GET / HTTP/1.1\nHost: {host}\n\n")
    gone.writer.close()
    await asyncio.sleep(0.05)  # all have asked by now; if not, the test proves less but does not fail
    let_go.set()
    assert [answer.status for answer in await asyncio.gather(*answers)] == [200] * 5
    assert house.woken == ["i1"]


async def test_the_daemons_host_routes(house: House) -> None:
    house.publish("i1", "127.0.0.9")
    client = await house.client()
    for path in ("/init", "//init", "/%69nit", "/x/../init", "/INIT/", "/freeze?x", "/fsthaw"):
        answer = await client.get("49983-i1.example.org", path)
        assert (answer.status, json.loads(answer.body)["code"]) == (404, 404)
        assert (await client.get("49983-i2.example.org", path)).status == 404
    assert house.woken == []


async def test_a_browser_gets_a_page_with_the_same_words(house: House) -> None:
    house.publish("i1", "127.0.0.9")
    client = await house.client()
    for host, words in (("80-i2.example.org", b"was not found"), ("99-i1.example.org", b"port is not open")):
        answer = await client.get(host, headers=BROWSER)
        assert (answer.status, answer.headers["content-type"]) == (502, "text/html; charset=utf-8")
        assert words in answer.body
        assert answer.body.startswith(b"<!doctype html>")


async def test_an_api_that_does_not_run(house: House) -> None:
    answer = await (await house.client()).get("localhost", "/sandboxes")
    assert (answer.status, json.loads(answer.body)["code"]) == (503, 503)


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        b"HTTP/1.1 2",
        b"HTTP/1.1 101 X\r\nUpgrade: x\r\n\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70000 + b"\r\n\r\n",
    ],
)
async def test_a_service_that_does_not_speak_http(house: House, sent: bytes) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(sent)

    _, host = await house.sandbox(handle)
    client = await house.client()
    for _ in range(2):
        answer = await client.get(host)
        assert (answer.status, json.loads(answer.body)["sandboxId"]) == (502, "i1")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ("GET / HTTP/1.1\nHost: a\nX: b\n c\n\n", 400),
        ("POST / HTTP/1.1\nHost: a\nContent-Length: 4\nTransfer-Encoding: chunked\n\n0\n\n", 400),
        ("POST / HTTP/1.1\nHost: a\nContent-Length: 4\nContent-Length: 5\n\nabcd", 400),
        ("GET / HTTP/1.1\nHost: a\nHost: b\n\n", 400),
        ("GET / HTTP/1.1\n\n", 400),
        ("CONNECT a:1 HTTP/1.1\nHost: a\n\n", 501),
        ("PRI * HTTP/2.0\n\nSM\n\n", 505),
        ("GET / HTTP/1.1\nHost: a\nX: " + "a" * 70_000 + "\n\n", 431),
        ("GET /" + "a" * 70_000, 431),
    ],
)
async def test_a_request_that_could_hide_another_ends_the_connection(
    house: House, request_: str, status: int
) -> None:
    service = await house.api(answering(ok()))
    client = await house.client()
    await client.send(request_)
    answer = await client.answer()
    assert (answer.status, answer.headers["connection"]) == (status, "close")
    assert await client.is_closed()
    assert service.connections == 0


async def test_a_request_with_bare_line_feeds_is_refused_at_once(house: House) -> None:
    client = await house.client()
    await client.send(b"GET / HTTP/1.1\nHost: a\n\n")
    assert (await client.answer()).status == 400


async def test_a_body_with_broken_chunks_reaches_nobody_whole(house: House) -> None:
    got: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            got.append(data)

    service, host = await house.sandbox(handle)
    client = await house.client()
    await client.send(f"POST / HTTP/1.1\nHost: {host}\nTransfer-Encoding: chunked\n\n3\nabc\n")
    await until(lambda: b"".join(got).endswith(b"abc\r\n"))
    await client.send("3\nabcd\n0\n\nGET / HTTP/1.1\n")
    assert (await client.answer()).status == 400
    assert await client.is_closed()
    await until(lambda: service.ended == 1)
    assert b"".join(got).endswith(b"\r\n\r\n3\r\nabc\r\n")


async def test_a_head_that_never_ends_is_given_up(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.05)
    client = await house.client()
    await client.send("GET / HTTP/1.1\nHo")
    assert (await client.answer()).status == 408
    assert await client.is_closed()


async def test_a_connection_that_asks_nothing_is_given_up(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "IDLE_SECONDS", 0.05)
    assert await (await house.client()).is_closed()


async def test_a_refused_request_with_its_body_leaves_the_connection_usable(house: House) -> None:
    _, host = await house.sandbox(answering(ok()))
    client = await house.client()
    await client.send(
        "POST / HTTP/1.1\nHost: 80-gone.example.org\nTransfer-Encoding: chunked\n\n2\nhi\n0\n\n"
    )
    answer = await client.answer()
    assert (answer.status, answer.headers.get("connection")) == (502, None)
    assert (await client.get(host)).status == 200
