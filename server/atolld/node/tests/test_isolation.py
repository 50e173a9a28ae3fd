"""Clones that share the pages of one checkpoint never see each other's: every generation, against a model.

`stress/main.c` changes its memory in all the ways there are, and checks it. It is checkpointed while it runs,
and goes on in clones, in clones of a clone's delta, in a delta of that, and in one that stands alone again.
``ATOLL_STRESS_SECONDS``: how long it runs in all, 30 unless told; an hour after a change of our patches.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from atoll_wire import process
from atolld.model.errors import HostError
from atolld.model.sandbox import Resources
from atolld.node.guest import GuestClient
from atolld.node.launcher import container_in
from atolld.node.runtime.control_socket import call
from atolld.node.runtime.protocol import CHECKPOINT_FILES, ContainerSpec, Sharing
from atolld.node.runtime.runsc import RunscRuntime
from atolld.node.runtime.state_files import socket_path
from atolld.node.slots import KernelSlots, Slot
from atolld.node.verify import hash_file

SECONDS = float(os.environ.get("ATOLL_STRESS_SECONDS") or 30)
RESOURCES = Resources(vcpu=2, memory_mib=384, disk_mib=64)
_STAGES = 4

pytestmark = [pytest.mark.machine, pytest.mark.timeout(SECONDS * 2 + 240)]


@dataclass(frozen=True, slots=True)
class Image:
    """A checkpoint, and the pages files that it is a delta on."""

    directory: Path
    bases: dict[str, Path] = field(default_factory=dict[str, Path])

    @property
    def pages(self) -> Path:
        return self.directory / CHECKPOINT_FILES[2]

    @property
    def chain(self) -> dict[str, Path]:
        """What a delta of its clones needs."""
        return {**self.bases, hash_file(self.pages): self.pages}


class Lab:
    def __init__(
        self, runtime: RunscRuntime, state: Path, slots: KernelSlots, guest: GuestClient, root: Path
    ) -> None:
        self.runtime = runtime
        self._state = state
        self._slots = slots
        self._guest = guest
        self._root = root
        self._leased: list[Slot] = []

    async def blank(self) -> ContainerSpec:
        slot = await self._slots.lease(RESOURCES)
        self._leased.append(slot)
        spec = container_in(slot, self._root, RESOURCES, self._guest)
        await self.runtime.create(spec)
        await self._slots.give_headroom(slot, RESOURCES)
        return spec

    async def begin(self) -> ContainerSpec:
        """One in which the program runs."""
        spec = await self.blank()
        await self.runtime.start(spec)
        await self._wait_healthy(spec)
        await self._guest.start_process(_address(spec), process.Start("/bin/stress", []), "root")
        await self.watch([spec], 1)
        return spec

    async def clone(self, image: Image, *, shared: bool = True) -> ContainerSpec:
        spec = await self.blank()
        sharing = Sharing(hash_file(image.pages), image.bases) if shared else None
        await self.runtime.restore(spec, image.directory, sharing)
        await self._wait_healthy(spec)
        return spec

    async def restore_by_hand(self, spec: ContainerSpec, image: Image, flags: int) -> None:
        """Past ``RunscRuntime``, which opens no file that could be written."""
        options = {"HavePagesFile": True, "ShareID": hash_file(image.pages), "CowUnit": 4096, "CowMax": 4096}
        files = [os.open(image.directory / name, flags) for name in CHECKPOINT_FILES]
        try:
            await call(socket_path(self._state, spec.name), "containerManager.Restore", options, files, 60)
        finally:
            for file in files:
                os.close(file)

    async def watch(self, specs: Sequence[ContainerSpec], seconds: float) -> None:
        """Fails when the program in one of them found anything wrong, or did nothing."""
        before = [await self._rounds(spec) for spec in specs]
        await asyncio.sleep(seconds)
        async with asyncio.timeout(60):
            for spec, least in zip(specs, before, strict=True):
                while await self._rounds(spec) <= least:  # noqa: ASYNC110 (the guest announces nothing)
                    await asyncio.sleep(0.2)

    async def destroy(self, specs: Sequence[ContainerSpec]) -> None:
        for spec in specs:
            await self.runtime.destroy(spec.name)

    async def close(self) -> None:
        for slot in self._leased:
            await self.runtime.destroy(slot.name)
            await self._slots.release(slot)
        await self._slots.close(keep=False)

    async def _rounds(self, spec: ContainerSpec) -> int:
        _, wrong = await self._read(spec, "/tmp/wrong")
        code, rounds = await self._read(spec, "/tmp/rounds")
        assert "no such file" in wrong, f"{spec.name}: {wrong}"
        return int(rounds) if code == 0 else 0

    async def _read(self, spec: ContainerSpec, path: str) -> tuple[int, str]:
        start = process.Start("/bin/probe", ["read", path])
        return await self._guest.run_process(_address(spec), start, "root")

    async def _wait_healthy(self, spec: ContainerSpec) -> None:
        (await self._guest.wait_healthy(_address(spec), 30)).close()


def _address(spec: ContainerSpec) -> str:
    return str(spec.link.address.ip)


@pytest.fixture
async def lab(
    short_home: Path, machine_network: IPv4Network, runsc_binary: Path, stress_root: Path
) -> AsyncIterator[Lab]:
    state = short_home / "run" / "runsc"
    runtime = RunscRuntime(runsc_binary, state)
    if not await runtime.patch_level():
        pytest.skip("this runsc is not ours: it shares nothing")
    slots = KernelSlots(machine_network, short_home / "run" / "sandboxes")
    made = Lab(runtime, state, slots, GuestClient(Ed25519PrivateKey.generate()), stress_root)
    await slots.open(frozenset())
    yield made
    await made.close()


async def test_every_generation_has_its_own_memory(lab: Lab, tmp_path: Path) -> None:
    async def take(spec: ContainerSpec, name: str, *, bases: dict[str, Path], delta: bool) -> Image:
        image = Image(tmp_path / name, bases if delta else {})
        await asyncio.to_thread(image.directory.mkdir)
        await lab.runtime.checkpoint(spec.name, image.directory, keep_running=True, delta=delta)
        return image

    source = await lab.begin()
    base = await take(source, "base", bases={}, delta=False)
    images = [base]
    hashes = [hash_file(base.pages)]

    clones = [await lab.clone(base) for _ in range(3)]
    await lab.watch([source, *clones], SECONDS / _STAGES)
    await lab.destroy([source, *clones[1:]])

    parent = clones[0]
    for generation in ("delta", "delta of a delta"):
        image = await take(parent, generation, bases=images[-1].chain, delta=True)
        images.append(image)
        hashes.append(hash_file(image.pages))
        twins = [await lab.clone(image) for _ in range(2)]
        await lab.watch([parent, *twins], SECONDS / _STAGES)
        await lab.destroy([parent, twins[1]])
        parent = twins[0]

    flat = await take(parent, "flat", bases={}, delta=False)
    alone = [await lab.clone(flat, shared=False), await lab.clone(flat)]
    await lab.watch([parent, *alone], SECONDS / _STAGES)
    images.append(flat)
    hashes.append(hash_file(flat.pages))
    assert [hash_file(image.pages) for image in images] == hashes
    assert flat.pages.stat().st_size > images[1].pages.stat().st_size


async def test_a_base_that_could_be_written_is_refused(lab: Lab, tmp_path: Path) -> None:
    source = await lab.begin()
    await lab.runtime.checkpoint(source.name, tmp_path, keep_running=False)
    with pytest.raises(HostError):
        await lab.restore_by_hand(await lab.blank(), Image(tmp_path), os.O_RDWR)
    await lab.restore_by_hand(await lab.blank(), Image(tmp_path), os.O_RDONLY)


async def test_a_delta_without_its_base_is_refused(lab: Lab, tmp_path: Path) -> None:
    base, delta = Image(tmp_path / "base"), tmp_path / "delta"
    for directory in (base.directory, delta):
        await asyncio.to_thread(directory.mkdir)
    source = await lab.begin()
    await lab.runtime.checkpoint(source.name, base.directory, keep_running=False)
    clone = await lab.clone(base)
    await lab.runtime.checkpoint(clone.name, delta, keep_running=False, delta=True)
    with pytest.raises(HostError, match="base file"):
        await lab.clone(Image(delta))
    with pytest.raises(HostError):
        await lab.clone(Image(delta, {"0" * 64: base.pages}))
    again = await lab.clone(Image(delta, base.chain))
    await lab.watch([again], 1)
