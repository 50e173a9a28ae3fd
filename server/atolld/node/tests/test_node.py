"""The node's rules, against the doubles."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from atoll_wire import process
from atolld.model.errors import BuildDamaged, GuestUnresponsive, HostError, PlacementTimeout
from atolld.model.sandbox import EndReason, Identity, Resources, SandboxId
from atolld.model.template import Build
from atolld.node import Node, SandboxEnded, Slot, StartSpec, Surroundings, launcher
from atolld.node.doubles import FakeMachine, fake_build

ONE = SandboxId("i1")


def start_spec(build: Build, sandbox_id: str = "i1", allow_internet: bool = True) -> StartSpec:
    identity = Identity(SandboxId(sandbox_id), "tbase", "bbase", "team", "secret", {"A": "1"})
    return StartSpec(identity, build.manifest.resources, build, allow_internet)


async def until_warm(node: Node, count: int) -> None:
    async with asyncio.timeout(5):
        while node.warm_count() != count:  # noqa: ASYNC110 (the node announces nothing to tests)
            await asyncio.sleep(0.005)


async def test_a_cold_start_restores_and_tells_the_guest_who_it_is(
    machine: FakeMachine, build: Build
) -> None:
    started = await machine.node.start(start_spec(build))
    (container,) = machine.runtime.containers.values()
    assert container.last_init["sandboxID"] == "i1"
    assert container.last_init["accessToken"] == "secret"
    assert container.last_init["envVars"] == {"A": "1"}
    assert machine.node.running() == {ONE: started.address}
    assert "warm" not in started.timings_ms


async def test_a_stopped_sandbox_leaves_nothing(machine: FakeMachine, build: Build) -> None:
    await machine.node.start(start_spec(build))
    await machine.node.stop(ONE)
    await machine.node.stop(ONE)
    assert machine.node.running() == {}
    assert not machine.runtime.containers
    assert not machine.slots.leased
    assert not list((machine.config.home / "run" / "sandboxes").iterdir())


@pytest.mark.parametrize("verb", ["lease", "create", "give_headroom", "restore", "set_internet"])
async def test_a_start_that_fails_at_any_step_leaves_nothing(
    machine: FakeMachine, build: Build, verb: str
) -> None:
    machine.slots.fail[verb] = machine.runtime.fail[verb] = 1
    with pytest.raises(HostError):
        await machine.node.start(start_spec(build, allow_internet=False))
    assert not machine.runtime.containers
    assert not machine.slots.leased


async def test_a_start_whose_turn_does_not_come_is_told_in_time(
    machine: FakeMachine, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "LONGEST_WAIT", 0.01)
    node: Any = machine.node
    monkeypatch.setattr(node._launcher, "_gate", asyncio.Semaphore(0))
    with pytest.raises(PlacementTimeout, match="Failed to place sandbox") as refused:
        await machine.node.start(start_spec(build))
    assert (refused.value.code, refused.value.error_code) == (504, "sandbox_placement_timeout")
    assert not machine.slots.leased


async def test_a_restore_that_nobody_answers_is_made_once_more(
    machine: FakeMachine, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gVisor issue 13920: a listener can be deaf after a restore into another network."""
    monkeypatch.setattr(launcher, "_PROBE_TIMEOUT", 0.1)
    machine.runtime.deaf = 1
    started = await machine.node.start(start_spec(build))
    assert machine.runtime.calls.count("restore") == 2
    (container,) = machine.runtime.containers.values()
    assert not container.is_deaf
    assert (container.last_init["sandboxID"], machine.node.running()) == ("i1", {ONE: started.address})
    assert len(machine.slots.leased) == 1


async def test_a_build_that_stays_deaf_is_an_error_and_leaves_nothing(
    machine: FakeMachine, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "_PROBE_TIMEOUT", 0.1)
    machine.runtime.deaf = 2
    with pytest.raises(GuestUnresponsive):
        await machine.node.start(start_spec(build))
    assert machine.runtime.calls.count("restore") == 2
    assert not machine.runtime.containers
    assert not machine.slots.leased


async def test_a_cancelled_start_leaves_nothing(machine: FakeMachine, build: Build) -> None:
    reached = asyncio.Event()

    async def hang(*_: object) -> None:
        reached.set()
        await asyncio.Event().wait()

    machine.runtime.restore = hang  # type: ignore[method-assign]
    task = asyncio.create_task(machine.node.start(start_spec(build)))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not machine.runtime.containers
    assert not machine.slots.leased


async def test_a_start_cancelled_twice_is_undone_before_the_node_closes(
    machine: FakeMachine, build: Build
) -> None:
    reached, undoing, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()
    release = machine.slots.release

    async def hang(*_: object) -> None:
        reached.set()
        await asyncio.Event().wait()

    async def release_slowly(slot: Slot) -> None:
        undoing.set()
        await go_on.wait()
        await release(slot)

    machine.runtime.restore = hang  # type: ignore[method-assign]
    machine.slots.release = release_slowly  # type: ignore[method-assign]
    task = asyncio.create_task(machine.node.start(start_spec(build)))
    for event in (reached, undoing):
        await event.wait()
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert machine.slots.leased
    go_on.set()
    await machine.node.close()
    assert not machine.slots.leased


async def test_a_waiting_sandbox_is_claimed_and_replaced(machine: FakeMachine, build: Build) -> None:
    await machine.node.warm([(build, build.manifest.resources, 2)])
    await until_warm(machine.node, 2)
    assert machine.node.running() == {}
    started = await machine.node.start(start_spec(build))
    assert started.timings_ms["warm"] == 1
    await until_warm(machine.node, 2)


async def test_a_warm_up_that_fails_costs_nothing_but_the_warmth(
    machine: FakeMachine, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells: list[str] = []

    async def warm_up(address: str, cell: str) -> None:
        cells.append(cell)
        raise GuestUnresponsive("there is no interpreter")

    monkeypatch.setattr(machine.guest, "warm_up", warm_up)
    build = replace(build, manifest=replace(build.manifest, warmup="import numpy"))
    await machine.node.warm([(build, build.manifest.resources, 1)])
    await until_warm(machine.node, 1)
    assert cells == ["import numpy"]
    assert (await machine.node.start(start_spec(build))).timings_ms["warm"] == 1


async def test_a_dead_waiting_sandbox_is_passed_over(machine: FakeMachine, build: Build) -> None:
    await machine.node.warm([(build, build.manifest.resources, 1)])
    await until_warm(machine.node, 1)
    (dead,) = machine.runtime.containers
    machine.runtime.fail["thaw"] = 1
    started = await machine.node.start(start_spec(build))
    assert machine.node.running() == {ONE: started.address}
    assert dead not in machine.runtime.containers


async def test_a_waiting_sandbox_that_crashes_is_replaced(machine: FakeMachine, build: Build) -> None:
    await machine.node.warm([(build, build.manifest.resources, 1)])
    await until_warm(machine.node, 1)
    (name,) = machine.runtime.containers
    await machine.runtime.crash(name)
    async with asyncio.timeout(5):
        while name in machine.runtime.containers or machine.node.warm_count() != 1:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_other_resources_than_the_waiting_ones_are_a_cold_start(
    machine: FakeMachine, build: Build
) -> None:
    await machine.node.warm([(build, Resources(vcpu=1), 1)])
    await until_warm(machine.node, 1)
    assert "warm" not in (await machine.node.start(start_spec(build))).timings_ms


@pytest.mark.parametrize(
    ("out_of_memory", "reason"), [(False, EndReason.CRASH), (True, EndReason.MEMORY_LIMIT)]
)
async def test_the_end_of_a_sandbox_is_told_with_its_reason(
    machine: FakeMachine, build: Build, out_of_memory: bool, reason: EndReason
) -> None:
    told: asyncio.Future[tuple[SandboxId, EndReason, str]] = asyncio.get_running_loop().create_future()
    machine.node.on_end = lambda sandbox_id, reason, words: told.set_result((sandbox_id, reason, words))
    await machine.node.start(start_spec(build))
    (name,) = machine.runtime.containers
    if out_of_memory:
        machine.slots.out_of_memory.add(name)
    await machine.runtime.crash(name, "last words")
    assert await asyncio.wait_for(told, 5) == (ONE, reason, "last words")
    assert not machine.slots.leased


async def test_a_damaged_build_is_never_restored(machine: FakeMachine, build: Build) -> None:
    (build.snapshot_path / "pages.img").write_bytes(b"fakE\n")
    with pytest.raises(BuildDamaged, match=r"\./atoll setup --rebuild base"):
        await machine.node.start(start_spec(build))
    assert "create" not in machine.runtime.calls


async def test_a_snapshot_of_another_server_names_the_rebuild(machine: FakeMachine, tmp_path: Path) -> None:
    build = fake_build(tmp_path, contents="taken with another host key")
    with pytest.raises(BuildDamaged, match=r"\./atoll setup --rebuild base"):
        await machine.node.start(start_spec(build))
    assert not machine.slots.leased


async def test_a_restarted_server_adopts_the_living_and_removes_the_rest(tmp_path: Path) -> None:
    build = fake_build(tmp_path)
    first = FakeMachine(tmp_path)
    await first.node.open()
    for sandbox_id in ("i1", "i2"):
        await first.node.start(start_spec(build, sandbox_id))
    await first.node.warm([(build, build.manifest.resources, 1)])
    await until_warm(first.node, 1)
    address = first.node.running()[ONE]
    dead = next(name for name, c in first.runtime.containers.items() if c.last_init.get("sandboxID") == "i2")
    first.kill_server()
    await first.runtime.crash(dead)

    second = FakeMachine(tmp_path, first.runtime, first.guest.port)
    await second.node.open()
    assert second.node.running() == {ONE: address}
    assert len(second.runtime.containers) == 1
    await second.node.stop(ONE)
    await second.node.close()
    assert not list((tmp_path / "run" / "sandboxes").iterdir())


async def test_a_sandbox_is_told_of_its_surroundings_unless_its_snapshot_knows_them(
    tmp_path: Path,
) -> None:
    machine = FakeMachine(tmp_path, look_around=lambda: Surroundings({"/etc/resolv.conf": b"x"}, "PEM"))
    await machine.node.open()
    build = fake_build(tmp_path)
    await machine.node.start(start_spec(build, "i1"))
    target = build.snapshot_path
    (told,) = machine.runtime.containers.values()
    assert told.files == {"/etc/resolv.conf": b"x"}
    assert told.last_init["caBundle"] == "PEM"

    (target / "surroundings").write_text(Surroundings({"/etc/resolv.conf": b"x"}, "PEM").digest)
    await machine.node.start(start_spec(build, "i2"))
    (_, knowing) = machine.runtime.containers.values()
    assert knowing.files == {}
    assert "caBundle" not in knowing.last_init
    for sandbox_id in list(machine.node.running()):
        await machine.node.stop(sandbox_id)
    await machine.node.close()


async def test_a_template_is_built_by_boot_command_and_snapshot(machine: FakeMachine, tmp_path: Path) -> None:
    root = fake_build(tmp_path, "root").root_path
    await machine.node.boot(root_path=root, resources=Resources(), envs={}, sandbox_id=ONE)
    assert await machine.node.start_process(ONE, process.Start("true", tag="_system")) == 7
    assert await machine.node.run_process(ONE, process.Start("true")) == (0, "")
    target = tmp_path / "snapshot"
    target.mkdir()
    await machine.node.snapshot(ONE, target)
    assert (target / "pages.img").is_file()
    assert (target / "surroundings").read_text() == Surroundings().digest
    assert not machine.slots.leased
    with pytest.raises(SandboxEnded):
        await machine.node.snapshot(ONE, target)
