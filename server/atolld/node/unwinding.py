"""Makes runs and removes them so that nothing of one is lost, whoever is cancelled.

A cancelled launch is undone before its caller goes on; a removal cannot be cancelled at all. `wait_idle` is
the last step of a node that closes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine

from atolld.model.errors import AtollError
from atolld.model.sandbox import SandboxId
from atolld.node.runs import Run

_log = logging.getLogger(__name__)


class Unwinding:
    def __init__(self) -> None:
        self._removing: dict[Run, asyncio.Task[None]] = {}
        self._launching: set[asyncio.Task[Run]] = set()

    async def launch(self, launching: Coroutine[None, None, Run]) -> Run:
        """Waits for a run in the making. Cancelled, it waits until all of it is undone; :meth:`wait_idle`
        does so, too, when the caller is cancelled once more."""
        task = asyncio.create_task(launching)
        self._launching.add(task)
        task.add_done_callback(self._launching.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._remove_late)
            task.cancel()
            await asyncio.wait([task])
            raise

    async def remove(self, run: Run) -> None:
        """Removes all of the run. A cancelled caller leaves at once, the removal goes on."""
        await asyncio.shield(self.remove_soon(run))

    def remove_soon(self, run: Run) -> asyncio.Task[None]:
        task = self._removing.get(run)
        if task is None:
            task = asyncio.create_task(_remove(run))
            self._removing[run] = task
            task.add_done_callback(lambda _: self._removing.pop(run, None))
        return task

    async def wait_removed(self, sandbox_id: SandboxId) -> None:
        """Returns when nothing of the sandbox is being removed any more."""
        removing = [task for run, task in self._removing.items() if run.sandbox_id == sandbox_id]
        if removing:
            await asyncio.wait(removing)

    async def wait_idle(self) -> None:
        """Returns when nothing is being made or removed."""
        while busy := [*self._launching, *self._removing.values()]:
            await asyncio.wait(busy)

    def tasks(self) -> list[asyncio.Task[None]]:
        return list(self._removing.values())

    def _remove_late(self, task: asyncio.Task[Run]) -> None:
        """A run that was finished before the cancellation reached it is nobody's."""
        if not task.cancelled() and task.exception() is None:
            self.remove_soon(task.result())


async def _remove(run: Run) -> None:
    try:
        await run.stack.aclose()
    except (AtollError, OSError):
        _log.exception("sandbox %s left something behind; `./atoll doctor --deep` names it", run.slot.name)
