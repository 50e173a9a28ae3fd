"""Pause and resume when something fails: a clear error, the state right, nothing lost that was safe."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from atoll_wire import process
from atolld.model.errors import AtollError, BuildDamaged, CapacityUnavailable, HostError
from atolld.model.sandbox import EndReason, Identity, SandboxId
from atolld.model.template import Build
from atolld.node import StartSpec, Target
from atolld.node.doubles import FakeMachine
from atolld.node.snapshots import EarlyFlush

ONE = SandboxId("ione")
IDENTITY = Identity(ONE, "tbase", "bbase", "team")
SAFE, NEW = Target("safe", "tbase", "base"), Target("new", "tbase", "base")
Fault = Callable[[FakeMachine, pytest.MonkeyPatch], None]


@pytest.fixture
async def running(machine: FakeMachine, build: Build) -> AsyncIterator[FakeMachine]:
    """One sandbox that has a snapshot already."""
    await machine.node.start(StartSpec(IDENTITY, build.manifest.resources, build))
    await machine.node.capture(ONE, SAFE)
    yield machine
    await machine.node.stop(ONE)


def told(verb: str) -> Fault:
    def act(machine: FakeMachine, patch: pytest.MonkeyPatch) -> None:
        (machine.slots if verb == "hold_traffic" else machine.runtime).fail[verb] += 1

    return act


def full(name: str, owner: object = os) -> Fault:
    """The disk is full at a call of the system that a pause makes."""

    def act(machine: FakeMachine, patch: pytest.MonkeyPatch) -> None:
        real = getattr(owner, name)

        def refuse(*arguments: object, **options: object) -> object:
            if any(f"{NEW.snapshot_id}.unfinished" in str(_path_of(it)) for it in arguments):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*arguments, **options)

        patch.setattr(owner, name, refuse)

    return act


def _path_of(argument: object) -> object:
    if isinstance(argument, int) and not isinstance(argument, bool):
        try:
            return os.readlink(f"/proc/self/fd/{argument}")
        except OSError:
            return argument
    return argument


@pytest.mark.parametrize(
    "fault",
    [
        told("hold_traffic"),
        told("freeze"),
        told("measure"),
        told("checkpoint"),
        full("mkdir"),
        full("write_text", Path),
        full("fsync"),
        full("rename", Path),
    ],
    ids=["hold", "freeze", "measure", "write", "directory", "files", "flush", "name"],
)
async def test_a_pause_that_fails_leaves_it_running_and_the_old_snapshot(
    running: FakeMachine, fault: Fault
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        fault(running, patch)
        with pytest.raises(AtollError, match=r"told to fail|free some space"):
            await running.node.pause(ONE, NEW)
    (container,) = running.runtime.containers.values()
    assert container.frozen.is_set(), "it stands still"
    assert not running.slots.held, "its traffic is held"
    assert ONE in running.node.running()
    assert await running.node.run_process(ONE, process.Start("true", ())) == (0, "")
    assert await running.node.snapshots() == {SAFE.snapshot_id}
    assert [path.name for path in (running.config.home / "snapshots").iterdir()] == [SAFE.snapshot_id]
    await running.node.pause(ONE, NEW)
    await running.node.resume(IDENTITY, container.spec.resources, NEW.snapshot_id)


async def test_what_the_disk_refused_while_it_was_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = threading.Event()

    def refuse(_: int) -> None:
        refused.set()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fdatasync", refuse)
    flush = EarlyFlush(tmp_path / "pages.img")
    flush.start()
    (tmp_path / "pages.img").touch()
    assert await asyncio.to_thread(refused.wait, 30)
    with pytest.raises(OSError, match="No space"):
        await flush.finish()


async def test_a_disk_without_room_is_refused_before_with_how_much_is_needed(running: FakeMachine) -> None:
    (name,) = running.runtime.containers
    running.runtime.sizes[name] = 1 << 60
    with pytest.raises(CapacityUnavailable, match=r"needs \d+ MiB free at .*, there are \d+"):
        await running.node.pause(ONE, NEW)
    assert "checkpoint" not in running.runtime.calls[running.runtime.calls.index("freeze") :]
    assert ONE in running.node.running()


async def test_a_container_killed_in_the_middle_of_a_pause_is_told_and_leaves_nothing(
    running: FakeMachine,
) -> None:
    ends: list[tuple[SandboxId, EndReason]] = []
    running.node.on_end = lambda sandbox_id, reason, _: ends.append((sandbox_id, reason))
    running.runtime.may_checkpoint.clear()
    pausing = asyncio.create_task(running.node.pause(ONE, NEW))
    async with asyncio.timeout(5):
        while running.runtime.calls[-1] != "checkpoint":  # noqa: ASYNC110 (the double announces nothing)
            await asyncio.sleep(0.001)
        await running.runtime.crash(next(iter(running.runtime.containers)))
        running.runtime.may_checkpoint.set()
        with pytest.raises(AtollError):
            await pausing
        while not ends:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert ends == [(ONE, EndReason.CRASH)]
    assert not running.node.running()
    assert await running.node.snapshots() == {SAFE.snapshot_id}


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink], ids=["truncated", "flipped", "missing"])
@pytest.mark.parametrize("file", ["checkpoint.img", "pages_meta.img", "pages.img"])
async def test_a_damaged_snapshot_is_named_and_never_restored(
    running: FakeMachine, file: str, damage: Callable[[Path], None]
) -> None:
    (container,) = running.runtime.containers.values()
    path = running.config.home / "snapshots" / SAFE.snapshot_id / "snapshot" / file
    good = path.read_bytes()
    damage(path)
    other = Identity(SandboxId("itwo"), "tbase", "bbase", "team")
    with pytest.raises(BuildDamaged, match=rf"snapshot {SAFE.snapshot_id} .*{file}"):
        await running.node.resume(other, container.spec.resources, SAFE.snapshot_id)
    assert set(running.node.running()) == {ONE}
    path.write_bytes(good)
    await running.node.resume(other, container.spec.resources, SAFE.snapshot_id)
    await running.node.stop(other.sandbox_id)


async def test_without_its_manifest_a_snapshot_is_none(running: FakeMachine) -> None:
    (container,) = running.runtime.containers.values()
    (running.config.home / "snapshots" / SAFE.snapshot_id / "manifest.json").unlink()
    assert await running.node.snapshots() == frozenset()
    with pytest.raises((BuildDamaged, HostError), match=SAFE.snapshot_id):
        await running.node.resume(IDENTITY, container.spec.resources, SAFE.snapshot_id)
    assert ONE in running.node.running()
