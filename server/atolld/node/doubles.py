"""A node for tests that needs neither root nor runsc: loopback addresses for slots, a fake runtime."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import shutil
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from atolld.config import Config
from atolld.model.errors import HostError
from atolld.model.sandbox import Resources
from atolld.model.template import Build, Manifest, StoredFile
from atolld.node.agent import Node
from atolld.node.guest import GuestClient
from atolld.node.runtime.fake import ANY_CONTAINER, FakeRuntime
from atolld.node.runtime.protocol import CHECKPOINT_FILES, Link
from atolld.node.slots import Slot
from atolld.node.surroundings import Surroundings
from atolld.node.verify import hash_file


class LoopbackSlots:
    """Slots that are directories and addresses of 127.64.0.0/10."""

    def __init__(self, home: Path) -> None:
        self.leased: dict[str, Slot] = {}
        self.fail: Counter[str] = Counter()
        """Verb → how many of its next calls fail."""
        self.offline: set[str] = set()
        self.held: set[str] = set()
        """Slots no packet reaches."""
        self.out_of_memory: set[str] = set()
        self.has_swap = False
        self.paged_out: dict[str, int] = {}
        """Slot → MiB that it still takes."""
        self._sandboxes = home / "run" / "sandboxes"
        # Test processes run side by side on one loopback interface: each takes another part of it.
        self._indexes = itertools.count(secrets.randbelow(1 << 20) * 4)

    async def open(self, network_allowances: frozenset[str]) -> None:
        self._enter("open")

    async def close(self, *, keep: bool) -> None:
        self._enter("close")

    async def lease(self, resources: Resources) -> Slot:
        self._enter("lease")
        index = next(self._indexes) % (1 << 22)
        name = f"s{index:06x}-{secrets.token_hex(3)}"
        slot = self._slot(name, index, self._sandboxes / name)
        slot.directory.mkdir(parents=True)
        self.leased[name] = slot
        return slot

    async def give_headroom(self, slot: Slot, resources: Resources) -> None:
        self._enter("give_headroom")

    async def set_internet(self, slot: Slot, allowed: bool) -> None:
        self._enter("set_internet")
        (self.offline.discard if allowed else self.offline.add)(slot.name)

    async def hold_traffic(self, slot: Slot) -> None:
        self._enter("hold_traffic")
        self.held.add(slot.name)

    async def release_traffic(self, slot: Slot) -> None:
        self._enter("release_traffic")
        self.held.discard(slot.name)

    async def adopt(self, directory: Path) -> Slot:
        index = int(directory.name[1:7], 16)
        slot = self._slot(directory.name, index, directory)
        self.leased[slot.name] = slot
        return slot

    async def end(self, slot: Slot) -> None:
        self._enter("end")

    async def release(self, slot: Slot) -> None:
        self.leased.pop(slot.name, None)
        self.offline.discard(slot.name)
        self.held.discard(slot.name)
        await asyncio.to_thread(shutil.rmtree, slot.directory, True)

    async def is_out_of_memory(self, slot: Slot) -> bool:
        return slot.name in self.out_of_memory

    async def measure(self, slot: Slot) -> int:
        return self.paged_out.get(slot.name, 100)

    async def measure_cpu(self, slot: Slot) -> float:
        return 0.0

    def can_page_out(self) -> bool:
        return self.has_swap

    async def page_out(self, slot: Slot, go_on: Callable[[], bool]) -> int:
        self._enter("page_out")
        self.paged_out[slot.name] = 5
        return 5

    def _slot(self, name: str, index: int, directory: Path) -> Slot:
        address = IPv4Interface((0x7F400000 + index, 30))
        link = Link("lo", address, "127.0.0.1", bytes(6), bytes(6), 1500, "/proc/self/ns/net", _no_socket)
        return Slot(name, index, directory, f"/atoll/{name}", link)

    def _enter(self, verb: str) -> None:
        if self.fail[verb] > 0:
            self.fail[verb] -= 1
            raise HostError(f"{verb} was told to fail")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        return probe.getsockname()[1]


def _no_socket() -> int:
    return os.open("/dev/null", os.O_RDWR)


class FakeMachine:
    """A node with all its doubles, to look into and to break.

    The guests listen on ``port``, by default one that is free: daemons of others may run on this machine.
    """

    def __init__(
        self,
        home: Path,
        runtime: FakeRuntime | None = None,
        port: int | None = None,
        look_around: Callable[[], Surroundings] = Surroundings,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.config = replace(Config(home=home, blank_size=0, least_shared=0), **(settings or {}))
        key = Ed25519PrivateKey.generate()
        self.runtime = runtime or FakeRuntime(key.public_key())
        self.slots = LoopbackSlots(home)
        self.guest = GuestClient(key, port or _free_port())
        self.node = Node(self.config, self.runtime, self.guest, self.slots, look_around)

    def kill_server(self) -> None:
        """As ``kill -9`` would: nothing of the node runs any more, the containers do."""
        for task in self.node.background_tasks():
            task.cancel()


def fake_build(
    home: Path, name: str = "base", resources: Resources | None = None, contents: str = ANY_CONTAINER
) -> Build:
    """A finished build that the fake runtime restores; its files verify."""
    directory = home / "templates" / f"t{name}" / f"b{name}"
    (directory / "snapshot").mkdir(parents=True, exist_ok=True)
    for file in CHECKPOINT_FILES:
        (directory / "snapshot" / file).write_text(contents)
    root = home / "roots" / f"{name}-0.erofs"
    root.parent.mkdir(exist_ok=True)
    root.write_bytes(bytes(1024) + b"\xe2\xe1\xf5\xe0")
    snapshot = {file: _stored(directory / "snapshot" / file) for file in CHECKPOINT_FILES}
    manifest = Manifest(
        template_id=f"t{name}",
        build_id=f"b{name}",
        name=name,
        created_at="2026-01-01T00:00:00Z",
        resources=resources or Resources(),
        root_image=root.name,
        root=_stored(root),
        snapshot=snapshot,
        runsc_sha256="0" * 64,
        cpu_features=("sse2",),
        envd_version="0.6.13",
    )
    return Build(manifest, directory, root)


def _stored(path: Path) -> StoredFile:
    return StoredFile(path.stat().st_size, hash_file(path))
