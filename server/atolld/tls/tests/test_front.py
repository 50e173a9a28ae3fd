"""A real Caddy before a double of the front door."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from atolld.config import Config
from atolld.model.errors import HostError, InvalidRequest
from atolld.tls import caddy, examine_https, open_front
from atolld.tls.authority import Authority
from atolld.tls.front import TlsFront, announcement_file, bundle_file

from .conftest import House, Upstream, free_port

HEAD = b"GET /a//b?x=%2F;y HTTP/1.1\r\nHost: 3000-iabc.atoll.localhost:8443\r\n\r\n"


async def test_a_request_reaches_the_front_door_as_it_came(house: House) -> None:
    lines = (await house.head_told(HEAD)).decode().splitlines()
    assert lines[0] == "GET /a//b?x=%2F;y HTTP/1.1"
    assert "Host: 3000-iabc.atoll.localhost:8443" in lines
    assert "X-Forwarded-Proto: https" in lines
    assert not [line for line in lines if line.lower().startswith(("accept-encoding", "user-agent"))]


@pytest.mark.parametrize("host", ["atoll.localhost", "api.atoll.localhost", "49983-iabc.atoll.localhost"])
async def test_http_2_is_spoken_on_every_name(house: House, host: str) -> None:
    context = ssl.create_default_context(cafile=bundle_file(house.config))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    async with httpx.AsyncClient(verify=context, http2=True) as client:
        answer = await client.get(
            f"https://[::1]:{house.config.tls.port}/",
            headers={"Host": host},
            extensions={"sni_hostname": host},
        )
    assert answer.http_version == "HTTP/2"
    assert f"Host: {host}" in answer.text


async def test_a_name_of_others_is_not_vouched_for(house: House) -> None:
    for name in ("example.org", "a.b.atoll.localhost"):
        with pytest.raises(ssl.SSLError):
            await house.connect(name)


@pytest.mark.parametrize("length", [b"Transfer-Encoding: chunked", b"Content-Length: 100"])
async def test_a_stream_is_passed_on_as_it_comes(house: House, length: bytes) -> None:
    go_on = asyncio.Event()

    async def trickle(_: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n\r\n5\r\nfirst\r\n")
        await go_on.wait()

    house.upstream.answer = trickle
    reader, writer = await house.connect()
    writer.write(HEAD)
    await asyncio.wait_for(reader.readuntil(b"first"), 5)
    go_on.set()
    writer.close()


async def test_a_client_that_leaves_is_told_upstream_at_once(house: House) -> None:
    async def endless(_: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        assert await reader.read(1) == b""
        house.upstream.lost.set()

    house.upstream.answer = endless
    reader, writer = await house.connect()
    writer.write(HEAD)
    await reader.readuntil(b"first")
    writer.close()
    await asyncio.wait_for(house.upstream.lost.wait(), 5)


async def _echo(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    assert b"Upgrade: websocket" in head
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    while data := await reader.read(100):
        writer.write(data)


async def test_websockets_live_on_while_a_new_certificate_is_loaded(house: House) -> None:
    house.upstream.answer = _echo
    reader, writer = await house.connect()
    writer.write(HEAD[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    old = writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]

    assert not await house.front.renew()
    Authority(house.config.home / "tls/atoll.localhost", "atoll.localhost").leaf_file.unlink()
    assert await house.front.renew()

    _, other = await house.connect()
    assert other.get_extra_info("ssl_object").getpeercert()["serialNumber"] != old
    writer.write(b"still here")
    assert await asyncio.wait_for(reader.readexactly(10), 5) == b"still here"
    writer.close()
    other.close()


async def test_a_damaged_certificate_is_not_loaded(house: House) -> None:
    leaf = house.config.home / "tls/atoll.localhost/server.pem"
    leaf.write_text("nonsense")
    with pytest.raises(HostError):
        await house.front.renew()
    await house.head_told(HEAD)


async def _until(done: Callable[[], bool]) -> None:
    while not done():  # noqa: ASYNC110 (there is nothing to wait for but time)
        await asyncio.sleep(0.02)


async def test_a_caddy_that_dies_is_started_again(house: House) -> None:
    died = house.front.pid
    assert died is not None
    os.kill(died, signal.SIGKILL)
    await asyncio.wait_for(_until(lambda: house.front.pid != died), 10)
    await house.head_told(HEAD)


async def test_it_says_where_it_is_until_it_closes(house: House) -> None:
    said = json.loads(announcement_file(house.config).read_text())
    assert said["domain"] == house.config.tls.domain
    assert said["bundle"] == str(bundle_file(house.config))
    assert said["root"] == str(house.config.home / "tls/atoll.localhost/root.pem")
    await house.front.close()
    assert not announcement_file(house.config).exists()
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await house.connect()
    await house.front.close()


async def test_certificate_files_of_the_operator_are_served(
    house: House, tmp_path: Path, upstream: Upstream
) -> None:
    await house.front.close()
    own = Authority(tmp_path / "own", "sandbox.example.org")
    own.ensure()
    files = replace(
        house.config.tls, name="sandbox.example.org", certificate=own.leaf_file, key=own.leaf_file
    )
    config = replace(house.config, tls=replace(files, host="127.0.0.1", domain="sandbox.example.org"))
    front = await open_front(config, {})
    assert front is not None
    context = ssl.create_default_context(cafile=own.root_file)
    _, writer = await asyncio.open_connection(
        "127.0.0.1", config.tls.port, ssl=context, server_hostname="api.sandbox.example.org"
    )
    writer.close()
    assert json.loads(announcement_file(config).read_text()) == {
        "domain": "sandbox.example.org",
        "bundle": None,
        "root": None,
    }
    await front.close()


async def test_certificate_files_that_do_not_fit_are_an_error_in_caddys_words(
    house: House, tmp_path: Path
) -> None:
    await house.front.close()
    (tmp_path / "bad.pem").write_text("nonsense")
    files = replace(house.config.tls, certificate=tmp_path / "bad.pem", key=tmp_path / "bad.pem")
    with pytest.raises(HostError, match="PEM"):
        await open_front(replace(house.config, tls=files), {})


async def test_the_wheels_caddy_has_no_dns_provider(house: House, tmp_path: Path) -> None:
    await house.front.close()
    (tmp_path / "acme.toml").write_text('[challenges.dns.provider]\nname = "cloudflare"\n')
    with pytest.raises(InvalidRequest, match="xcaddy"):
        await open_front(
            replace(house.config, tls=replace(house.config.tls, acme=tmp_path / "acme.toml")), {}
        )


async def test_health_says_what_is_and_what_could_be(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def seen(config: Config = house.config) -> tuple[bool, str]:
        health = await examine_https(config)
        assert health.is_well == (not health.mend)
        return health.is_well, health.detail

    resolve = asyncio.get_running_loop().getaddrinfo

    async def as_myhostname(host: str, *rest: Any, **options: Any) -> Any:
        return await resolve("127.0.0.1" if str(host).endswith(".localhost") else host, *rest, **options)

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", as_myhostname)
    well, detail = await seen()
    assert (well, "answered 200" in detail) == (False, True)  # our double does not know /health
    await house.front.close()
    assert (await seen())[0]
    tls = house.config.tls
    assert (await seen(replace(house.config, tls=replace(tls, wanted=False))))[1] == "is off (ATOLL_TLS=off)"
    assert not (await seen(replace(house.config, tls=replace(tls, name="localhost"))))[0]
    assert not (await seen(replace(house.config, tls=replace(tls, port=house.config.port))))[0]


async def test_a_taken_port_is_an_error_when_https_was_asked_for_and_none_when_not(settings: Config) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", settings.tls.port))
        other.listen()
        with pytest.raises(HostError, match=f"{settings.tls.port} is taken"):
            await open_front(settings, {})
        assert await open_front(replace(settings, tls=replace(settings.tls, wanted=None)), {}) is None
    assert not announcement_file(settings).exists()


def _no_caddy(config: Config) -> None:
    del config


async def test_the_server_comes_up_without_caddy(settings: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atolld.tls.front.find_caddy", _no_caddy)
    assert await open_front(replace(settings, tls=replace(settings.tls, wanted=None)), {}) is None
    assert await open_front(replace(settings, tls=replace(settings.tls, wanted=False)), {}) is None
    with pytest.raises(HostError, match="Caddy, which is not installed"):
        await open_front(settings, {})


async def test_caddy_does_not_outlive_a_server_that_is_killed(house: House) -> None:
    await house.front.close()
    script = """
import asyncio, sys
from pathlib import Path
from typing import Any
from atolld.config import Config, TlsSettings
from atolld.tls import open_front
async def main():
    tls = TlsSettings(wanted=True, port=int(sys.argv[2]))
    front = await open_front(Config(home=Path(sys.argv[1]), tls=tls))
    print(front.pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    arguments = [sys.executable, "-c", script, str(house.config.home), str(house.config.tls.port)]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(  # noqa: ASYNC220 (it must be able to outlive this loop)
        arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environ
    ) as server:
        assert server.stdout is not None
        said = b"-"
        while said and not said.strip().isdigit():  # its log goes there too
            said = await asyncio.to_thread(server.stdout.readline)
        watched = os.pidfd_open(int(said))
        server.kill()
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(watched, gone.set)
    try:
        await asyncio.wait_for(gone.wait(), 5)
    finally:
        asyncio.get_running_loop().remove_reader(watched)
        os.close(watched)


async def test_a_stream_may_be_silent_for_longer_than_any_time_limit(
    settings: Config, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caddy, "_IDLE", "300ms")
    speak = asyncio.Event()

    async def quiet(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        await speak.wait()
        writer.write(b"hello")

    upstream.answer = quiet
    front = TlsFront(settings, {})
    await front.open()
    try:
        reader, writer = await House(front, settings, upstream).connect()
        writer.write(HEAD)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        await asyncio.sleep(2)
        speak.set()
        assert await reader.readexactly(5) == b"hello"
        writer.close()
    finally:
        await front.close()


async def test_a_successor_goes_on_with_the_same_caddy_and_its_connections(
    settings: Config, upstream: Upstream
) -> None:
    go_on = asyncio.Event()

    async def slow(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    upstream.answer = slow
    front = TlsFront(settings, {})
    await front.open()
    reader, writer = await House(front, settings, upstream).connect()
    writer.write(HEAD)
    caddy_pid = front.pid
    successor = await open_front(settings, {}, await front.pass_on())
    await front.close()
    assert successor is not None
    try:
        assert successor.pid == caddy_pid
        go_on.set()
        assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200")
        writer.close()
        assert caddy_pid is not None
        os.kill(caddy_pid, signal.SIGKILL)
        await asyncio.wait_for(_until(lambda: successor.pid != caddy_pid), 10)
    finally:
        await successor.close()


async def test_a_successor_with_other_settings_starts_a_caddy_of_its_own(
    settings: Config, upstream: Upstream
) -> None:
    front = TlsFront(settings, {})
    await front.open()
    port = free_port()
    other = replace(settings, tls=replace(settings.tls, port=port, domain=f"atoll.localhost:{port}"))
    before = front.pid
    successor = await open_front(other, {}, await front.pass_on())
    assert successor is not None
    try:
        assert successor.pid != before
        assert b"Host:" in await House(successor, other, upstream).head_told(HEAD)
    finally:
        await successor.close()


async def test_a_successor_that_cannot_open_leaves_caddy_to_its_predecessor(
    settings: Config, upstream: Upstream
) -> None:
    front = TlsFront(settings, {})
    await front.open()
    caddy_pid = front.pid
    kept = await front.pass_on()
    missing = replace(settings, tls=replace(settings.tls, certificate=Path("/no"), key=Path("/no")))
    with pytest.raises(HostError, match="/no is missing"):
        await open_front(missing, {}, [os.dup(descriptor) for descriptor in kept])
    again = await open_front(settings, {}, kept)
    assert again is not None
    try:
        assert again.pid == caddy_pid
        assert b"Host:" in await House(again, settings, upstream).head_told(HEAD)
    finally:
        await again.close()


async def test_a_caddy_that_two_servers_hold_is_stopped_by_one(settings: Config, upstream: Upstream) -> None:
    front = TlsFront(settings, {})
    await front.open()
    kept = await front.pass_on()
    off = replace(settings, tls=replace(settings.tls, wanted=False))
    await asyncio.wait_for(open_front(off, {}, [os.dup(descriptor) for descriptor in kept]), 5)
    again = await open_front(settings, {}, kept)
    assert again is not None
    try:
        assert b"Host:" in await House(again, settings, upstream).head_told(HEAD)
    finally:
        await again.close()
