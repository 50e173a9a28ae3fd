"""Sleep with files only, reboots, and daemons that do not answer."""

from __future__ import annotations

from typing import Any

import pytest

from atolld.control.sandboxes import NewSandbox
from atolld.model.errors import BootUnconfirmed, Conflict, GuestBusy
from atolld.model.sandbox import SandboxId, State


async def _row(house: Any, sandbox_id: SandboxId) -> Any:
    return await house.store.sandboxes.get(sandbox_id)


def _container(house: Any, sandbox_id: SandboxId) -> Any:
    address = house.machine.node.running()[sandbox_id]
    return next(
        c for c in house.machine.runtime.containers.values() if str(c.spec.link.address.ip) == address
    )


async def test_what_was_paused_without_memory_is_booted_with_its_files(house: Any) -> None:
    sandbox_id = await house.create(envs={"OWN": "1"})
    _container(house, sandbox_id).files["/kept"] = b"of before"
    await house.sandboxes.pause(house.team, sandbox_id, memory=False)
    row = await _row(house, sandbox_id)
    assert (row.state, row.without_memory) == (State.PAUSED, True)
    await house.settled()
    assert not house.machine.runtime.containers, "nothing of it stays in memory"
    calls = len(house.machine.runtime.calls)
    record, timings = await house.sandboxes.connect(house.team, sandbox_id, 60)
    assert "resident" not in timings
    verbs = house.machine.runtime.calls[calls:]
    assert "start" in verbs
    assert "restore" not in verbs
    container = _container(house, sandbox_id)
    assert container.files["/kept"] == b"of before"
    assert container.last_init["sandboxID"] == sandbox_id
    assert container.last_init["envVars"]["OWN"] == "1"
    assert container.last_init["accessToken"] == record.access_token
    assert (record.state, record.without_memory, record.snapshot_id) == (State.RUNNING, False, None)
    await house.settled()
    assert not await house.machine.node.snapshots()


async def test_a_booted_one_can_be_paused_again_either_way(house: Any) -> None:
    sandbox_id = await house.create()
    for memory in (False, True, False, False):
        await house.sandboxes.pause(house.team, sandbox_id, memory=memory)
        await house.sandboxes.connect(house.team, sandbox_id, 60)
    assert (await _row(house, sandbox_id)).incarnation == 5


@pytest.mark.parametrize("resident_memory_mib", [0, 1 << 20])
async def test_one_with_its_memory_can_be_rebooted(open_house: Any, resident_memory_mib: int) -> None:
    house = await open_house(resident_memory_mib=resident_memory_mib)
    sandbox_id = await house.create()
    await house.sandboxes.pause(house.team, sandbox_id)
    calls = len(house.machine.runtime.calls)
    await house.sandboxes.connect(house.team, sandbox_id, 60, reboot=True)
    assert house.machine.runtime.calls[calls:].count("start") == 1
    await house.settled()
    assert not await house.machine.node.snapshots()
    assert len(house.machine.slots.leased) == 1


async def test_at_its_deadline_only_its_files_are_kept_where_that_was_wanted(house: Any) -> None:
    sandbox_id = await house.create(10, auto_pause=True, auto_pause_memory=False)
    await house.clock.advance(10)
    await house.settled()
    row = await _row(house, sandbox_id)
    assert (row.state, row.without_memory) == (State.PAUSED, True)


async def test_traffic_boots_nothing(house: Any) -> None:
    sandbox_id = await house.create(auto_pause=True, auto_resume=True)
    await house.sandboxes.pause(house.team, sandbox_id, memory=False)
    assert await house.sandboxes.wake(sandbox_id) is None


@pytest.mark.parametrize("verb", ["save_layer", "measure", "freeze"])
async def test_such_a_pause_that_fails_leaves_it_running(house: Any, verb: str) -> None:
    sandbox_id = await house.create()
    house.machine.runtime.fail[verb] = 1
    with pytest.raises(Exception, match="told to fail"):
        await house.sandboxes.pause(house.team, sandbox_id, memory=False)
    row = await _row(house, sandbox_id)
    assert (row.state, row.without_memory, row.snapshot_id) == (State.RUNNING, False, None)
    assert _container(house, sandbox_id).frozen.is_set()
    assert sandbox_id in house.routes


async def test_a_boot_that_fails_leaves_it_asleep(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox_id = await house.create()
    await house.sandboxes.pause(house.team, sandbox_id, memory=False)
    kept = await house.machine.node.snapshots()
    monkeypatch.setattr("atolld.node.launcher._PROBE_TIMEOUT", 0.05)
    house.machine.runtime.silent = True
    with pytest.raises(BootUnconfirmed):
        await house.sandboxes.connect(house.team, sandbox_id, 60)
    house.machine.runtime.silent = False
    row = await _row(house, sandbox_id)
    assert (row.state, row.without_memory) == (State.PAUSED, True)
    assert await house.machine.node.snapshots() == kept
    await house.sandboxes.connect(house.team, sandbox_id, 60)


@pytest.fixture
async def silent(house: Any, monkeypatch: pytest.MonkeyPatch) -> SandboxId:
    """A sandbox whose daemon does not answer."""
    monkeypatch.setattr("atolld.node.agent.HEALTH_TIMEOUT", 0.05)
    sandbox_id = await house.create()
    house.machine.runtime.silent = True
    return sandbox_id


@pytest.mark.parametrize("wanted", [{"strict": True}, {"memory": False}])
async def test_a_silent_one_is_not_paused_where_that_matters(
    house: Any, silent: SandboxId, wanted: dict[str, bool]
) -> None:
    with pytest.raises(GuestBusy):
        await house.sandboxes.pause(house.team, silent, **wanted)
    assert (await _row(house, silent)).state is State.RUNNING
    assert silent in house.routes


async def test_a_silent_one_that_was_paused_comes_back_by_a_reboot_only(
    house: Any, silent: SandboxId
) -> None:
    await house.sandboxes.pause(house.team, silent)
    assert (await _row(house, silent)).guest_silent
    house.machine.runtime.silent = False
    with pytest.raises(Conflict) as refused:
        await house.sandboxes.connect(house.team, silent, 60)
    assert refused.value.error_code == "sandbox_snapshot_guest_agent_unresponsive"
    assert (await _row(house, silent)).state is State.PAUSED
    await house.sandboxes.connect(house.team, silent, 60, reboot=True)
    row = await _row(house, silent)
    assert (row.state, row.guest_silent) == (State.RUNNING, False)


async def test_sandboxes_can_be_made_of_files_alone(house: Any) -> None:
    source = await house.create()
    _container(house, source).files["/kept"] = b"of before"
    row = await house.sandboxes.snapshot(house.team, source, "cold", memory=False)
    assert (await _row(house, source)).state is State.RUNNING
    made = (await house.sandboxes.create(house.team, NewSandbox("cold", 60))).record
    assert made.build_id == row.build_id
    assert _container(house, made.sandbox_id).files["/kept"] == b"of before"
