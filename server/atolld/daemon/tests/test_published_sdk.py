"""The published Python SDK, unmodified, against the whole server on a fake machine."""

from __future__ import annotations

import asyncio
import functools
import http.client
import json
import socket
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from e2b import (
    AuthenticationException,
    RateLimitException,
    Sandbox,
    SandboxException,
    SandboxQuery,
    SandboxState,
)
from e2b.exceptions import NotFoundException

from atolld.daemon.serve import open_skins

T = TypeVar("T")


@pytest.fixture
async def url(house: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[str]:
    house.config.home.joinpath("run").mkdir(exist_ok=True)
    config = replace(house.config, port=0)
    async with open_skins(config, house) as skins:
        await skins.accept(config)
        address = f"http://127.0.0.1:{skins.door.port}"
        monkeypatch.setenv("E2B_API_URL", address)
        monkeypatch.setenv("E2B_SANDBOX_URL", address)
        monkeypatch.setenv("E2B_API_KEY", house.key)
        yield address


async def call(function: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """The SDK blocks, the server is on this loop."""
    return await asyncio.to_thread(functools.partial(function, *arguments, **named))


async def test_create_info_list_connect_kill(url: str, house: Any) -> None:
    sandbox = await call(Sandbox.create, "base", timeout=120, metadata={"a b": "c&d=é"}, envs={"X": "1"})
    info = await call(sandbox.get_info)
    assert info.sandbox_id == sandbox.sandbox_id
    assert info.name == "base"
    assert info.metadata == {"a b": "c&d=é"}
    assert info.state == SandboxState.RUNNING
    assert info.end_at - info.started_at == timedelta(seconds=120)
    assert sandbox.get_host(3000) == f"3000-{sandbox.sandbox_id}.{house.config.domain}"
    again = await call(Sandbox.connect, sandbox.sandbox_id)
    assert again.sandbox_id == sandbox.sandbox_id
    pages = Sandbox.list(query=SandboxQuery(metadata={"a b": "c&d=é"}, state=[SandboxState.RUNNING]))
    assert [item.sandbox_id for item in await call(pages.next_items)] == [sandbox.sandbox_id]
    assert not pages.has_next
    await call(sandbox.set_timeout, 60)
    assert (await call(sandbox.get_info)).end_at - house.clock.now() == timedelta(seconds=60)
    assert await call(sandbox.kill)
    assert not await call(sandbox.kill)
    with pytest.raises(NotFoundException, match=sandbox.sandbox_id):
        await call(Sandbox.connect, sandbox.sandbox_id)
    with pytest.raises(NotFoundException):
        await call(sandbox.set_timeout, 10)
    with pytest.raises(NotFoundException):
        await call(sandbox.get_info)


async def test_without_a_timeout_it_lives_five_minutes(url: str) -> None:
    info = await call((await call(Sandbox.create)).get_info)
    assert info.end_at - info.started_at == timedelta(seconds=300)


async def test_errors_become_the_sdks_own(url: str, house: Any) -> None:
    with pytest.raises(AuthenticationException, match="Invalid API key"):
        await call(Sandbox.create, api_key="e2b_" + "0" * 40)
    with pytest.raises(SandboxException, match="Timeout must be greater than 0"):
        await call(Sandbox.create, timeout=0)
    with pytest.raises(SandboxException, match="Timeout cannot be greater than 24 hours"):
        await call(Sandbox.create, timeout=10**6)
    with pytest.raises(SandboxException, match="nothing"):
        await call(Sandbox.create, "nothing")
    with pytest.raises(NotFoundException):
        await call(Sandbox.connect, "i" + "0" * 20)
    assert not await call(Sandbox.kill, "i" + "0" * 20)


async def test_a_failed_start_is_told_and_not_repeated(url: str, house: Any) -> None:
    house.machine.slots.fail["lease"] = 3
    with pytest.raises(SandboxException, match="told to fail"):
        await call(Sandbox.create)
    assert house.machine.slots.fail["lease"] == 2


async def test_the_quota_is_told(open_house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    house = await open_house(max_sandboxes=1)
    house.config.home.joinpath("run").mkdir(exist_ok=True)
    config = replace(house.config, port=0)
    async with open_skins(config, house) as skins:
        await skins.accept(config)
        monkeypatch.setenv("E2B_API_URL", f"http://127.0.0.1:{skins.door.port}")
        monkeypatch.setenv("E2B_API_KEY", house.key)
        await call(Sandbox.create)
        with pytest.raises(RateLimitException, match=r"maximum number of concurrent E2B sandboxes \(1\)"):
            await call(Sandbox.create)


async def test_pages_of_the_sdk(url: str) -> None:
    made = {(await call(Sandbox.create)).sandbox_id for _ in range(3)}
    pages = Sandbox.list(limit=2)
    first = await call(pages.next_items)
    assert (len(first), pages.has_next) == (2, True)
    second = await call(pages.next_items)
    assert (len(second), pages.has_next) == (1, False)
    assert {item.sandbox_id for item in first + second} == made


async def test_a_body_of_100_mb_is_refused_before_it_is_sent(url: str, house: Any) -> None:
    def send() -> tuple[int, Any]:
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
        connection.putrequest("POST", "/v2/sandboxes")
        connection.putheader("X-API-Key", house.key)
        connection.putheader("Content-Length", str(100 << 20))
        connection.endheaders(b"[" * (1 << 16))
        with connection.getresponse() as response:
            return response.status, json.loads(response.read())

    status, body = await call(send)
    assert (status, body["code"]) == (413, 413)


async def test_a_client_that_sends_all_of_100_mb_reads_the_refusal(url: str, house: Any) -> None:
    def send() -> int:
        host, port = url.removeprefix("http://").split(":")
        head = f"POST /v2/sandboxes HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {house.key}\r\n"
        with socket.create_connection((host, int(port)), timeout=20) as client:
            client.sendall(f"{head}Content-Length: {100 << 20}\r\n\r\n".encode())
            for _ in range(100):
                client.sendall(bytes(1 << 20))
            return int(client.recv(4096).split()[1])

    assert await call(send) == 413
