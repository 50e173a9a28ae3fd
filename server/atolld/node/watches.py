"""One watch for each run: waits for the end of its container and says so to whoever keeps it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from atolld.node.runs import Run
from atolld.node.runtime.protocol import Runtime


class Watches:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._tasks: dict[Run, asyncio.Task[None]] = {}

    def watch(self, run: Run, ended: Callable[[str], Awaitable[None]]) -> None:
        """``ended`` is called with the container's last words, unless the watch is dropped before."""
        self._tasks[run] = asyncio.create_task(self._wait(run, ended))

    def drop(self, run: Run) -> None:
        """Idempotent, also from inside ``ended``."""
        task = self._tasks.pop(run, None)
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    def drop_all(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    def tasks(self) -> list[asyncio.Task[None]]:
        return list(self._tasks.values())

    async def _wait(self, run: Run, ended: Callable[[str], Awaitable[None]]) -> None:
        await ended(await self._runtime.wait(run.slot.name))
