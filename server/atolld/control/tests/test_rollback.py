"""A running sandbox becomes what it was when one of its snapshots was taken."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from atolld.model.errors import Conflict, HostError, NotFound
from atolld.model.sandbox import SandboxId, State
from atolld.node.doubles import FakeMachine


async def _row(house: Any, sandbox_id: SandboxId) -> Any:
    return await house.store.sandboxes.get(sandbox_id)


async def test_it_keeps_its_id_its_token_and_its_deadline(house: Any) -> None:
    sandbox_id = await house.create(100)
    before, route = await _row(house, sandbox_id), house.routes.get(sandbox_id)
    await house.sandboxes.snapshot(house.team, sandbox_id, "good")
    await house.clock.advance(10)
    record, timings = await house.sandboxes.rollback(house.team, sandbox_id, "good")
    assert timings["restore"] >= 0
    assert (record.state, record.access_token, record.deadline) == (
        State.RUNNING,
        before.access_token,
        before.deadline,
    )
    assert record.incarnation == before.incarnation + 1
    now = house.routes.get(sandbox_id)
    assert (now.envd_token, now.address != route.address) == (route.envd_token, True)
    await asyncio.gather(*house.machine.node._unwinding.tasks())
    assert len(house.machine.runtime.containers) == len(house.machine.slots.leased) == 1
    await house.clock.advance(90)
    await house.settled()
    assert (await _row(house, sandbox_id)).state is State.KILLED


@pytest.mark.parametrize("verb", ["create", "restore"])
async def test_one_that_fails_changes_nothing(house: Any, verb: str) -> None:
    sandbox_id = await house.create()
    route = house.routes.get(sandbox_id)
    await house.sandboxes.snapshot(house.team, sandbox_id, "good")
    house.machine.runtime.fail[verb] = 1
    with pytest.raises(HostError, match="told to fail"):
        await house.sandboxes.rollback(house.team, sandbox_id, "good")
    assert (await _row(house, sandbox_id)).state is State.RUNNING
    assert house.routes.get(sandbox_id) == route
    assert len(house.machine.runtime.containers) == 1


async def test_only_its_own_snapshots_will_do(house: Any) -> None:
    sandbox_id, other = await house.create(), await house.create()
    await house.sandboxes.snapshot(house.team, other, "others")
    for name in ("others", "base", "nothing"):
        with pytest.raises(NotFound, match="has no snapshot"):
            await house.sandboxes.rollback(house.team, sandbox_id, name)


async def test_a_paused_one_is_resumed_first(house: Any) -> None:
    sandbox_id = await house.create()
    await house.sandboxes.snapshot(house.team, sandbox_id, "good")
    await house.sandboxes.pause(house.team, sandbox_id)
    with pytest.raises(Conflict, match="resume it first"):
        await house.sandboxes.rollback(house.team, sandbox_id, "good")


async def test_a_kill_meanwhile_wins(house: Any) -> None:
    sandbox_id = await house.create()
    await house.sandboxes.snapshot(house.team, sandbox_id, "good")
    rolling = asyncio.create_task(house.sandboxes.rollback(house.team, sandbox_id, "good"))
    await house.sandboxes.kill(house.team, sandbox_id)
    await asyncio.wait([rolling])
    await house.settled()
    assert (await _row(house, sandbox_id)).state is State.KILLED
    assert not house.machine.runtime.containers
    assert not house.machine.slots.leased


async def test_of_a_rollback_that_was_broken_off_one_sandbox_is_found(open_house: Any) -> None:
    house = await open_house()
    sandbox_id = await house.create()
    await house.sandboxes.snapshot(house.team, sandbox_id, "good")
    placement = house.machine.node._placement
    hand_over = placement.hand_over

    async def die(run: Any, spec: Any) -> None:
        await hand_over(run, spec)
        raise asyncio.CancelledError  # as far as the machine is concerned: both have the id now

    placement.hand_over = die
    with pytest.raises(asyncio.CancelledError):
        await house.sandboxes.rollback(house.team, sandbox_id, "good")
    assert len(house.machine.runtime.containers) == 2
    await house.die()
    machine = FakeMachine(house.config.home, house.machine.runtime, house.machine.guest.port)
    second = await open_house(machine)
    assert (await _row(second, sandbox_id)).state is State.RUNNING
    assert list(machine.node.running()) == [sandbox_id]
    assert len(machine.runtime.containers) == 1
