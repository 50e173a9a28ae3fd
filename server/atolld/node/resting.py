"""Paused sandboxes that are still in memory, frozen: kept as `residents` plans, awake again in a moment."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, replace

from atolld.model.sandbox import SandboxId
from atolld.model.template import Build
from atolld.node.memory import memory_of, read_room
from atolld.node.pageout import Frozen
from atolld.node.residents import Resident, plan_evictions
from atolld.node.runs import Run
from atolld.node.unwinding import Unwinding
from atolld.node.watches import Watches

_log = logging.getLogger(__name__)
_BETWEEN_EVICTIONS = 15.0


@dataclass(frozen=True, slots=True)
class Asleep:
    """A frozen run, and the snapshot that says the same on the disk."""

    run: Run
    build: Build
    snapshot_id: str


class Resting:
    """``memory_mib`` is what they may take; ``None``: a quarter of the machine's."""

    def __init__(self, unwinding: Unwinding, watches: Watches, memory_mib: int | None) -> None:
        self._unwinding = unwinding
        self._watches = watches
        self._memory_mib = memory_mib
        self._residents: dict[SandboxId, tuple[Resident, Asleep]] = {}

    def enter(self, sandbox_id: SandboxId, run: Run, build: Build, snapshot_id: str) -> None:
        """``run`` is frozen, and ``build`` is what was written of it as ``snapshot_id``."""
        resident = Resident(sandbox_id, memory_of(build), time.monotonic())
        run.memory_mib, run.paged_out = None, False
        self._residents[sandbox_id] = (resident, Asleep(run, build, snapshot_id))

        async def ended(_: str) -> None:
            """No loss: its snapshot is on the disk."""
            await self.evict(sandbox_id)

        self._watches.watch(run, ended)

    def take(self, sandbox_id: SandboxId) -> Asleep | None:
        """The caller's from now on."""
        _, asleep = self._residents.pop(sandbox_id, (None, None))
        if asleep is not None:
            self._watches.drop(asleep.run)
        return asleep

    def take_all(self) -> list[Run]:
        return [asleep.run for sandbox_id in tuple(self._residents) if (asleep := self.take(sandbox_id))]

    async def evict(self, sandbox_id: SandboxId) -> None:
        asleep = self.take(sandbox_id)
        if asleep is not None:
            await self._unwinding.remove(asleep.run)

    async def evict_all(self) -> None:
        for sandbox_id in tuple(self._residents):
            await self.evict(sandbox_id)

    async def evict_surplus(self) -> None:
        """Lets go of those that there is no room for."""
        room = read_room()
        budget = room.total // 4 if self._memory_mib is None else self._memory_mib
        residents = [
            replace(resident, memory_mib=asleep.run.memory_mib or resident.memory_mib)
            for resident, asleep in self._residents.values()
        ]
        for sandbox_id in plan_evictions(residents, budget, room.available, room.reserved, time.monotonic()):
            await self.evict(sandbox_id)

    async def evict_forever(self) -> None:
        while True:
            await asyncio.sleep(_BETWEEN_EVICTIONS)
            try:
                await self.evict_surplus()
            except Exception:
                _log.exception("paused sandboxes could not be let go of; tried again soon")

    def find_frozen(self) -> list[Frozen]:
        return [Frozen(asleep.run, resident.since) for resident, asleep in self._residents.values()]

    def __len__(self) -> int:
        return len(self._residents)
