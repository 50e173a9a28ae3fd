"""Blanks kept ahead: created containers in their slots that wait for a snapshot.

A blank fits every snapshot of a root image and size, so one serves a create, a resume and a fork alike; it
saves them the making of the container, most of what a restore from disk takes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from atolld.model.sandbox import Resources
from atolld.node.launcher import Launcher
from atolld.node.pool import Demand, Kind, Stock, plan_pool
from atolld.node.runs import Run

_MEMORY_MIB = 16
"""Of a container without processes."""
_SAVES = 0.5
"""Of what a warm one does."""


class Blanks:
    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._least: dict[Kind, int] = {}
        self._demands: dict[Kind, Demand] = {}
        self._waiting: list[tuple[Kind, Run]] = []

    def aim(self, least: Mapping[tuple[Path, Resources], int]) -> None:
        """How many of each wait at least; none at all where that is 0."""
        self._least = {_kind(root, resources): count for (root, resources), count in least.items()}
        self._demands = {kind: self._demands.get(kind, Demand()) for kind in self._least}

    def take(self, root_path: Path, resources: Resources) -> Run | None:
        """One that waited; the caller's from now on, to be filled or unwound."""
        kind = _kind(root_path, resources)
        if kind in self._demands:
            self._demands[kind].arrive(time.monotonic())
        return self._take(kind)

    def stocks(self, now: float) -> dict[Kind, Stock]:
        waiting = [kind for kind, _ in self._waiting]
        return {
            kind: Stock(
                self._demands[kind].reached(now),
                _MEMORY_MIB,
                saves=_SAVES,
                at_least=least,
                waiting=waiting.count(kind),
            )
            for kind, least in self._least.items()
            if least > 0
        }

    async def refill(self, targets: Mapping[Kind, int]) -> tuple[bool, list[Run]]:
        """Makes one that lacks, if any does; whether it did, and those that nobody wants any more, for the
        caller to unwind. Raises ``HostError`` or ``CapacityUnavailable``."""
        wanted = {kind: targets.get(kind, 0) for kind in self._least}
        plan = plan_pool(wanted, [kind for kind, _ in self._waiting])
        dropped = [run for kind in plan.drop if (run := self._take(kind)) is not None]
        if not plan.make:
            return False, dropped
        kind, began = plan.make[0], time.monotonic()
        run = await self._launcher.make_blank(Path(kind.build_id), kind.resources)
        if kind in self._demands:
            self._demands[kind].note_refill(time.monotonic() - began)
        self._waiting.append((kind, run))
        return True, dropped

    def take_all(self) -> list[Run]:
        runs = [run for _, run in self._waiting]
        self._waiting.clear()
        return runs

    def __len__(self) -> int:
        return len(self._waiting)

    def _take(self, kind: Kind) -> Run | None:
        for entry in self._waiting:
            if entry[0] == kind:
                self._waiting.remove(entry)
                return entry[1]
        return None


def _kind(root_path: Path, resources: Resources) -> Kind:
    """A root image stands where a build does: what is filled in tells them apart, not what it is filled
    into."""
    return Kind(str(root_path), resources)
