from __future__ import annotations

import asyncio
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from atolld.model.sandbox import Identity, SandboxId
from atolld.node import StartSpec
from atolld.node.doubles import FakeMachine, fake_build
from atolld.node.residents import LONGEST_STAY, Resident, plan_evictions

_RESIDENTS = st.lists(
    st.builds(Resident, st.uuids().map(lambda u: SandboxId(u.hex)), st.integers(1, 500), st.floats(0, 1000)),
    max_size=8,
    unique_by=lambda resident: resident.sandbox_id,
)


@given(_RESIDENTS, st.integers(0, 2000), st.integers(0, 2000))
def test_who_stays_fits_the_budget_and_leaves_the_reserve_where_that_can_be(
    residents: list[Resident], budget: int, available: int
) -> None:
    leaving = set(plan_evictions(residents, budget, available, 500, now=1000))
    staying = [resident for resident in residents if resident.sandbox_id not in leaving]
    freed = sum(resident.memory_mib for resident in residents if resident.sandbox_id in leaving)
    assert not staying or sum(resident.memory_mib for resident in staying) <= budget
    assert not staying or available + freed >= 500
    assert all(1000 - resident.since < LONGEST_STAY for resident in staying)
    if leaving and staying:
        gone = [resident for resident in residents if resident.sandbox_id in leaving]
        assert max(r.since for r in gone) <= min(r.since for r in staying)


def test_nobody_leaves_while_there_is_room() -> None:
    assert plan_evictions([Resident(SandboxId("a"), 100, 0)], 100, 1000, 500, now=1) == ()


async def _start(machine: FakeMachine, name: str) -> dict[str, float]:
    build = fake_build(machine.config.home)
    spec = StartSpec(Identity(SandboxId(name), "t", "b", "team"), build.manifest.resources, build)
    return dict((await machine.node.start(spec)).timings_ms)


async def _aim(machine: FakeMachine, blanks: int) -> None:
    build = fake_build(machine.config.home)
    await machine.node.warm([(build, build.manifest.resources, 0)])
    async with asyncio.timeout(5):
        while machine.node.blank_count() != blanks:  # noqa: ASYNC110 (the node announces nothing to tests)
            await asyncio.sleep(0.001)


async def test_a_blank_is_filled_and_another_takes_its_place(tmp_path: Path) -> None:
    machine = FakeMachine(tmp_path, settings={"blank_size": 1})
    await machine.node.open()
    await _aim(machine, 1)
    created = machine.runtime.calls.count("create")
    timings = await _start(machine, "one")
    assert timings["blank"] == 1.0
    assert "create" not in timings
    await _aim(machine, 1)
    assert machine.runtime.calls.count("create") == created + 1
    await machine.node.stop(SandboxId("one"))
    await machine.node.close()
    assert not machine.slots.leased
    assert not machine.runtime.containers


async def test_a_blank_that_is_no_good_costs_nothing_but_itself(tmp_path: Path) -> None:
    machine = FakeMachine(tmp_path, settings={"blank_size": 1})
    await machine.node.open()
    await _aim(machine, 1)
    [name] = machine.runtime.containers
    await machine.runtime.crash(name)
    timings = await _start(machine, "one")
    assert "blank" not in timings
    await machine.node.stop(SandboxId("one"))
    await machine.node.close()
    assert not machine.slots.leased
