"""Keeps the pool: warm sandboxes, restored and frozen, and blanks; as many as `pool` plans.

A claim takes one out and thaws it; the pool refills in the background, one run at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from atolld.model.errors import AtollError
from atolld.model.sandbox import Resources
from atolld.model.template import Build
from atolld.node.blanks import Blanks
from atolld.node.launcher import Launcher
from atolld.node.placement import Placement
from atolld.node.pool import Kind, plan_pool
from atolld.node.runs import Run, Stopwatch
from atolld.node.runtime.protocol import Runtime
from atolld.node.starting import StartSpec
from atolld.node.unwinding import Unwinding
from atolld.node.watches import Watches

_log = logging.getLogger(__name__)
_RETRY = 30.0
"""Seconds until a template that could not be made warm is tried again."""


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
        refill_wanted: asyncio.Event,
        blank_size: int,
    ) -> None:
        self._runtime = runtime
        self._launcher = launcher
        self._placement = placement
        self._blanks = blanks
        self._blank_size = blank_size
        self._unwinding = unwinding
        self._watches = watches
        self._waiting: list[tuple[Kind, Run]] = []
        self._targets: dict[Kind, tuple[Build, int]] = {}
        self._blocked: set[Kind] = set()
        self._refill_wanted = refill_wanted

    def aim(self, builds: Iterable[tuple[Build, Resources, int]]) -> None:
        """How many of each build wait from now on; the pool gets there in the background."""
        self._targets = {
            Kind(build.manifest.build_id, resources): (build, count) for build, resources, count in builds
        }
        self._blanks.aim(
            {
                (build.root_path, kind.resources): self._blank_size
                for kind, (build, _) in self._targets.items()
            }
        )
        self._blocked.clear()
        self._refill_wanted.set()

    async def claim(self, spec: StartSpec) -> Run | None:
        """A warm run that became this sandbox; ``None`` when none waits that is alive."""
        kind = Kind(spec.build.manifest.build_id, spec.resources)
        while (run := self._take(kind)) is not None:
            self._refill_wanted.set()
            watch = Stopwatch()
            run.timings_ms = watch.timings_ms
            try:
                await self._thaw(run)
                watch.mark("thaw")
                await self._placement.hand_over(run, spec)
            except AtollError as error:
                _log.warning("a warm sandbox was no good, the next is tried: %s", error)
                continue
            run.timings_ms["warm"] = 1.0
            return run
        return None

    def take_all(self) -> list[Run]:
        """What waits, blanks too; the caller's from now on."""
        runs = [run for _, run in self._waiting]
        self._waiting.clear()
        return [*runs, *self._blanks.take_all()]

    def __len__(self) -> int:
        """How many warm ones wait."""
        return len(self._waiting)

    async def refill_forever(self) -> None:
        while True:
            await self._refill_wanted.wait()
            self._refill_wanted.clear()
            try:
                await self._refill()
            except Exception:
                _log.exception("the pool could not be refilled; the next start tries again")

    def _take(self, kind: Kind) -> Run | None:
        for entry in self._waiting:
            if entry[0] == kind:
                return self._take_out(entry)
        return None

    async def _thaw(self, run: Run) -> None:
        try:
            await self._runtime.thaw(run.slot.name)
        except BaseException:
            await self._unwinding.remove(run)
            raise

    async def _refill(self) -> None:
        """Makes and drops runs until the plan is empty; plans anew after each, for claims come in between."""
        while True:
            targets = {kind: count for kind, (_, count) in self._targets.items()}
            plan = plan_pool(targets, [kind for kind, _ in self._waiting], self._blocked)
            for kind in plan.drop:
                run = self._take(kind)
                if run is not None:
                    await self._unwinding.remove(run)
            if plan.make:
                await self._make_warm(plan.make[0])
            elif not await self._make_blank():
                return

    async def _make_blank(self) -> bool:
        """Whether one was made: there may be more to make."""
        try:
            made, dropped = await self._blanks.refill()
        except AtollError as error:
            _log.warning("no blank can be kept ahead: %s", error)
            asyncio.get_running_loop().call_later(_RETRY, self._refill_wanted.set)
            return False
        for run in dropped:
            await self._unwinding.remove(run)
        return made

    async def _make_warm(self, kind: Kind) -> None:
        build, _ = self._targets[kind]
        try:
            run = await self._placement.restore(build, kind.resources, may_fill=False)
            await self._make_ready(run)
        except AtollError as error:
            _log.warning("template %s cannot be kept warm: %s", build.manifest.name, error)
            self._blocked.add(kind)
            asyncio.get_running_loop().call_later(_RETRY, self._unblock, kind)
            return
        self._enter(kind, run)

    def _enter(self, kind: Kind, run: Run) -> None:
        entry = (kind, run)
        self._waiting.append(entry)

        async def ended(_: str) -> None:
            """It makes room for another."""
            if entry in self._waiting:
                await self._unwinding.remove(self._take_out(entry))
                self._refill_wanted.set()

        self._watches.watch(run, ended)

    def _take_out(self, entry: tuple[Kind, Run]) -> Run:
        self._waiting.remove(entry)
        self._watches.drop(entry[1])
        return entry[1]

    async def _make_ready(self, run: Run) -> None:
        try:
            await self._launcher.rehearse(run)
            await self._runtime.freeze(run.slot.name)
        except BaseException:
            await self._unwinding.remove(run)
            raise

    def _unblock(self, kind: Kind) -> None:
        self._blocked.discard(kind)
        self._refill_wanted.set()
