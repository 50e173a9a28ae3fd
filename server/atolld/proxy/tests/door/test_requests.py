"""What goes through the door, and how it looks on the other side."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from atolld.model.routes import Route
from atolld.proxy import upstream

from .conftest import Client, House, answering, ok, read_request, until


async def test_one_connection_carries_requests_for_the_api_and_for_sandboxes(house: House) -> None:
    await house.api(answering(ok(b"api")))
    _, one = await house.sandbox(answering(ok(b"one")), "i1")
    _, two = await house.sandbox(answering(ok(b"two")), "i2")
    client = await house.client()
    answers = [await client.get(host) for host in ("api.example.org", one, two, "localhost", one)]
    assert [answer.body for answer in answers] == [b"api", b"one", b"two", b"api", b"one"]


async def test_the_door_listens_on_both_loopback_addresses(house: House) -> None:
    _, host = await house.sandbox(answering(ok()))
    for address in ("127.0.0.1", "::1"):
        assert (await (await house.client(address)).get(host)).body == b"hello"


async def test_the_routing_headers_lead_to_the_sandbox(house: House) -> None:
    _, host = await house.sandbox(answering(ok(b"inside")))
    headers = f"E2b-Sandbox-Id: i1\nE2b-Sandbox-Port: {host.partition('-')[0]}\n"
    client = await house.client()
    for shared in ("127.0.0.1:8600", "sandbox.e2b.app", "atoll.test:8600", "atoll.test"):
        assert (await client.get(shared, headers=headers)).body == b"inside"


async def test_the_service_sees_the_request_as_it_came_but_for_hop_by_hop_headers(house: House) -> None:
    seen: list[bytes] = []
    _, host = await house.sandbox(answering(ok(), seen))
    sent = (
        "X-API-Key: e2b_1\nx-CASED: Kept\nX-Twice: 1\nX-Twice: 2\n"
        "E2b-Sandbox-Id: i9\nX-Forwarded-For: 9.9.9.9\n"
        "Connection: keep-alive, X-Private\nX-Private: 1\nKeep-Alive: timeout=5\nProxy-Connection: close\n"
        "TE: trailers, deflate\nUpgrade: h2c\n"
    )
    await (await house.client()).get(host, "/a%2Fb?c=%20#", sent)
    assert seen == [
        f"GET /a%2Fb?c=%20# HTTP/1.1\nHost: {host}\nX-API-Key: e2b_1\nx-CASED: Kept\nX-Twice: 1\nX-Twice: 2\n"
        "E2b-Sandbox-Id: i9\nX-Forwarded-For: 9.9.9.9\nTE: trailers\n\n".replace("\n", "\r\n").encode()
    ]


async def test_naming_a_header_in_connection_takes_neither_host_nor_framing_away(house: House) -> None:
    seen: list[bytes] = []
    _, host = await house.sandbox(answering(ok(), seen))
    client = await house.client()
    await client.send(
        f"POST / HTTP/1.1\nHost: {host}\nContent-Length: 2\nConnection: host, content-length\n\nhi"
    )
    await client.answer()
    assert seen[0].endswith(f"Host: {host}\r\nContent-Length: 2\r\n\r\nhi".encode())


async def test_the_api_learns_its_clients_address(house: House) -> None:
    seen: list[bytes] = []
    await house.api(answering(ok(), seen))
    client = await house.client()
    await client.get("localhost")
    await client.get("localhost", headers="X-Forwarded-For: 9.9.9.9\nConnection: x-forwarded-for\n")
    lines = [[x for x in request.split(b"\r\n") if x.startswith(b"X-Forw")] for request in seen]
    assert lines == [[b"X-Forwarded-For: 127.0.0.1"], [b"X-Forwarded-For: 9.9.9.9, 127.0.0.1"]]


async def test_a_target_in_absolute_form_becomes_origin_form_and_its_host_wins(house: House) -> None:
    seen: list[bytes] = []
    _, host = await house.sandbox(answering(ok(), seen))
    client = await house.client()
    await client.send(f"GET http://{host}?q=1 HTTP/1.1\nHost: api.example.org\n\n")
    await client.answer()
    assert seen == [f"GET /?q=1 HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()]


async def test_a_masked_host_is_what_the_service_sees(house: House) -> None:
    seen: list[bytes] = []
    _, host = await house.sandbox(answering(ok(), seen), route=Route("", mask_host="localhost:${PORT}"))
    await (await house.client()).get(host, headers="X-Forwarded-Host: forged\n")
    port = host.partition("-")[0]
    assert seen == [f"GET / HTTP/1.1\r\nHost: localhost:{port}\r\nX-Forwarded-Host: {host}\r\n\r\n".encode()]


async def test_https_ports_are_spoken_to_in_tls_that_nobody_signed(house: House, tmp_path: Path) -> None:
    _, host = await house.sandbox(answering(ok(b"secret")), ssl=self_signed(tmp_path))
    client = await house.client()
    plain = await client.get(host)
    assert (plain.status, plain.headers["content-type"]) == (502, "application/json; charset=utf-8")
    port = int(host.partition("-")[0])
    house.publish("i1", "127.0.0.2", https_ports=frozenset((port,)))
    assert [(await client.get(host)).body for _ in range(3)] == [b"secret"] * 3


def self_signed(directory: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "nobody")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = directory / "service.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    return context


async def test_a_chunked_body_keeps_its_chunks_and_trailers_both_ways(house: House) -> None:
    seen: list[bytes] = []
    body = b"3;x=y\r\nabc\r\n1\r\nd\r\n0\r\nX-Sum: 4\r\n\r\n"

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            seen.append(await reader.readuntil(b"X-Sum: 4\r\n\r\n"))
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n" + body)

    service, host = await house.sandbox(handle)
    client = await house.client()
    for _ in range(2):
        await client.send(f"POST / HTTP/1.1\nHost: {host}\nTransfer-Encoding: chunked\n\n")
        await client.send(body)
        assert b"Trailer: X-Sum\r\n" in await client.head()
        assert await client.reader.readexactly(len(body)) == body
    assert [request.endswith(b"\r\n\r\n" + body) for request in seen] == [True, True]
    assert service.connections == 1


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_without_a_body_ends_with_its_head(house: House, status: int) -> None:
    _, host = await house.sandbox(answering(f"HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\n".encode()))
    client = await house.client()
    for _ in range(2):
        assert (await client.get(host)).headers["content-length"] == "5"


async def test_head_is_answered_with_a_length_and_no_body(house: House) -> None:
    _, host = await house.sandbox(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"))
    client = await house.client()
    for _ in range(2):
        assert (await client.get(host, method="HEAD")).headers["content-length"] == "5"
    assert (await client.get("1-gone.example.org", method="HEAD")).status == 502
    assert (await client.get(host, method="HEAD")).status == 200


async def test_expect_continue_is_between_client_and_service(house: House) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
        writer.write(ok(await reader.readexactly(4)))

    _, host = await house.sandbox(handle)
    client = await house.client()
    await client.send(f"PUT / HTTP/1.1\nHost: {host}\nContent-Length: 4\nExpect: 100-continue\n\n")
    assert b"103 Early Hints\r\nLink: </x>\r\n" in await client.head()
    assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send("body")
    assert (await client.answer()).body == b"body"


async def test_http_1_0_clients_get_their_answer_and_the_end(house: House) -> None:
    seen: list[bytes] = []
    _, host = await house.sandbox(answering(b"HTTP/1.1 100 Continue\r\n\r\n" + ok(), seen))
    client = await house.client()
    await client.send(f"GET / HTTP/1.0\nHost: {host}\nConnection: keep-alive\n\n")
    answer = await client.answer()
    assert (answer.body, answer.headers["connection"]) == (b"hello", "close")
    assert await client.is_closed()
    assert seen[0].startswith(b"GET / HTTP/1.0\r\n")
    assert seen[0].endswith(b"\r\nConnection: close\r\n\r\n")


async def test_http_1_0_without_a_host_is_the_apis(house: House) -> None:
    await house.api(answering(ok(b"api")))
    client = await house.client()
    await client.send("GET /health HTTP/1.0\n\n")
    assert (await client.answer()).body == b"api"


async def test_a_body_that_only_the_end_ends_comes_whole(house: House) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 300_000)
        await writer.drain()

    _, host = await house.sandbox(handle)
    client = await house.client()
    answer = await client.get(host)
    assert (len(answer.body), answer.headers["connection"]) == (300_000, "close")


async def test_pipelined_requests_are_answered_one_after_the_other(house: House) -> None:
    _, host = await house.sandbox(answering(lambda request: ok(request.split(b" ")[1])))
    await house.api(answering(ok(b"api")))
    client = await house.client()
    hosts = [host, "localhost"] * 50
    await client.send("".join(f"\nGET /{i} HTTP/1.1\nHost: {h}\n\n" for i, h in enumerate(hosts)))
    bodies = [(await client.answer()).body for _ in hosts]
    assert bodies == [f"/{i}".encode() if h == host else b"api" for i, h in enumerate(hosts)]


async def test_a_pipelining_client_may_stop_sending_before_it_reads(house: House) -> None:
    _, host = await house.sandbox(answering(ok()))
    client = await house.client()
    await client.send(f"GET / HTTP/1.1\nHost: {host}\n\n" * 3)
    client.writer.write_eof()
    assert [(await client.answer()).status for _ in range(3)] == [200] * 3


async def test_connections_to_a_service_are_kept(house: House) -> None:
    service, host = await house.sandbox(answering(ok()))
    clients = [await house.client() for _ in range(2)]
    for _ in range(5):
        for client in clients:
            await client.get(host)
    assert service.connections == 1
    await asyncio.gather(*(client.get(host) for client in clients))
    assert service.connections == 2


async def test_a_kept_connection_is_given_up_after_a_while(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "IDLE_SECONDS", 0.05)
    service, host = await house.sandbox(answering(ok()))
    await (await house.client()).get(host)
    await until(lambda: service.ended == 1)


async def test_a_service_that_says_close_gets_a_new_connection(house: House) -> None:
    service, host = await house.sandbox(answering(ok(extra="Connection: close\r\n")))
    client = await house.client()
    for _ in range(2):
        assert "connection" not in (await client.get(host)).headers
    assert service.connections == 2


def closing_second_time() -> tuple[list[bytes], object]:
    """A service that answers once per connection, and closes when it reads a second request."""
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for last in (False, True):
            seen.append(await read_request(reader))
            if not last:
                writer.write(ok())

    return seen, handle


async def test_a_stale_connection_is_replaced_once_when_no_body_was_sent(house: House) -> None:
    seen, handle = closing_second_time()
    service, host = await house.sandbox(handle)  # type: ignore[arg-type]
    client = await house.client()
    assert [(await client.get(host)).status for _ in range(3)] == [200] * 3
    assert (service.connections, len(seen)) == (3, 5)


@pytest.mark.parametrize("body", ["", "abc"])
async def test_a_request_that_must_not_run_twice_is_not_repeated(house: House, body: str) -> None:
    seen, handle = closing_second_time()
    _, host = await house.sandbox(handle)  # type: ignore[arg-type]
    client = await house.client()
    await client.get(host)
    await client.send(f"POST / HTTP/1.1\nHost: {host}\nContent-Length: {len(body)}\n\n{body}")
    answer = await client.answer()
    assert (answer.status, len(seen)) == (502, 2)
    assert b"closed the connection without an answer" in answer.body
    assert (await client.get(host)).status == 200


async def test_an_address_leased_again_inherits_no_connection(house: House) -> None:
    service, host = await house.sandbox(answering(ok()), "i1")
    client = await house.client()
    await client.get(host)
    house.publish("i2", "127.0.0.2")
    await client.get(host.replace("i1", "i2"))
    assert service.connections == 2


async def test_bytes_that_nobody_asked_for_are_never_taken_for_an_answer(house: House) -> None:
    _, host = await house.sandbox(answering(ok() + ok(b"forged")))
    client = await house.client()
    assert [(await client.get(host)).body for _ in range(3)] == [b"hello"] * 3


async def test_an_early_answer_comes_through_while_the_body_is_still_being_sent(house: House) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await writer.drain()

    _, host = await house.sandbox(handle)
    client = await house.client()
    await client.send(f"POST / HTTP/1.1\nHost: {host}\nContent-Length: 100000000\n\n")
    await send_until_refused(client)
    assert (await client.answer()).body == b"big"


async def test_a_refusal_reaches_a_client_that_is_still_sending(house: House) -> None:
    client = await house.client()
    await client.send("POST / HTTP/1.1\nHost: 1-gone.example.org\nContent-Length: 100000000\n\n")
    await send_until_refused(client)
    answer = await client.answer()
    assert (answer.status, answer.headers["connection"]) == (502, "close")


async def send_until_refused(client: Client) -> None:
    for _ in range(40):
        client.writer.write(bytes(100_000))
        await asyncio.wait_for(client.writer.drain(), 5)
