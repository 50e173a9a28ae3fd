"""Sandboxes that are over: who ended them and why is told for some days, then forgotten."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog

from atolld.control.clock import Clock
from atolld.model.errors import NotFound
from atolld.model.records import End
from atolld.store import Store

_log = structlog.get_logger(__name__)
_BETWEEN = 3600.0
"""Seconds between two looks for what is old enough."""


class SandboxOver(NotFound):
    """The sandbox does not exist any more."""

    def __init__(self, message: str, end: End) -> None:
        super().__init__(message)
        self.end = end


class Ended:
    def __init__(self, store: Store, clock: Clock, days: int) -> None:
        self._store = store
        self._clock = clock
        self._days = days
        self._forgetting: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self._forgetting = asyncio.create_task(self._forget_forever())

    def close(self) -> None:
        if self._forgetting is not None:
            self._forgetting.cancel()

    async def forget(self) -> int:
        """Removes the rows that have been told long enough; how many."""
        forgotten = await self._store.sandboxes.forget(self._clock.now() - timedelta(days=self._days))
        if forgotten:
            _log.info("control.ended.forgotten", sandboxes=forgotten)
        return forgotten

    async def _forget_forever(self) -> None:
        while True:
            try:
                await self.forget()
            except Exception:
                _log.exception("control.ended.not_forgotten")
            await asyncio.sleep(_BETWEEN)
