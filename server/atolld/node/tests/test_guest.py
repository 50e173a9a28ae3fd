"""The client against the double's daemon: signatures, kept connections, failures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from atoll_wire import process
from atolld.model.errors import GuestUnresponsive
from atolld.model.sandbox import Identity, Resources, SandboxId
from atolld.node.doubles import FakeMachine
from atolld.node.guest import GuestClient, init_body
from atolld.node.runtime.fake import FakeContainer
from atolld.node.runtime.protocol import ContainerSpec


@pytest.fixture
async def container(machine: FakeMachine, tmp_path: Path) -> AsyncIterator[FakeContainer]:
    slot = await machine.slots.lease(Resources())
    args = ("envd", "--port", str(machine.guest.port))
    spec = ContainerSpec(slot.name, slot.directory, tmp_path, Resources(), slot.link, slot.cgroup_path, args)
    await machine.runtime.create(spec)
    await machine.runtime.start(spec)
    yield machine.runtime.containers[slot.name]
    await machine.runtime.destroy(slot.name)
    await machine.slots.release(slot)


def address_of(container: FakeContainer) -> str:
    return str(container.spec.link.address.ip)


async def test_init_is_signed_and_never_with_the_same_time_twice(
    machine: FakeMachine, container: FakeContainer
) -> None:
    await asyncio.gather(*(machine.guest.init(address_of(container), {str(n): n}) for n in range(5)))
    assert container.last_init == {str(n): n for n in range(5)}


async def test_another_hosts_key_is_refused(machine: FakeMachine, container: FakeContainer) -> None:
    stranger = GuestClient(Ed25519PrivateKey.generate(), machine.guest.port)
    with pytest.raises(GuestUnresponsive, match="401"):
        await stranger.init(address_of(container), {})


async def test_a_kept_connection_that_broke_is_replaced(
    machine: FakeMachine, container: FakeContainer
) -> None:
    kept = await machine.guest.wait_healthy(address_of(container))
    kept.close()
    await machine.guest.init(address_of(container), {"a": 1}, kept)
    assert container.last_init == {"a": 1}


async def test_files_and_commands_arrive(machine: FakeMachine, container: FakeContainer) -> None:
    await machine.guest.write_file(address_of(container), "/etc/with space", b"x")
    assert container.files == {"/etc/with space": b"x"}
    start = process.Start("sh", ("-c", "true"), tag="_system")
    assert await machine.guest.start_process(address_of(container), start, "user") == 7
    assert await machine.guest.run_process(address_of(container), start, "user") == (0, "")
    assert container.commands == [start, start]


async def test_a_daemon_that_never_answers_is_an_error_that_says_so(machine: FakeMachine) -> None:
    with pytest.raises(GuestUnresponsive, match="did not answer within"):
        await machine.guest.wait_healthy("127.0.0.9", timeout=0.05)
    with pytest.raises(GuestUnresponsive):
        await machine.guest.init("127.0.0.9", {})
    with pytest.raises(GuestUnresponsive):
        await machine.guest.run_process("127.0.0.9", process.Start("true"), "user")


def test_a_clone_without_a_token_clears_the_last_ones() -> None:
    identity = Identity(SandboxId("i1"), "t", "b", "team")
    body = init_body(identity, "user", "/home/user")
    assert body["accessToken"] == ""
    assert body["defaultUser"] == "user"
    assert body["entropy"] != init_body(identity)["entropy"]
