"""Who is idle, and leaves memory when it is short."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from atolld.model.errors import CapacityUnavailable, HostError
from atolld.model.sandbox import Identity, Resources, SandboxId
from atolld.node import idle, pageout, placement
from atolld.node.doubles import FakeMachine, LoopbackSlots, fake_build
from atolld.node.idle import IDLE_AFTER, Idleness, is_short
from atolld.node.memory import Room, reserve_mib
from atolld.node.pageout import Frozen, PageOut
from atolld.node.runs import Run
from atolld.node.slots import Slot
from atolld.node.starting import StartSpec
from atolld.node.tests.test_pageout import make_run


class _Slots(LoopbackSlots):
    def __init__(self) -> None:
        super().__init__(Path("/nowhere"))
        self.cpu: dict[Slot, float] = {}
        self.left: list[Slot] = []

    async def measure_cpu(self, slot: Slot) -> float:
        if slot not in self.cpu:
            raise HostError("it ended")
        return self.cpu[slot]

    def can_page_out(self) -> bool:
        return True

    async def page_out(self, slot: Slot, go_on: object) -> int:
        self.left.append(slot)
        return 1


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    machine = {"MemTotal": 1000, "MemAvailable": 100}
    monkeypatch.setattr(idle, "read_memory_mib", machine.__getitem__)
    return machine


def _runs(slots: _Slots, count: int) -> list[Run]:
    runs = [make_run() for _ in range(count)]
    slots.cpu = {run.slot: 1.0 for run in runs}
    return runs


async def test_who_used_nothing_for_a_while_is_idle(memory: dict[str, int]) -> None:
    slots = _Slots()
    quiet, busy = runs = _runs(slots, 2)
    found = Idleness(slots)
    assert await found.find(runs, 100.0) == []
    slots.cpu[busy.slot] += 1
    assert await found.find(runs, 100.0 + IDLE_AFTER / 2) == []
    assert await found.find(runs, 100.0 + IDLE_AFTER) == [Frozen(quiet, 100.0)]


async def test_who_goes_on_may_leave_again_later(memory: dict[str, int]) -> None:
    slots = _Slots()
    (run,) = runs = _runs(slots, 1)
    found = Idleness(slots)
    await found.find(runs, 0.0)
    run.paged_out = True
    slots.cpu[run.slot] += 0.001
    await found.find(runs, IDLE_AFTER)
    assert run.paged_out
    slots.cpu[run.slot] += 1
    assert await found.find(runs, IDLE_AFTER + 1) == []
    assert not run.paged_out


async def test_nobody_leaves_while_there_is_memory_and_who_ended_is_forgotten(memory: dict[str, int]) -> None:
    slots = _Slots()
    ended, lives = runs = _runs(slots, 2)
    found = Idleness(slots)
    await found.find(runs, 0.0)
    del slots.cpu[ended.slot]
    assert await found.find([lives], IDLE_AFTER) == [Frozen(lives, 0.0)]
    memory["MemAvailable"] = 900
    assert await found.find([lives], IDLE_AFTER) == []


async def test_the_idle_are_paged_out_once(memory: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pageout, "_BETWEEN", 0.0)
    slots, asked = _Slots(), 0
    (run,) = _runs(slots, 1)

    async def find_idle() -> list[Frozen]:
        nonlocal asked
        asked += 1
        return [Frozen(run, 0.0)]

    forever = asyncio.create_task(PageOut(slots, wanted=True).run_forever(list[Frozen], find_idle))
    while asked < 4:  # noqa: ASYNC110 (asked, not told)
        await asyncio.sleep(0)
    forever.cancel()
    assert slots.left == [run.slot]


def test_short_is_less_than_a_quarter() -> None:
    assert is_short(1000, 249)
    assert not is_short(1000, 250)


async def test_a_create_waits_for_the_idle_to_leave(
    tmp_path: Path, memory: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pageout, "_BETWEEN", 0.001)
    monkeypatch.setattr(idle, "IDLE_AFTER", 0.0)
    machine, build = FakeMachine(tmp_path), fake_build(tmp_path)
    await machine.node.open()

    async def start(name: str) -> None:
        identity = Identity(SandboxId(name), "tbase", "bbase", "team")
        await machine.node.start(StartSpec(identity, Resources(), build, may_claim=False))

    def read_room() -> Room:
        return Room(10_000, 300 + 1000 * len(machine.slots.paged_out), reserve_mib(10_000))

    await start("first")
    monkeypatch.setattr(placement, "read_room", read_room)
    monkeypatch.setattr(pageout, "_PATIENCE", 0.1)
    with pytest.raises(CapacityUnavailable):
        await start("refused")
    machine.slots.has_swap = True
    monkeypatch.setattr(pageout, "_PATIENCE", 10.0)
    await start("second")
    assert machine.slots.paged_out
    for sandbox_id in tuple(machine.node.running()):
        await machine.node.stop(sandbox_id)
    await machine.node.close()
