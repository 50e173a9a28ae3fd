"""Keeps the pool: warm sandboxes, restored and frozen, and blanks; as many as `pool` plans.

A claim takes one out and thaws it. The pool refills in the background, one run at a time, when nobody has
come for a moment: whoever just got a sandbox has the machine for the first command.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass

from atolld.model.errors import AtollError
from atolld.model.sandbox import Resources
from atolld.model.template import Build
from atolld.node.blanks import Blanks
from atolld.node.launcher import Launcher
from atolld.node.memory import memory_of, read_room
from atolld.node.pageout import Frozen, PageOut
from atolld.node.placement import Placement
from atolld.node.pool import Demand, Kind, Stock, plan_pool, plan_stock
from atolld.node.runs import Run
from atolld.node.runtime.protocol import Runtime
from atolld.node.starting import StartSpec
from atolld.node.unwinding import Unwinding
from atolld.node.watches import Watches

_log = logging.getLogger(__name__)
_RETRY = 30.0
"""Seconds until a template that could not be made warm is tried again."""
_RESPITE, _LONGEST_RESPITE = 0.3, 3.0
"""Seconds that nobody must have come for, and that a refill waits for that at most."""
_BETWEEN_PLANS = 30.0
"""Seconds between two looks at what waits, when nothing happens: some is not worth its memory by now."""
OLDEST = 3600.0
"""Seconds that one waits at most."""
_CLAIM_PATIENCE = 2.0
"""Seconds a warm one may take to become a sandbox before the next is tried: it is milliseconds."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    kind: Kind
    run: Run
    since: float


class PoolKeeper:
    def __init__(
        self,
        *,
        runtime: Runtime,
        launcher: Launcher,
        placement: Placement,
        blanks: Blanks,
        unwinding: Unwinding,
        watches: Watches,
        page_out: PageOut,
        blank_size: int,
        memory_mib: int | None,
    ) -> None:
        """``blank_size``: how many blanks of each root wait at least; ``memory_mib``: what all that waits may
        take, ``None``: a sixteenth of the machine's."""
        self._runtime = runtime
        self._launcher = launcher
        self._placement = placement
        self._blanks = blanks
        self._blank_size = blank_size
        self._memory_mib = memory_mib
        self._unwinding = unwinding
        self._watches = watches
        self._page_out = page_out
        self._waiting: list[_Waiting] = []
        self._least: dict[Kind, tuple[Build, int]] = {}
        self._demands: dict[Kind, Demand] = {}
        self._blocked: set[Kind] = set()
        self._refill_wanted = asyncio.Event()
        self._last_taken = 0.0

    def aim(self, builds: Iterable[tuple[Build, Resources, int]]) -> None:
        """How many of each build wait at least from now on, none at all where that is 0; the pool gets there
        in the background, and beyond it where more are asked for."""
        self._least = {
            Kind(build.manifest.build_id, resources): (build, count) for build, resources, count in builds
        }
        self._demands = {kind: self._demands.get(kind, Demand()) for kind in self._least}
        self._blanks.aim(
            {(build.root_path, kind.resources): self._blank_size for kind, (build, _) in self._least.items()}
        )
        self._blocked.clear()
        self._refill_wanted.set()

    async def claim(self, spec: StartSpec) -> Run | None:
        """A warm run that became this sandbox; ``None`` when none waits that is alive."""
        kind = Kind(spec.build.manifest.build_id, spec.resources)
        if kind in self._demands:
            self._demands[kind].arrive(time.monotonic())
        while (run := self._take(kind)) is not None:
            self.notice_taken()
            run.timings_ms = {}
            try:
                await self._placement.thaw_and_hand_over(run, spec, _CLAIM_PATIENCE)
            except AtollError as error:
                _log.warning("a warm sandbox was no good, the next is tried: %s", error)
                continue
            run.timings_ms["warm"] = 1.0
            return run
        return None

    def notice_taken(self) -> None:
        """One less waits, warm or blank: it is replaced in a moment."""
        self._last_taken = time.monotonic()
        self._refill_wanted.set()

    def take_all(self) -> list[Run]:
        """What waits, blanks too; the caller's from now on."""
        runs = [waiting.run for waiting in self._waiting]
        self._waiting.clear()
        return [*runs, *self._blanks.take_all()]

    def find_frozen(self) -> list[Frozen]:
        return [Frozen(waiting.run, waiting.since, waiting.kind) for waiting in self._waiting]

    def __len__(self) -> int:
        """How many warm ones wait."""
        return len(self._waiting)

    async def refill_forever(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_BETWEEN_PLANS):
                    await self._refill_wanted.wait()
            except TimeoutError:
                pass
            self._refill_wanted.clear()
            try:
                await self._refill()
            except Exception:
                _log.exception("the pool could not be refilled; the next start tries again")

    # -- what waits ----------------------------------------------------------------------------------------

    def _take(self, kind: Kind) -> Run | None:
        """The one that has waited least: its pages are the likeliest to be in the processor's caches."""
        for waiting in reversed(self._waiting):
            if waiting.kind == kind:
                return self._take_out(waiting)
        return None

    def _take_out(self, waiting: _Waiting) -> Run:
        self._waiting.remove(waiting)
        self._watches.drop(waiting.run)
        return waiting.run

    def _enter(self, kind: Kind, run: Run) -> None:
        waiting = _Waiting(kind, run, time.monotonic())
        self._waiting.append(waiting)

        async def ended(_: str) -> None:
            """It makes room for another."""
            if waiting in self._waiting:
                await self._unwinding.remove(self._take_out(waiting))
                self._refill_wanted.set()

        self._watches.watch(run, ended)

    # -- refilling -----------------------------------------------------------------------------------------

    async def _refill(self) -> None:
        """Makes and drops runs until the plan is empty; plans anew after each, for claims come in between."""
        await self._drop_old()
        while True:
            await self._wait_calm()
            targets = self._plan()
            plan = plan_pool(
                {kind: targets.get(kind, 0) for kind in self._least},
                [waiting.kind for waiting in self._waiting],
                self._blocked,
            )
            for kind in plan.drop:
                run = self._take(kind)
                if run is not None:
                    await self._unwinding.remove(run)
            if plan.make:
                await self._make_warm(plan.make[0])
            elif not await self._make_blank(targets):
                return

    async def _wait_calm(self) -> None:
        until = time.monotonic() + _LONGEST_RESPITE
        while (now := time.monotonic()) < min(until, self._last_taken + _RESPITE):  # noqa: ASYNC110
            await asyncio.sleep(min(until, self._last_taken + _RESPITE) - now)

    async def _drop_old(self) -> None:
        for waiting in [w for w in self._waiting if time.monotonic() - w.since >= OLDEST]:
            if waiting in self._waiting:
                await self._unwinding.remove(self._take_out(waiting))

    def _plan(self) -> dict[Kind, int]:
        now = time.monotonic()
        kinds = [waiting.kind for waiting in self._waiting]
        warm = {
            kind: Stock(
                self._demands[kind].reached(now),
                self._memory_of_each(kind, build),
                at_least=least,
                waiting=kinds.count(kind),
            )
            for kind, (build, least) in self._least.items()
            if least > 0
        }
        stocks = {**warm, **self._blanks.stocks(now)}
        room = read_room()
        budget = room.total // 16 if self._memory_mib is None else self._memory_mib
        taken = sum(stock.memory_mib * stock.waiting for stock in stocks.values())
        return plan_stock(stocks, min(budget, taken + room.available - 2 * room.reserved))

    def _memory_of_each(self, kind: Kind, build: Build) -> int:
        """As those that wait take it, paged out or not: frozen, they do not grow."""
        measured = [w.run.memory_mib for w in self._waiting if w.kind == kind and w.run.memory_mib]
        return -(-sum(measured) // len(measured)) if measured else memory_of(build)

    async def _make_blank(self, targets: dict[Kind, int]) -> bool:
        """Whether one was made: there may be more to make."""
        try:
            made, dropped = await self._blanks.refill(targets)
        except AtollError as error:
            _log.warning("no blank can be kept ahead: %s", error)
            asyncio.get_running_loop().call_later(_RETRY, self._refill_wanted.set)
            return False
        for run in dropped:
            await self._unwinding.remove(run)
        return made

    async def _make_warm(self, kind: Kind) -> None:
        build, _ = self._least[kind]
        began = time.monotonic()
        try:
            run = await self._placement.restore(build, kind.resources, may_fill=False)
            await self._make_ready(run, build)
        except AtollError as error:
            _log.warning("template %s cannot be kept warm: %s", build.manifest.name, error)
            self._blocked.add(kind)
            asyncio.get_running_loop().call_later(_RETRY, self._unblock, kind)
            return
        if kind in self._demands:
            self._demands[kind].note_refill(time.monotonic() - began)
        self._enter(kind, run)

    async def _make_ready(self, run: Run, build: Build) -> None:
        try:
            await self._launcher.rehearse(run, build)
            await self._runtime.freeze(run.slot.name)
            await self._page_out.measure(run)
        except BaseException:
            await self._unwinding.remove(run)
            raise

    def _unblock(self, kind: Kind) -> None:
        self._blocked.discard(kind)
        self._refill_wanted.set()
