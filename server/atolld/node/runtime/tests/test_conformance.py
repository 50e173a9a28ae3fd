"""What every driver of containers must do. Run against the double and, on a machine with root, real runsc."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Protocol

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from atoll_wire import process
from atolld.model.errors import GuestUnresponsive, HostError
from atolld.model.sandbox import Resources
from atolld.node.doubles import FakeMachine
from atolld.node.guest import GuestClient
from atolld.node.launcher import container_in
from atolld.node.runtime.fake import FakeRuntime
from atolld.node.runtime.protocol import (
    CHECKPOINT_FILES,
    LAYER_FILES,
    CheckpointUnusable,
    ContainerSpec,
    Runtime,
    Sharing,
)
from atolld.node.runtime.runsc import RunscRuntime
from atolld.node.slots import KernelSlots, Slot, Slots
from atolld.node.verify import hash_file

RESOURCES = Resources(vcpu=1, memory_mib=256, disk_mib=64)


class Rig(Protocol):
    runtime: Runtime
    guest: GuestClient

    async def spec(self) -> ContainerSpec: ...

    async def restore(self, spec: ContainerSpec, image: Path) -> None: ...


class _Rig:
    """Makes containers in slots, and clears up behind a test."""

    def __init__(
        self, runtime: Runtime, slots: Slots, guest: GuestClient, root: Path, *, shared: bool = False
    ) -> None:
        self.runtime = runtime
        self._shared = shared
        self.guest = guest
        self._slots = slots
        self._root = root
        self._leased: list[Slot] = []

    async def spec(self) -> ContainerSpec:
        slot = await self._slots.lease(RESOURCES)
        self._leased.append(slot)
        return container_in(slot, self._root, RESOURCES, self.guest)

    async def restore(self, spec: ContainerSpec, image: Path) -> None:
        pages = image / CHECKPOINT_FILES[2]
        sharing = Sharing(hash_file(pages)) if self._shared and pages.is_file() else None
        await self.runtime.restore(spec, image, sharing)

    async def close(self) -> None:
        for slot in self._leased:
            await self.runtime.destroy(slot.name)
            await self._slots.release(slot)
        await self._slots.close(keep=False)


@pytest.fixture(
    params=[
        "fake",
        pytest.param("runsc", marks=pytest.mark.machine),
        pytest.param("runsc, shared pages", marks=pytest.mark.machine),
    ]
)
async def rig(
    request: pytest.FixtureRequest, short_home: Path, machine_network: IPv4Network
) -> AsyncIterator[Rig]:
    key = Ed25519PrivateKey.generate()
    if request.param == "fake":
        machine = FakeMachine(short_home, FakeRuntime(key.public_key()))
        made = _Rig(machine.runtime, machine.slots, GuestClient(key, machine.guest.port), Path("root.erofs"))
    else:
        runtime = RunscRuntime(request.getfixturevalue("runsc_binary"), short_home / "run" / "runsc")
        slots = KernelSlots(machine_network, short_home / "run" / "sandboxes")
        shared = request.param != "runsc"
        if shared and not await runtime.patch_level():
            pytest.skip("this runsc is not ours")
        made = _Rig(runtime, slots, GuestClient(key), request.getfixturevalue("tiny_root"), shared=shared)
        await slots.open(frozenset())
    yield made
    await made.close()


async def answers(rig: Rig, spec: ContainerSpec, timeout: float = 10) -> bool:
    try:
        (await rig.guest.wait_healthy(str(spec.link.address.ip), timeout)).close()
    except GuestUnresponsive:
        return False
    return True


async def started(rig: Rig) -> ContainerSpec:
    spec = await rig.spec()
    await rig.runtime.create(spec)
    await rig.runtime.start(spec)
    assert await answers(rig, spec)
    return spec


async def checkpointed(rig: Rig, directory: Path, *, keep_running: bool) -> ContainerSpec:
    spec = await started(rig)
    await asyncio.to_thread(directory.mkdir)
    await rig.runtime.checkpoint(spec.name, directory, keep_running=keep_running)
    return spec


async def test_a_blank_does_not_answer_until_it_is_started(rig: Rig) -> None:
    spec = await rig.spec()
    await rig.runtime.create(spec)
    assert not await answers(rig, spec, timeout=0.2)
    await rig.runtime.start(spec)
    assert await answers(rig, spec)


async def test_it_names_its_hash_and_the_processor_features(rig: Rig) -> None:
    assert len(await rig.runtime.sha256()) == 64
    assert "sse2" in await rig.runtime.cpu_features()


async def test_a_container_is_listed_while_it_lives(rig: Rig) -> None:
    spec = await started(rig)
    assert spec.name in await rig.runtime.list()
    await rig.runtime.destroy(spec.name)
    assert spec.name not in await rig.runtime.list()
    assert not await answers(rig, spec, timeout=0.2)


async def test_destroy_is_idempotent_and_knows_no_state(rig: Rig) -> None:
    blank = await rig.spec()
    await rig.runtime.create(blank)
    for _ in range(2):
        await rig.runtime.destroy(blank.name)
    await rig.runtime.destroy("never-was")


async def test_a_frozen_container_stands_still_and_goes_on_after_the_thaw(rig: Rig) -> None:
    spec = await started(rig)
    for _ in range(3):
        await rig.runtime.freeze(spec.name)
        assert not await answers(rig, spec, timeout=0.2)
        await rig.runtime.thaw(spec.name)
        assert await answers(rig, spec)


async def test_a_checkpoint_is_restored_many_times_side_by_side(rig: Rig, tmp_path: Path) -> None:
    image = tmp_path / "image"
    first = await checkpointed(rig, image, keep_running=False)
    assert all((image / name).stat().st_size > 0 for name in CHECKPOINT_FILES)
    await rig.runtime.destroy(first.name)
    clones = [await rig.spec() for _ in range(3)]
    for clone in clones:
        await rig.runtime.create(clone)
        await rig.restore(clone, image)
    assert all([await answers(rig, clone) for clone in clones])


async def test_a_container_may_go_on_after_its_checkpoint(rig: Rig, tmp_path: Path) -> None:
    spec = await checkpointed(rig, tmp_path / "image", keep_running=True)
    assert await answers(rig, spec)


async def test_freezing_and_checkpointing_alternate(rig: Rig, tmp_path: Path) -> None:
    spec = await started(rig)
    for round_number in range(3):
        await rig.runtime.freeze(spec.name)
        await rig.runtime.thaw(spec.name)
        image = tmp_path / str(round_number)
        image.mkdir()
        await rig.runtime.checkpoint(spec.name, image, keep_running=False)
        await rig.runtime.destroy(spec.name)
        spec = await rig.spec()
        await rig.runtime.create(spec)
        await rig.restore(spec, image)
        assert await answers(rig, spec)


async def test_wait_returns_when_the_container_is_destroyed(rig: Rig) -> None:
    spec = await started(rig)
    waiting = asyncio.create_task(rig.runtime.wait(spec.name))
    await asyncio.sleep(0)
    assert not waiting.done()
    await rig.runtime.destroy(spec.name)
    await asyncio.wait_for(waiting, 5)


async def test_wait_for_one_that_is_gone_returns_at_once(rig: Rig) -> None:
    assert await asyncio.wait_for(rig.runtime.wait("never-was"), 5) == ""


async def test_a_missing_checkpoint_is_an_error_that_leaves_a_removable_container(
    rig: Rig, tmp_path: Path
) -> None:
    spec = await rig.spec()
    await rig.runtime.create(spec)
    with pytest.raises(HostError):
        await rig.restore(spec, tmp_path)
    await rig.runtime.destroy(spec.name)
    assert spec.name not in await rig.runtime.list()


async def test_a_checkpoint_of_another_kind_of_container_is_refused_as_such(rig: Rig, tmp_path: Path) -> None:
    image = tmp_path / "image"
    await checkpointed(rig, image, keep_running=False)
    spec = await rig.spec()
    other = replace(spec, args=(*spec.args, "--more"))
    await rig.runtime.create(other)
    with pytest.raises(CheckpointUnusable):
        await rig.restore(other, image)


async def test_calls_to_a_container_that_is_gone_are_errors(rig: Rig, tmp_path: Path) -> None:
    with pytest.raises(HostError):
        await rig.runtime.freeze("never-was")
    with pytest.raises(HostError):
        await rig.runtime.checkpoint("never-was", tmp_path, keep_running=False)


async def test_commands_run_inside(rig: Rig) -> None:
    spec = await started(rig)
    code, _ = await rig.guest.run_process(
        str(spec.link.address.ip), process.Start("/bin/probe", ["facts"]), "root"
    )
    assert code == 0


async def test_a_saved_layer_is_there_after_a_cold_start(rig: Rig, tmp_path: Path) -> None:
    layer, again, image = (tmp_path / name for name in ("layer", "again", "image"))
    for directory in (layer, again, image):
        directory.mkdir()
    spec = await started(rig)
    await rig.guest.write_file(str(spec.link.address.ip), "/kept.txt", b"of before")
    await rig.runtime.freeze(spec.name)
    await rig.runtime.save_layer(spec.name, layer)
    await rig.runtime.thaw(spec.name)
    assert await answers(rig, spec)
    cold = replace(await rig.spec(), layer=layer)
    await rig.runtime.create(cold)
    await rig.runtime.start(cold)
    assert await answers(rig, cold)
    await rig.runtime.save_layer(cold.name, again)
    saved = [await asyncio.to_thread((again / name).read_bytes) for name in LAYER_FILES]
    assert any(b"of before" in content for content in saved)
    # A checkpoint of it fits any blank.
    await rig.runtime.checkpoint(cold.name, image, keep_running=False)
    await rig.runtime.destroy(cold.name)
    warm = await rig.spec()
    await rig.runtime.create(warm)
    await rig.runtime.restore(warm, image)
    assert await answers(rig, warm)
