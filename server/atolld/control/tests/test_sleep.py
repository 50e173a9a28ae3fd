"""Pause, resume, wake: what each call does in each state, and what is left when the machine fails."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from atolld.control.sandboxes import NewSandbox
from atolld.model.errors import CapacityUnavailable, Conflict, HostError, NotFound, TooMany
from atolld.model.sandbox import EndReason, SandboxId, State


async def _row(house: Any, sandbox_id: SandboxId) -> Any:
    return await house.store.sandboxes.get(sandbox_id)


async def _until_it_moves(house: Any, sandbox_id: SandboxId) -> None:
    """Nothing announces a row's first step: look again at each turn of the loop."""
    async with asyncio.timeout(5):
        while (await _row(house, sandbox_id)).state is State.RUNNING:  # noqa: ASYNC110
            await asyncio.sleep(0)


def _container(house: Any, sandbox_id: SandboxId) -> Any:
    address = house.machine.node.running()[sandbox_id]
    return next(
        c for c in house.machine.runtime.containers.values() if str(c.spec.link.address.ip) == address
    )


def _snapshots(house: Any) -> list[str]:
    directory = Path(house.config.home) / "snapshots"
    return sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []


async def test_a_paused_sandbox_has_no_route_and_its_state_on_disk(house: Any) -> None:
    sandbox_id = await house.create()
    await house.sandboxes.pause(house.team, sandbox_id)
    row = await _row(house, sandbox_id)
    assert (row.state, row.paused_at) == (State.PAUSED, house.clock.now())
    assert _snapshots(house) == [row.snapshot_id]
    assert house.routes.get(sandbox_id) is None
    assert house.routes.asleep(sandbox_id) is None
    assert not house.machine.node.running()


async def test_a_resume_from_memory_thaws_what_was_frozen(house: Any) -> None:
    sandbox_id = await house.create()
    container = _container(house, sandbox_id)
    await house.sandboxes.pause(house.team, sandbox_id)
    assert not container.frozen.is_set()
    assert house.machine.slots.held == {container.spec.name}
    await house.clock.advance(60)
    record, timings = await house.sandboxes.connect(house.team, sandbox_id, 100)
    assert timings["resident"] == 1.0
    assert container.frozen.is_set()
    assert not house.machine.slots.held
    assert record.state is State.RUNNING
    assert record.incarnation == 2
    assert record.deadline.at == house.clock.now() + timedelta(seconds=100)
    assert _container(house, sandbox_id) is container
    assert container.last_init["sandboxID"] == sandbox_id
    await house.settled()
    assert _snapshots(house) == []


async def test_a_resume_from_disk_restores(open_house: Any) -> None:
    house = await open_house(resident_memory_mib=0)
    sandbox_id = await house.create()
    await house.sandboxes.pause(house.team, sandbox_id)
    assert not house.machine.runtime.containers
    record, timings = await house.sandboxes.connect(house.team, sandbox_id, 100)
    assert "resident" not in timings
    assert house.routes.get(sandbox_id).envd_token == record.access_token
    await house.settled()
    assert _snapshots(house) == []


@pytest.mark.parametrize("verb", ["measure", "freeze", "checkpoint"])
async def test_a_pause_that_fails_leaves_it_running(house: Any, verb: str) -> None:
    sandbox_id = await house.create()
    container = _container(house, sandbox_id)
    house.machine.runtime.fail[verb] = 1
    with pytest.raises(HostError, match="told to fail"):
        await house.sandboxes.pause(house.team, sandbox_id)
    row = await _row(house, sandbox_id)
    assert (row.state, row.snapshot_id, row.paused_at) == (State.RUNNING, None, None)
    assert house.routes.get(sandbox_id) is not None
    assert container.frozen.is_set()
    assert not house.machine.slots.held
    assert _snapshots(house) == []


async def test_a_pause_without_room_on_the_disk_is_refused_and_says_how_much_it_takes(house: Any) -> None:
    sandbox_id = await house.create()
    house.machine.runtime.sizes[_container(house, sandbox_id).spec.name] = 1 << 60
    with pytest.raises(CapacityUnavailable, match=r"the snapshot needs .* MiB free"):
        await house.sandboxes.pause(house.team, sandbox_id)
    assert (await _row(house, sandbox_id)).state is State.RUNNING


@pytest.mark.parametrize("verb", ["create", "restore"])
async def test_a_resume_that_fails_leaves_it_asleep_with_its_snapshot(open_house: Any, verb: str) -> None:
    house = await open_house(resident_memory_mib=0)
    sandbox_id = await house.create()
    await house.sandboxes.pause(house.team, sandbox_id)
    kept = _snapshots(house)
    house.machine.runtime.fail[verb] = 1
    with pytest.raises(HostError, match="told to fail"):
        await house.sandboxes.connect(house.team, sandbox_id, 10)
    row = await _row(house, sandbox_id)
    assert (row.state, [row.snapshot_id]) == (State.PAUSED, kept)
    assert _snapshots(house) == kept
    await house.sandboxes.connect(house.team, sandbox_id, 10)
    assert (await _row(house, sandbox_id)).state is State.RUNNING


async def test_a_frozen_one_that_is_no_good_is_restored_from_disk(house: Any) -> None:
    sandbox_id = await house.create()
    await house.sandboxes.pause(house.team, sandbox_id)
    house.machine.runtime.fail["thaw"] = 1
    _, timings = await house.sandboxes.connect(house.team, sandbox_id, 10)
    assert "resident" not in timings
    assert len(house.machine.runtime.containers) == 1


async def test_a_damaged_snapshot_is_not_restored_and_not_thrown_away(open_house: Any) -> None:
    house = await open_house(resident_memory_mib=0)
    sandbox_id = await house.create()
    await house.sandboxes.pause(house.team, sandbox_id)
    [snapshot_id] = _snapshots(house)
    pages = house.config.home / "snapshots" / snapshot_id / "snapshot" / "pages.img"
    pages.write_bytes(pages.read_bytes()[:-1] + b"?")
    with pytest.raises(HostError, match="cannot be restored"):
        await house.sandboxes.connect(house.team, sandbox_id, 10)
    assert (await _row(house, sandbox_id)).state is State.PAUSED
    assert _snapshots(house) == [snapshot_id]


async def test_ten_connects_at_once_resume_once(house: Any) -> None:
    sandbox_id = await house.create()
    await house.sandboxes.pause(house.team, sandbox_id)
    outcomes = await asyncio.gather(
        *(house.sandboxes.connect(house.team, sandbox_id, 100) for _ in range(10))
    )
    assert sum(timings is not None for _, timings in outcomes) == 1
    assert {record.incarnation for record, _ in outcomes} == {2}


async def test_one_of_two_pauses_wins(house: Any) -> None:
    sandbox_id = await house.create()
    outcomes = await asyncio.gather(
        *(house.sandboxes.pause(house.team, sandbox_id) for _ in range(2)), return_exceptions=True
    )
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 1
    assert (await _row(house, sandbox_id)).state is State.PAUSED


async def test_a_connect_during_a_pause_waits_for_it_and_resumes(house: Any) -> None:
    sandbox_id = await house.create()
    house.machine.runtime.may_checkpoint.clear()
    pausing = asyncio.create_task(house.sandboxes.pause(house.team, sandbox_id))
    await _until_it_moves(house, sandbox_id)
    connecting = asyncio.create_task(house.sandboxes.connect(house.team, sandbox_id, 100))
    await asyncio.sleep(0)
    house.machine.runtime.may_checkpoint.set()
    record, timings = await connecting
    await pausing
    assert (record.state, timings is not None) == (State.RUNNING, True)


async def test_a_kill_during_a_pause_wins(house: Any) -> None:
    sandbox_id = await house.create()
    house.machine.runtime.may_checkpoint.clear()
    pausing = asyncio.create_task(house.sandboxes.pause(house.team, sandbox_id))
    await _until_it_moves(house, sandbox_id)
    await house.sandboxes.kill(house.team, sandbox_id)
    house.machine.runtime.may_checkpoint.set()
    with pytest.raises(Conflict):
        await pausing
    await house.settled()
    assert (await _row(house, sandbox_id)).state is State.KILLED
    assert _snapshots(house) == []
    assert not house.machine.runtime.containers


async def test_kill_takes_the_snapshot_and_what_is_frozen(house: Any) -> None:
    sandbox_id = await house.create()
    await house.sandboxes.pause(house.team, sandbox_id)
    await house.sandboxes.kill(house.team, sandbox_id)
    await house.settled()
    assert _snapshots(house) == []
    assert not house.machine.slots.leased
    with pytest.raises(NotFound, match=r"it ended .* UTC: request"):
        await house.sandboxes.get(house.team, sandbox_id)


async def test_what_each_call_says_about_one_that_is_paused(house: Any) -> None:
    sandbox_id = await house.create()
    await house.sandboxes.pause(house.team, sandbox_id)
    with pytest.raises(Conflict, match="is already paused"):
        await house.sandboxes.pause(house.team, sandbox_id)
    with pytest.raises(Conflict, match="is paused and cannot be forked; resume it first"):
        await house.sandboxes.fork(house.team, sandbox_id, 1, 10)
    with pytest.raises(NotFound):
        await house.sandboxes.set_timeout(house.team, sandbox_id, 10)
    await house.sandboxes.resume(house.team, sandbox_id, 10)
    with pytest.raises(Conflict, match=f"Sandbox {sandbox_id} is already running"):
        await house.sandboxes.resume(house.team, sandbox_id, 10)


async def test_a_resume_takes_its_place_in_the_quota(open_house: Any) -> None:
    house = await open_house(max_sandboxes=1)
    sandbox_id = await house.create()
    await house.sandboxes.pause(house.team, sandbox_id)
    other = await house.create()
    with pytest.raises(TooMany):
        await house.sandboxes.connect(house.team, sandbox_id, 10)
    assert (await _row(house, sandbox_id)).state is State.PAUSED
    await house.sandboxes.kill(house.team, other)
    await house.sandboxes.connect(house.team, sandbox_id, 10)


async def test_at_its_deadline_one_is_paused_that_wants_to_be(house: Any) -> None:
    sandbox_id = await house.create(10, auto_pause=True)
    await house.clock.advance(10)
    await house.settled()
    assert (await _row(house, sandbox_id)).state is State.PAUSED


async def test_a_pause_at_the_deadline_that_fails_is_tried_again(house: Any) -> None:
    sandbox_id = await house.create(10, auto_pause=True)
    house.machine.runtime.fail["checkpoint"] = 1
    await house.clock.advance(10)
    await house.settled()
    assert (await _row(house, sandbox_id)).state is State.RUNNING
    await house.clock.advance(11)
    await house.settled()
    assert (await _row(house, sandbox_id)).state is State.PAUSED


async def test_traffic_wakes_only_what_may_be_woken(house: Any) -> None:
    deep = await house.create()
    light = await house.create(20, auto_pause=True, auto_resume=True)
    for sandbox_id in (deep, light):
        await house.sandboxes.pause(house.team, sandbox_id)
    assert await house.sandboxes.wake(deep) is None
    assert house.routes.asleep(light).envd_token == (await _row(house, light)).access_token
    route = await house.sandboxes.wake(light)
    assert route == house.routes.get(light)
    assert (await _row(house, light)).deadline.at == house.clock.now() + timedelta(seconds=300)


async def test_a_sandbox_that_nobody_resumes_is_forgotten(open_house: Any) -> None:
    house = await open_house(paused_days=2)
    sandbox_id = await house.create()
    await house.sandboxes.pause(house.team, sandbox_id)
    await house.clock.advance(2 * 86400 - 1)
    assert (await _row(house, sandbox_id)).state is State.PAUSED
    await house.clock.advance(1)
    await house.settled()
    row = await _row(house, sandbox_id)
    assert (row.state, row.end.reason) == (State.KILLED, EndReason.FORGOTTEN)
    assert _snapshots(house) == []


async def test_equal_creates_with_one_key_make_one_sandbox(house: Any) -> None:
    wanted = NewSandbox("base", 60, key="one")
    created = await asyncio.gather(*(house.sandboxes.create(house.team, wanted) for _ in range(5)))
    assert len({it.record.sandbox_id for it in created}) == 1
    assert {it.record.state for it in created} == {State.RUNNING}
    assert len(house.machine.node.running()) == 1


async def test_a_create_that_failed_may_be_sent_again_with_its_key(house: Any) -> None:
    wanted = NewSandbox("base", 60, key="one")
    house.machine.runtime.fail["create"] = 1
    with pytest.raises(HostError):
        await house.sandboxes.create(house.team, wanted)
    await house.settled()
    assert (await house.sandboxes.create(house.team, wanted)).record.state is State.RUNNING
