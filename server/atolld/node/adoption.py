"""After a restart: every directory of the last server is adopted when it belongs to a living sandbox, else
removed with all that it stands for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from atolld.model.errors import AtollError
from atolld.model.sandbox import SandboxId
from atolld.node.captures import Captures
from atolld.node.launcher import Launcher
from atolld.node.records import Record, read_records
from atolld.node.runs import Run
from atolld.node.runtime.protocol import Runtime
from atolld.node.unwinding import Unwinding

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Adoption:
    runtime: Runtime
    launcher: Launcher
    captures: Captures
    unwinding: Unwinding
    home: Path
    adopt: Callable[[Run, SandboxId], bool]
    """Asked of each that lives: whether it goes on."""

    async def settle(self) -> None:
        living = await self.runtime.list()
        records = await asyncio.to_thread(read_records, self.home / "run" / "sandboxes")
        for name in living - {directory.name for directory in records}:
            await self.runtime.destroy(name)
        await asyncio.gather(*(self._settle(path, record, living) for path, record in records.items()))

    async def _settle(self, directory: Path, record: Record | None, living: frozenset[str]) -> None:
        run = await self.launcher.adopt(directory, record, self.home / "roots")
        lives = directory.name in living and not run.slot.is_foreign
        if lives and record is not None and record.sandbox_id is not None:
            try:
                await self.captures.recover(run)
            except AtollError as error:
                _log.warning(
                    "sandbox %s does not answer any more and is removed: %s", record.sandbox_id, error
                )
            else:
                if self.adopt(run, record.sandbox_id):
                    return
        await self.unwinding.remove(run)
