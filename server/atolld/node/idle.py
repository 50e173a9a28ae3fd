"""Live sandboxes that have done nothing for a while leave memory, too, when the machine has little left.

They are not frozen: what one of them touches comes back when it goes on. Of its own limit it then has what it
has in swap more, which is bounded by what it holds: gVisor and the daemon inside count both.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import dataclass

from atolld.model.errors import AtollError
from atolld.node.memory import read_memory_mib
from atolld.node.pageout import Frozen
from atolld.node.runs import Run
from atolld.node.slots import Slots

IDLE_AFTER = 30.0
"""Seconds in which it used next to nothing."""
_NOTHING = 0.02
"""Seconds of CPU: what the timers of an idle one take in minutes."""
_SHORT_PART = 4


def is_short(total_mib: int, available_mib: int) -> bool:
    """Whether the machine has so little memory left that idle sandboxes make room for those to come."""
    return available_mib * _SHORT_PART < total_mib


@dataclass(slots=True)
class _Rest:
    cpu: float
    since: float


class Idleness:
    """Remembers since when each live run has been idle."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._rests: dict[Run, _Rest] = {}

    async def find(self, live: Collection[Run], now: float) -> list[Frozen]:
        """Who could leave, when memory is short. ``now``: ticks."""
        if not is_short(read_memory_mib("MemTotal"), read_memory_mib("MemAvailable")):
            self._rests.clear()
            return []
        for run in self._rests.keys() - set(live):
            del self._rests[run]
        for run in live:
            with contextlib.suppress(AtollError):  # it ended meanwhile
                self._note(run, await self._slots.measure_cpu(run.slot), now)
        return [
            Frozen(run, rest.since) for run, rest in self._rests.items() if now - rest.since >= IDLE_AFTER
        ]

    def _note(self, run: Run, cpu: float, now: float) -> None:
        rest = self._rests.get(run)
        if rest is None or cpu - rest.cpu > _NOTHING:
            run.paged_out = False
            self._rests[run] = _Rest(cpu, now)
