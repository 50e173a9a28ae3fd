"""Random lives: whatever the team, the machine and the clock do, in whatever order, each sandbox is in one
state, and the database, the routes, the machine and the disk say the same."""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from atolld.control.sandboxes import NewSandbox
from atolld.model.errors import AtollError
from atolld.model.sandbox import SandboxId, State
from atolld.node import Node
from atolld.node.doubles import FakeMachine

_VERBS = ("measure", "freeze", "checkpoint", "save_layer", "thaw", "create", "start", "restore")
_CALLS = (
    *("pause", "doze", "connect", "reboot", "wake", "kill", "fork", "set_timeout"),
    *("snapshot", "rollback", "forget"),
)


class Lives(RuleBasedStateMachine):
    """Each rule is one moment; `together` lets several calls race."""

    def __init__(self, build_house: Any, clock: Any) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = tempfile.TemporaryDirectory()
        self.build_house, self.clock = build_house, clock
        self.ids: list[SandboxId] = []

    def run(self, work: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(_ensure(work), 30))

    @initialize(resident=st.sampled_from([0, 1 << 20]))
    def open(self, resident: int) -> None:
        self.resident = resident
        self.house = self.run(
            self.build_house(Path(self.directory.name), self.clock, resident_memory_mib=resident)
        )

    def teardown(self) -> None:
        try:
            self.run(self._close())
        finally:
            self.loop.close()
            self.directory.cleanup()

    async def _close(self) -> None:
        await self.house.sandboxes.end_all()
        await self.house.sandboxes.close()
        await self.house.machine.node.close()
        await self.house.store.close()

    async def _tell(self, call: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await call()
        except AtollError as error:
            return error

    def _calls(self, name: str, sandbox_id: SandboxId) -> Callable[[], Awaitable[Any]]:
        sandboxes, team = self.house.sandboxes, self.house.team
        return {
            "pause": lambda: sandboxes.pause(team, sandbox_id),
            "doze": lambda: sandboxes.pause(team, sandbox_id, memory=False),
            "connect": lambda: sandboxes.connect(team, sandbox_id, 100),
            "reboot": lambda: sandboxes.connect(team, sandbox_id, 100, reboot=True),
            "wake": lambda: sandboxes.wake(sandbox_id),
            "kill": lambda: sandboxes.kill(team, sandbox_id),
            "fork": lambda: self._fork(sandbox_id),
            "set_timeout": lambda: sandboxes.set_timeout(team, sandbox_id, 50),
            "snapshot": lambda: sandboxes.snapshot(team, sandbox_id, f"of-{sandbox_id}"),
            "rollback": lambda: sandboxes.rollback(team, sandbox_id, f"of-{sandbox_id}"),
            "forget": lambda: sandboxes.copies.delete(team, f"of-{sandbox_id}"),
        }[name]

    async def _fork(self, sandbox_id: SandboxId) -> None:
        for outcome in await self.house.sandboxes.fork(self.house.team, sandbox_id, 2, 60):
            if not isinstance(outcome, AtollError):
                self.ids.append(outcome.sandbox_id)

    # -- what happens

    @rule(auto=st.booleans())
    def create(self, auto: bool) -> None:
        wanted = NewSandbox("base", 60, auto_pause=auto, auto_resume=auto)
        made = self.run(self._tell(lambda: self.house.sandboxes.create(self.house.team, wanted)))
        if not isinstance(made, AtollError):
            self.ids.append(made.record.sandbox_id)

    @rule(
        names=st.lists(
            st.sampled_from(_CALLS),
            min_size=1,
            max_size=4,
        ),
        which=st.randoms(use_true_random=False),
    )
    def together(self, names: list[str], which: random.Random) -> None:
        if self.ids:
            target = which.choice(self.ids)
            self.run(_gather([self._tell(self._calls(name, target)) for name in names]))

    @rule(verb=st.sampled_from(_VERBS))
    def something_will_fail(self, verb: str) -> None:
        self.house.machine.runtime.fail[verb] = 1

    @rule(seconds=st.sampled_from([1, 40, 70]))
    def time_passes(self, seconds: int) -> None:
        self.run(self.clock.advance(seconds))

    @rule(which=st.randoms(use_true_random=False))
    def one_crashes(self, which: random.Random) -> None:
        names = sorted(self.house.machine.runtime.containers)
        if names:
            self.run(self._crash(which.choice(names)))

    async def _crash(self, name: str) -> None:
        await self.house.machine.runtime.crash(name)
        while name in self.house.machine.runtime.containers:  # noqa: ASYNC110 (nothing announces it)
            await asyncio.sleep(0)

    @rule()
    def the_server_is_killed(self) -> None:
        self.house.machine.runtime.fail.clear()
        self.run(self.house.die())
        old = self.house.machine
        machine = FakeMachine(old.config.home, old.runtime, settings={"resident_memory_mib": self.resident})
        machine.slots, machine.guest = old.slots, old.guest
        machine.node = Node(machine.config, machine.runtime, machine.guest, machine.slots)
        self.house = self.run(self.build_house(Path(self.directory.name), self.clock, machine))

    # -- what always holds

    @invariant()
    def all_agree(self) -> None:
        if hasattr(self, "house"):
            self.run(self._check())

    async def _check(self) -> None:
        house = self.house
        async with asyncio.timeout(20):
            for _ in range(3):  # an end of one kind sets off one of the other
                while unwinding := [*house.machine.node._unwinding.tasks()]:
                    await asyncio.wait(unwinding)
                for _ in range(10):  # whoever watched it tells of it
                    await asyncio.sleep(0)
                await house.settled()
        running = house.machine.node.running()
        held = set(await house.store.snapshots.ids())
        assert not await house.store.snapshots.superseded(), "nothing started from them"
        for sandbox_id in self.ids:
            row = await house.store.sandboxes.get(sandbox_id)
            assert row.state in (State.RUNNING, State.PAUSED, State.KILLED), row
            assert (sandbox_id in running) == (row.state is State.RUNNING), row
            assert (house.routes.get(sandbox_id) is not None) == (row.state is State.RUNNING), row
            assert (row.snapshot_id is not None and row.state is State.PAUSED) == (
                row.paused_at is not None and row.state is State.PAUSED
            )
            if row.state is State.PAUSED and row.snapshot_id is not None:
                held.add(row.snapshot_id)
        assert held == await house.machine.node.snapshots()
        assert len(house.machine.slots.leased) == len(running) + house.machine.node.resident_count()
        frozen = [c for c in house.machine.runtime.containers.values() if not c.frozen.is_set()]
        assert len(house.machine.slots.held) == house.machine.node.resident_count() == len(frozen)


async def _ensure(work: Awaitable[Any]) -> Any:
    return await work


async def _gather(work: list[Awaitable[Any]]) -> None:
    await asyncio.gather(*work)


def test_random_lives(build_house: Any, clock_type: Any) -> None:
    run_state_machine_as_test(
        lambda: Lives(build_house, clock_type()),  # type: ignore[arg-type]
        settings=settings(
            max_examples=int(os.environ.get("ATOLL_LIVES", "6")),
            stateful_step_count=10,
            deadline=None,
            phases=[Phase.generate],  # a life takes a second: too long to shrink
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
