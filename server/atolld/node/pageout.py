"""Frozen runs leave memory, where the machine has swap: some seconds after they were frozen, one at a time;
idle ones too, when memory is short (:mod:`atolld.node.idle`).

Who is about to come back stays in memory: the first in line of each kind that waits. Whoever thaws a run
recalls it first, so that none is paged out while it runs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass

from atolld.model.errors import AtollError
from atolld.node.runs import Run
from atolld.node.slots import Slots

_log = logging.getLogger(__name__)
FIRST_IN_LINE = 1
"""Of each kind: a claim of one costs what a thaw does, of a later one some tens of milliseconds more."""
SETTLED = 5.0
"""Seconds after which nobody is expected to come back at once."""
_BETWEEN = 2.0
_AT_ONCE = 64
"""Idle ones, until it is looked again who still is."""
_PATIENCE = 5.0
"""Seconds in which one leaves, or none will soon."""


@dataclass(frozen=True, slots=True)
class Frozen:
    run: Run
    since: float
    """Ticks of its freezing, or of its last activity."""
    line: Hashable = None
    """Those of one line stand in for each other, the latest first; ``None``: it stands in none."""


def plan_page_out(frozen: Iterable[Frozen], now: float) -> list[Run]:
    """Who leaves memory now, the longest frozen first. Pure."""
    leaving: list[Frozen] = []
    before: dict[Hashable, int] = {}
    for one in sorted(frozen, key=lambda one: -one.since):
        place = before[one.line] = before.get(one.line, 0) + 1
        if one.line is not None and place <= FIRST_IN_LINE:
            continue
        if now - one.since >= SETTLED and not one.run.paged_out:
            leaving.append(one)
    return [one.run for one in reversed(leaving)]


class PageOut:
    """``wanted``: whether the operator wants it."""

    def __init__(self, slots: Slots, *, wanted: bool) -> None:
        self._slots = slots
        self._wanted = wanted
        self._leaving: tuple[Run, asyncio.Task[int]] | None = None
        self._recalled: set[Run] = set()
        self._left = asyncio.Event()

    async def run_forever(
        self, find: Callable[[], Iterable[Frozen]], find_idle: Callable[[], Awaitable[Iterable[Frozen]]]
    ) -> None:
        """``find`` says who is frozen; asked again after each, for claims come in between. ``find_idle``: who
        else could leave."""
        while self._wanted:
            await asyncio.sleep(_BETWEEN)
            try:
                if not self._slots.can_page_out():
                    continue
                for run in plan_page_out(await find_idle(), time.monotonic())[:_AT_ONCE]:
                    await self._page_out(run)
                while plan := plan_page_out(find(), time.monotonic()):
                    await self._page_out(plan[0])
            except Exception:
                _log.exception("sandboxes that rest could not leave memory; tried again soon")

    async def wait_for_room(self) -> bool:
        """Returns when one more has left memory; false when none does."""
        if not (self._wanted and self._slots.can_page_out()):
            return False
        try:
            await asyncio.wait_for(self._left.wait(), _PATIENCE)
        except TimeoutError:
            return False
        return True

    async def measure(self, run: Run) -> None:
        """Of a run that was just frozen."""
        try:
            run.memory_mib = await self._slots.measure(run.slot)
        except AtollError as error:
            _log.warning("what a frozen sandbox takes is not known: %s", error)

    async def recall(self, run: Run) -> None:
        """To be called before a run is thawed. Returns when nothing of it is being paged out any more."""
        run.paged_out = False
        if self._leaving is None or self._leaving[0] is not run:
            return
        self._recalled.add(run)
        try:
            await asyncio.wait([self._leaving[1]])
        finally:
            self._recalled.discard(run)

    async def _page_out(self, run: Run) -> None:
        run.paged_out = True  # also when it fails: tried once
        task = asyncio.create_task(self._slots.page_out(run.slot, lambda: run not in self._recalled))
        self._leaving = run, task
        try:
            run.memory_mib = await asyncio.shield(task)
        except AtollError as error:
            _log.warning("a sandbox that rests stays in memory: %s", error)
        finally:
            self._leaving = None
            self._left.set()
            self._left = asyncio.Event()
