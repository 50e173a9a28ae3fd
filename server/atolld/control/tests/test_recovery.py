from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from atolld.control.recovery import plan_recovery
from atolld.model.records import SandboxRecord
from atolld.model.sandbox import SETTLED, EndReason, Event, State, transition
from atolld.node.doubles import FakeMachine


@pytest.fixture
async def record(house: Any) -> SandboxRecord:
    sandbox_id = await house.create()
    return await house.store.sandboxes.get(sandbox_id)


@pytest.mark.parametrize("is_running", [True, False])
@pytest.mark.parametrize("state", sorted(set(State) - SETTLED))
async def test_every_moving_row_comes_to_rest(record: SandboxRecord, state: State, is_running: bool) -> None:
    row = replace(record, state=state)
    plan = plan_recovery([row], [row.sandbox_id] if is_running else [], record.deadline.boot_id)
    [step] = plan.steps
    after: State | None = state
    for event in step.events:
        assert after is not None
        after = transition(after, event)
    assert after in (State.RUNNING, State.PAUSED, State.KILLED)
    # What the rows say and what the machine runs agree.
    assert step.adopt == (after is State.RUNNING)
    assert plan.orphans == ((row.sandbox_id,) if is_running and not step.adopt else ())
    assert (after is State.KILLED and state is not State.KILLING) == (step.reason is not None)


async def test_after_a_reboot_the_machine_is_the_reason(record: SandboxRecord) -> None:
    [step] = plan_recovery([record], [], "another boot").steps
    assert step.reason is EndReason.HOST_RESTARTED
    [step] = plan_recovery([record], [], record.deadline.boot_id).steps
    assert step.reason is EndReason.CRASH


async def test_a_failed_resume_leaves_the_snapshot_paused(record: SandboxRecord) -> None:
    [step] = plan_recovery([replace(record, state=State.RESUMING)], [], "").steps
    assert step.events == (Event.RESUME_FAILED,)
    assert step.reason is None


async def test_a_killed_server_finds_its_sandboxes_again(open_house: Any, clock: Any) -> None:
    first = await open_house()
    kept = await first.create(100)
    record = await first.store.sandboxes.get(kept)
    route = first.routes.get(kept)
    gone = await first.create(100)
    await first.die()
    address = route.address
    [gone_slot] = [s for s in first.machine.slots.leased.values() if s.address != address]
    await first.machine.runtime.destroy(gone_slot.name)
    await clock.advance(40)

    machine = FakeMachine(first.config.home, first.machine.runtime, first.machine.guest.port)
    second = await open_house(machine)
    assert await second.sandboxes.get(second.team, kept) == record
    assert second.routes.get(kept) == route
    row = await second.store.sandboxes.get(gone)
    assert (row.state, row.end.reason) == (State.KILLED, EndReason.CRASH)
    await clock.advance(59)
    await second.settled()
    assert kept in second.routes
    await clock.advance(1)
    await second.settled()
    assert kept not in second.routes
