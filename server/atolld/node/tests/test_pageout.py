"""Frozen sandboxes leave memory: who, when, and what is counted of them then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from ipaddress import IPv4Interface
from pathlib import Path

import pytest

from atolld.config import read_config
from atolld.model.errors import InvalidRequest
from atolld.model.sandbox import Identity, Resources, SandboxId
from atolld.node import Slot, StartSpec, Target, pageout
from atolld.node.doubles import FakeMachine, LoopbackSlots, fake_build
from atolld.node.memory import read_pressure, reserve_mib
from atolld.node.pageout import SETTLED, Frozen, PageOut, plan_page_out
from atolld.node.runs import Run
from atolld.node.runtime.protocol import Link

NOW = 1000.0


def make_run(name: str = "s000001-aaaaaa") -> Run:
    link = Link("lo", IPv4Interface("127.0.0.1/30"), "127.0.0.1", bytes(6), bytes(6), 1500, "", lambda: -1)
    return Run(Slot(name, 1, Path("/nowhere"), f"/atoll/{name}", link), Resources(), AsyncExitStack())


def test_the_first_in_line_of_each_kind_stays() -> None:
    early, late, other = make_run(), make_run(), make_run()
    frozen = [Frozen(early, 10, "a"), Frozen(late, 20, "a"), Frozen(other, 5, "b")]
    assert plan_page_out(frozen, NOW) == [early]


def test_paused_ones_all_leave_the_longest_paused_first() -> None:
    early, late = make_run(), make_run()
    assert plan_page_out([Frozen(late, 20), Frozen(early, 10)], NOW) == [early, late]


def test_who_was_just_frozen_stays_and_so_does_who_left_already() -> None:
    fresh, gone = make_run(), make_run()
    gone.paged_out = True
    assert plan_page_out([Frozen(fresh, NOW - SETTLED + 1), Frozen(gone, 0)], NOW) == []


async def test_a_recall_waits_until_nothing_of_it_is_paged_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pageout, "_BETWEEN", 0.0)
    run = make_run()
    began, stop = asyncio.Event(), asyncio.Event()

    class Slow(LoopbackSlots):
        def can_page_out(self) -> bool:
            return True

        async def page_out(self, slot: Slot, go_on: Callable[[], bool]) -> int:
            began.set()
            while go_on():  # noqa: ASYNC110 (asked, not told)
                await asyncio.sleep(0)
            stop.set()
            return 7

    page_out = PageOut(Slow(Path("/nowhere")), wanted=True)

    async def nobody() -> list[Frozen]:
        return []

    frozen = page_out.run_forever(lambda: [] if stop.is_set() else [Frozen(run, 0)], nobody)
    forever = asyncio.create_task(frozen)
    await began.wait()
    await page_out.recall(run)
    assert stop.is_set()
    assert not run.paged_out
    forever.cancel()


@pytest.fixture
async def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeMachine]:
    monkeypatch.setattr(pageout, "_BETWEEN", 0.001)
    monkeypatch.setattr(pageout, "SETTLED", 0.0)
    machine = FakeMachine(tmp_path)
    machine.slots.has_swap = True
    await machine.node.open()
    yield machine
    for sandbox_id in tuple(machine.node.running()):
        await machine.node.stop(sandbox_id)
    await machine.node.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (the pool announces nothing)
            await asyncio.sleep(0.001)


async def test_all_but_the_first_that_wait_leave_and_come_back(machine: FakeMachine, tmp_path: Path) -> None:
    build = fake_build(tmp_path)
    await machine.node.warm([(build, Resources(), 3)])
    await until(lambda: machine.node.warm_count() == 3 and len(machine.slots.paged_out) == 2)
    for number in range(3):
        identity = Identity(SandboxId(f"i{number}"), "tbase", "bbase", "team")
        started = await machine.node.start(StartSpec(identity, Resources(), build))
        assert "warm" in started.timings_ms


async def test_a_paused_one_leaves_and_comes_back(machine: FakeMachine, tmp_path: Path) -> None:
    build = fake_build(tmp_path)
    identity = Identity(SandboxId("i1"), "tbase", "bbase", "team")
    await machine.node.start(StartSpec(identity, Resources(), build, may_claim=False))
    await machine.node.pause(identity.sandbox_id, Target("snap", "tbase", "base"))
    await until(lambda: len(machine.slots.paged_out) == 1)
    resumed = await machine.node.resume(identity, Resources(), "snap")
    assert "resident" in resumed.timings_ms


async def test_without_swap_all_stay(machine: FakeMachine, tmp_path: Path) -> None:
    machine.slots.has_swap = False
    await machine.node.warm([(fake_build(tmp_path), Resources(), 2)])
    await until(lambda: machine.node.warm_count() == 2)
    await asyncio.sleep(0.02)
    assert machine.slots.paged_out == {}


def test_it_is_a_setting() -> None:
    assert read_config({}).page_out
    assert not read_config({"ATOLL_PAGE_OUT": "off"}).page_out
    with pytest.raises(InvalidRequest, match="ATOLL_PAGE_OUT"):
        read_config({"ATOLL_PAGE_OUT": "perhaps"})


def test_more_stays_free_where_memory_is_waited_for(tmp_path: Path) -> None:
    assert reserve_mib(24576, pressure=0.0) == 768
    assert reserve_mib(24576, pressure=30.0) == 3072
    told = tmp_path / "memory"
    told.write_text(
        "some avg10=30.50 avg60=1.00 avg300=0.00 total=1\nfull avg10=9.00 avg60=0 avg300=0 total=1\n"
    )
    assert read_pressure(told) == 30.5
    assert read_pressure(tmp_path / "absent") == 0.0
