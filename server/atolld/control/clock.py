"""Time. What counts is the monotonic clock; the wall clock is only told."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from atolld.model.records import Deadline

_FINEST = 0.001


class Clock:
    """The machine's clocks; tests put their own in its place."""

    def __init__(self) -> None:
        self.boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def now(self) -> datetime:
        return datetime.now(UTC)

    def ticks(self) -> float:
        """Seconds since the machine's boot: the same in every process, and no one can set it."""
        return time.monotonic()

    async def wait(self, event: asyncio.Event, until: float | None) -> None:
        """Returns when ``event`` is set, or about when :meth:`ticks` reaches ``until``."""
        delay = None if until is None else max(until - self.ticks(), _FINEST)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await event.wait()

    def ticks_at(self, moment: datetime) -> float:
        """Ticks of a moment of the wall clock, as it is set now."""
        return self.ticks() + (moment - self.now()).total_seconds()

    def deadline_in(self, seconds: float) -> Deadline:
        return Deadline(self.now() + timedelta(seconds=seconds), self.ticks() + seconds, self.boot_id)
