"""Blanks kept ahead: created containers in their slots that wait for a snapshot.

A blank fits every snapshot of a root image and size, so one serves a create, a resume and a fork alike; it
saves them the making of the container, most of what a restore from disk takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from atolld.model.sandbox import Resources
from atolld.node.launcher import Launcher
from atolld.node.pool import Kind, plan_pool
from atolld.node.runs import Run


class Blanks:
    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._targets: dict[Kind, int] = {}
        self._waiting: list[tuple[Kind, Run]] = []

    def aim(self, targets: Mapping[tuple[Path, Resources], int]) -> None:
        """How many of each wait from now on; :meth:`refill` gets there."""
        self._targets = {_kind(root, resources): count for (root, resources), count in targets.items()}

    def take(self, root_path: Path, resources: Resources) -> Run | None:
        """One that waited; the caller's from now on, to be filled or unwound."""
        return self._take(_kind(root_path, resources))

    async def refill(self) -> tuple[bool, list[Run]]:
        """Makes one that lacks, if any does; whether it did, and those that nobody wants any more, for the
        caller to unwind. Raises ``HostError`` or ``CapacityUnavailable``."""
        plan = plan_pool(self._targets, [kind for kind, _ in self._waiting])
        dropped = [run for kind in plan.drop if (run := self._take(kind)) is not None]
        if not plan.make:
            return False, dropped
        kind = plan.make[0]
        run = await self._launcher.make_blank(Path(kind.build_id), kind.resources)
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
