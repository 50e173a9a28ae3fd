"""Snapshots by delta, and the files they stand on: who holds them, when they go, what a bad one does."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from atolld.model.errors import BuildDamaged, HostError
from atolld.model.sandbox import Identity, SandboxId
from atolld.model.template import Build, Manifest, StoredFile, parse_manifest
from atolld.node import StartSpec, Target
from atolld.node.bases import Bases
from atolld.node.doubles import FakeMachine
from atolld.node.runtime.fake import FakeRuntime
from atolld.node.runtime.protocol import CHECKPOINT_FILES
from atolld.node.sharing import MOST_BASES
from atolld.node.snapshots import SnapshotFiles
from atolld.node.verify import vouch

ONE, TWO = SandboxId("ione"), SandboxId("itwo")


def identity(sandbox_id: SandboxId) -> Identity:
    return Identity(sandbox_id, "tbase", "bbase", "team")


def target(snapshot_id: str, *, keep: bool = True) -> Target:
    return Target(snapshot_id, "tbase", "base", keep=keep)


def bases_of(machine: FakeMachine) -> set[str]:
    return {path.stem for path in (machine.config.home / "bases").iterdir()}


@pytest.fixture
async def alone(tmp_path: Path) -> FakeMachine:
    """A node that keeps no paused sandbox in memory, and whose sandboxes obey the next one, too."""
    machine = FakeMachine(tmp_path, FakeRuntime(), settings={"resident_memory_mib": 0})
    await machine.node.open()
    return machine


async def start(machine: FakeMachine, build: Build, sandbox_id: SandboxId = ONE) -> None:
    spec = StartSpec(identity(sandbox_id), build.manifest.resources, build, may_claim=False)
    await machine.node.start(spec)


async def pause(machine: FakeMachine, build: Build, name: str) -> Build:
    await machine.node.pause(ONE, target(name))
    return Build(load(machine, name), machine.config.home / "snapshots" / name, build.root_path)


def load(machine: FakeMachine, name: str) -> Manifest:
    return parse_manifest((machine.config.home / "snapshots" / name / "manifest.json").read_text())


async def resume(machine: FakeMachine, build: Build, name: str) -> None:
    """And drops the snapshot, as whoever resumes does."""
    await machine.node.resume(identity(ONE), build.manifest.resources, name)
    await machine.node.discard(name)


async def test_each_pause_stands_on_the_last_and_the_chain_is_flattened(
    alone: FakeMachine, build: Build
) -> None:
    await start(alone, build)
    lengths: list[int] = []
    for generation in range(2 * MOST_BASES + 2):
        made = await pause(alone, build, f"s{generation}")
        lengths.append(len(made.manifest.bases))
        assert all(made.base_path(base.digest).is_file() for base in made.manifest.bases)
        await resume(alone, build, f"s{generation}")
        assert len(bases_of(alone)) <= MOST_BASES + 2
    assert lengths[: MOST_BASES + 2] == [1, 2, 3, 0, 1]
    assert max(lengths) == MOST_BASES
    await alone.node.stop(ONE)
    await alone.node.close()
    assert bases_of(alone) == {build.manifest.snapshot["pages.img"].digest}, "all but the template's go"


async def test_a_forks_pages_stay_until_the_last_that_stands_on_them_is_gone(
    alone: FakeMachine, build: Build
) -> None:
    await start(alone, build)
    fork = await alone.node.capture(ONE, target("fork", keep=False))
    pages = fork.manifest.snapshot["pages.img"].digest
    await start(alone, fork, TWO)
    await alone.node.discard("fork")
    await alone.node.stop(ONE)
    assert pages in bases_of(alone)
    of_fork = await alone.node.capture(TWO, target("named"))
    assert [base.digest for base in of_fork.manifest.bases][-1] == pages
    await alone.node.stop(TWO)
    assert pages in bases_of(alone)
    await start(alone, of_fork)
    await alone.node.stop(ONE)
    await alone.node.discard("named")
    assert pages not in bases_of(alone)
    await alone.node.close()


async def test_a_template_that_is_replaced_takes_nothing_away(alone: FakeMachine, build: Build) -> None:
    await start(alone, build)
    for file in build.snapshot_path.iterdir():
        file.unlink()
    await pause(alone, build, "s")
    await resume(alone, build, "s")
    await alone.node.stop(ONE)
    await alone.node.close()
    assert bases_of(alone) == set()


async def test_a_server_that_died_counts_again_what_is_needed(alone: FakeMachine, build: Build) -> None:
    await start(alone, build)
    await pause(alone, build, "one")
    await resume(alone, build, "one")
    (alone.config.home / "bases" / "left-over.img").touch()
    before = bases_of(alone)
    alone.kill_server()
    after = FakeMachine(alone.config.home, alone.runtime, alone.guest.port)
    await after.node.open()
    assert set(after.node.running()) == {ONE}
    assert bases_of(after) == before - {"left-over"}
    made = await pause(after, build, "two")
    assert len(made.manifest.bases) == 2
    # The paused one that is in memory is removed by the next server; what its snapshot stands on is not.
    after.kill_server()
    last = FakeMachine(alone.config.home, alone.runtime, alone.guest.port)
    await last.node.open()
    await resume(last, build, "two")
    await last.node.stop(ONE)
    await last.node.close()


def shorten(path: Path) -> None:
    os.truncate(path, 1)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [Path.unlink, shorten, flip], ids=["missing", "short", "flipped"])
async def test_a_bad_base_is_found_before_a_restore(
    alone: FakeMachine, build: Build, damage: Callable[[Path], object]
) -> None:
    await start(alone, build)
    await pause(alone, build, "one")
    await resume(alone, build, "one")
    made = await pause(alone, build, "two")
    path = made.base_path(made.manifest.bases[-1].digest)
    good = path.read_bytes()
    damage(path)
    with pytest.raises(BuildDamaged, match=rf"snapshot two .*{path.stem}"):
        await alone.node.resume(identity(ONE), build.manifest.resources, "two")
    path.unlink(missing_ok=True)
    path.write_bytes(good)
    await resume(alone, build, "two")
    await alone.node.stop(ONE)
    await alone.node.close()


async def test_without_its_bases_on_the_disk_a_snapshot_stands_alone(
    alone: FakeMachine, build: Build
) -> None:
    await start(alone, build)
    for path in (alone.config.home / "bases").iterdir():
        path.unlink()
    made = await pause(alone, build, "one")
    assert made.manifest.bases == ()
    await resume(alone, build, "one")
    await alone.node.stop(ONE)
    await alone.node.close()


async def test_a_full_disk_while_a_delta_is_written_leaves_the_base_and_the_sandbox(
    alone: FakeMachine, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start(alone, build)
    before = bases_of(alone)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for step in ("take_in", "flush"):
        with monkeypatch.context() as patch:
            patch.setattr(Bases, step, refuse)
            with pytest.raises(HostError, match="free some space"):
                await alone.node.pause(ONE, target("new"))
        assert bases_of(alone) == before
        assert ONE in alone.node.running()
    await pause(alone, build, "new")
    await resume(alone, build, "new")
    await alone.node.stop(ONE)
    await alone.node.close()


async def test_nothing_is_shared_where_that_is_switched_off(tmp_path: Path, build: Build) -> None:
    machine = FakeMachine(tmp_path, settings={"shared_pages": False, "resident_memory_mib": 0})
    await machine.node.open()
    await start(machine, build)
    made = await pause(machine, build, "one")
    assert made.manifest.bases == ()
    await resume(machine, build, "one")
    assert all(container.sharing is None for container in machine.runtime.containers.values())
    await machine.node.stop(ONE)
    await machine.node.close()
    assert bases_of(machine) <= {build.manifest.snapshot["pages.img"].digest}


def _seal_and_die(home: Path, manifest: Manifest, base: StoredFile, step: int) -> int:
    """In a process of its own that ends at its ``step``-th change of the disk; its exit code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left = step

    def watch(event: str, _: object) -> None:
        nonlocal left
        if event in {"os.link", "os.remove", "os.symlink", "os.rename", "os.mkdir", "os.rmdir"}:
            left -= 1
            if left < 0:
                os._exit(9)

    sys.addaudithook(watch)
    files = SnapshotFiles(home, Bases(home))
    directory = files.begin("new")
    for name in CHECKPOINT_FILES:
        (directory / name).write_text(f"new {name}")
    files.seal("new", manifest, "t", "n", bases=(base,))
    files.discard("old")
    os._exit(0)


@pytest.mark.slow
def test_a_server_killed_at_any_step_leaves_whole_snapshots_with_all_they_stand_on_and_nothing_else(
    tmp_path: Path, build: Build
) -> None:
    for step in range(100):
        home = tmp_path / f"home{step}"
        home.mkdir()
        files = SnapshotFiles(home, Bases(home))
        directory = files.begin("old")
        for name in CHECKPOINT_FILES:
            (directory / name).write_text(f"old {name}")
        pages = files.seal("old", build.manifest, "t", "n").manifest.snapshot["pages.img"]

        code = _seal_and_die(home, build.manifest, pages, step)

        bases = Bases(home)
        after = SnapshotFiles(home, bases)
        after.hold_bases()
        after.discard_unfinished()
        bases.sweep()
        assert after.ids() <= {"old", "new"}
        assert after.ids(), "both are lost"
        needed: set[str] = set()
        for snapshot_id in after.ids():
            made = after.load(snapshot_id)
            for name, stored in made.manifest.snapshot.items():
                assert vouch(made.snapshot_path / name) == stored, (step, snapshot_id, name)
            needed |= {made.manifest.snapshot["pages.img"].digest}
            for base in made.manifest.bases:
                assert vouch(made.base_path(base.digest)) == base, (step, snapshot_id)
                needed |= {base.digest}
        assert {path.stem for path in (home / "bases").iterdir()} == needed, step
        assert {path.name for path in (home / "snapshots").iterdir()} == after.ids(), step
        if code == 0:
            assert step > 5, "nothing was interrupted"
            return
    raise AssertionError("it never came to its end")
