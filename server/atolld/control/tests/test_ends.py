"""What is told of sandboxes that are over, and what a stop of the server does to those that are not."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
import structlog.testing

from atolld.control.ended import SandboxOver
from atolld.control.sandboxes import NewSandbox
from atolld.model.errors import NotFound
from atolld.model.sandbox import EndReason, SandboxId, State
from atolld.node import Node
from atolld.node.doubles import FakeMachine


async def _over(house: Any, sandbox_id: SandboxId) -> Any:
    await house.settled()
    with pytest.raises(SandboxOver) as told:
        await house.sandboxes.get(house.team, sandbox_id)
    return told.value.end


async def test_who_and_why_is_told(house: Any) -> None:
    killed, expired = await house.create(), await house.create(10)
    await house.sandboxes.kill(house.team, killed)
    await house.clock.advance(10)
    end = await _over(house, killed)
    assert (end.reason, end.detail) == (EndReason.REQUEST, "killed by team local")
    assert (await _over(house, expired)).reason is EndReason.TIMEOUT


@pytest.mark.parametrize("jump", [timedelta(days=1), timedelta(days=-1)])
async def test_a_jump_of_the_wall_clock_ends_nothing_early_also_across_a_restart(
    open_house: Any, clock: Any, jump: timedelta
) -> None:
    first = await open_house()
    sandbox_id = await first.create(100)
    clock.wall += jump
    await clock.advance(50)
    await first.die()
    second = await open_house(FakeMachine(first.config.home, first.machine.runtime, first.machine.guest.port))
    await clock.advance(49)
    await second.settled()
    assert sandbox_id in second.routes
    await clock.advance(1)
    assert (await _over(second, sandbox_id)).reason is EndReason.TIMEOUT


async def test_who_nobody_resumes_is_told_so_with_its_snapshot_gone(open_house: Any) -> None:
    house = await open_house(paused_days=1)
    sandbox_id = await house.create()
    await house.sandboxes.pause(house.team, sandbox_id)
    with structlog.testing.capture_logs() as logs:
        await house.clock.advance(86400)
        end = await _over(house, sandbox_id)
    assert (end.reason, end.detail) == (EndReason.FORGOTTEN, "nobody resumed it in time")
    told = [line for line in logs if line["event"] == "control.sandbox.ended"]
    assert [(line["sandbox_id"], line["reason"]) for line in told] == [(sandbox_id, EndReason.FORGOTTEN)]
    assert not await house.machine.node.snapshots()


@pytest.mark.parametrize(
    ("words", "full", "memory", "reason"),
    [
        ("panic: out of luck", False, False, EndReason.CRASH),
        ("", False, False, EndReason.CRASH),
        ("bus error", True, False, EndReason.DISK_FULL),
        ("", False, True, EndReason.MEMORY_LIMIT),
    ],
)
async def test_a_sandbox_that_ends_by_itself_says_so(
    house: Any, monkeypatch: pytest.MonkeyPatch, words: str, full: bool, memory: bool, reason: EndReason
) -> None:
    def is_full(_: Path) -> bool:
        return full

    monkeypatch.setattr("atolld.node.agent.is_full", is_full)
    sandbox_id = await house.create()
    [name] = house.machine.runtime.containers
    if memory:
        house.machine.slots.out_of_memory.add(name)
    await house.machine.runtime.crash(name, words)
    async with asyncio.timeout(5):
        while (await house.store.sandboxes.get(sandbox_id)).state is not State.KILLED:  # noqa: ASYNC110
            await asyncio.sleep(0)
    end = await _over(house, sandbox_id)
    assert (end.reason, end.detail) == (reason, words or "it left no last words")


async def test_it_is_forgotten_after_some_days(open_house: Any) -> None:
    house = await open_house(ended_days=2)
    sandbox_id = await house.create()
    await house.sandboxes.kill(house.team, sandbox_id)
    await _over(house, sandbox_id)
    house.clock.wall += timedelta(days=2, seconds=1)
    assert await house.sandboxes._ended.forget() == 1
    with pytest.raises(NotFound) as told:
        await house.sandboxes.get(house.team, sandbox_id)
    assert not isinstance(told.value, SandboxOver)


async def test_what_ran_at_a_stop_that_pauses_comes_back_with_what_was_left_of_its_life(
    open_house: Any, clock: Any
) -> None:
    first = await open_house()
    ran, slept = await first.create(100), await first.create(100)
    await first.sandboxes.pause(first.team, slept)
    await clock.advance(40)
    assert await first.sandboxes.pause_all() == 1
    assert not first.machine.node.running()
    await first.die()
    clock.boot_id = "another boot"
    await clock.advance(1000)

    machine = FakeMachine(first.config.home, first.machine.runtime)
    machine.guest = first.machine.guest  # the key that its daemons obey
    machine.node = Node(machine.config, machine.runtime, machine.guest, machine.slots)
    second = await open_house(machine)
    await second.settled()
    row = await second.store.sandboxes.get(ran)
    assert (row.state, row.comes_back) == (State.RUNNING, False)
    assert row.deadline.at == clock.now() + timedelta(seconds=60)
    assert ran in second.routes
    assert (await second.store.sandboxes.get(slept)).state is State.PAUSED


async def test_what_ran_at_any_other_restart_of_the_machine_is_over(open_house: Any, clock: Any) -> None:
    first = await open_house()
    sandbox_id = await first.create(100)
    await first.die()
    for name in tuple(first.machine.runtime.containers):
        await first.machine.runtime.destroy(name)
    clock.boot_id = "another boot"
    second = await open_house(FakeMachine(first.config.home, first.machine.runtime, first.machine.guest.port))
    end = await _over(second, sandbox_id)
    assert end.reason is EndReason.HOST_RESTARTED


async def test_a_key_stands_for_its_sandbox_across_a_restart(open_house: Any) -> None:
    first = await open_house()
    wanted = NewSandbox("base", 60, key="one", https_ports=frozenset({443, 8443}))
    made = (await first.sandboxes.create(first.team, wanted)).record.sandbox_id
    await first.die()
    machine = FakeMachine(first.config.home, first.machine.runtime, first.machine.guest.port)
    second = await open_house(machine)
    assert (await second.sandboxes.create(second.team, wanted)).record.sandbox_id == made
    assert list(machine.node.running()) == [made]
