"""Deadlines: one task, one heap, the monotonic clock.

A sandbox is never reported due before its deadline. An entry that is replaced or discarded stays in the heap
until its turn, and is then ignored.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

from atolld.control.clock import Clock
from atolld.model.sandbox import SandboxId

_SPARE = 64


class Expiry:
    """Calls ``due`` (which must not block) once for each sandbox whose deadline has come."""

    def __init__(self, clock: Clock, due: Callable[[SandboxId], object]) -> None:
        self._clock = clock
        self._due = due
        self._deadlines: dict[SandboxId, float] = {}
        self._heap: list[tuple[float, SandboxId]] = []
        self._changed = asyncio.Event()

    def set(self, sandbox_id: SandboxId, ticks: float) -> None:
        self._deadlines[sandbox_id] = ticks
        heapq.heappush(self._heap, (ticks, sandbox_id))
        if len(self._heap) > 2 * len(self._deadlines) + _SPARE:
            self._heap = [(ticks, key) for key, ticks in self._deadlines.items()]
            heapq.heapify(self._heap)
        if self._heap[0][1] == sandbox_id:
            self._changed.set()

    def discard(self, sandbox_id: SandboxId) -> None:
        self._deadlines.pop(sandbox_id, None)

    def __len__(self) -> int:
        """How many entries are kept, those that count no more included."""
        return len(self._heap)

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            self._changed.clear()
            self._report_due()
            await self._clock.wait(self._changed, self._heap[0][0] if self._heap else None)

    def _report_due(self) -> None:
        now = self._clock.ticks()
        while self._heap and self._heap[0][0] <= now:
            ticks, sandbox_id = heapq.heappop(self._heap)
            if self._deadlines.get(sandbox_id) == ticks:
                del self._deadlines[sandbox_id]
                self._due(sandbox_id)
