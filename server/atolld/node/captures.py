"""Takes snapshots of runs: stands the guest still, writes, and puts everything back whatever fails.

Before a snapshot no packet may reach the guest: one half received would be half in it. The sentry's own pause
stops the vCPUs; it survives the snapshot, so a run that stays frozen afterwards is exactly what was written.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from atolld.model.errors import AtollError, HostError
from atolld.model.template import Build, StoredFile
from atolld.node.launcher import Launcher
from atolld.node.runs import Run
from atolld.node.runtime.protocol import Runtime
from atolld.node.sharing import PAGES_FILE
from atolld.node.slots import Slots
from atolld.node.snapshots import EarlyFlush, SnapshotFiles

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Target:
    """What a snapshot is called: the id of its directory, and the template that it belongs to."""

    snapshot_id: str
    template_id: str
    name: str
    keep: bool = True
    """``False``: it is restored at once and never after a crash, so it need not be safe on the disk."""
    memory: bool = True
    """``False``: of its files alone."""


class Captures:
    def __init__(self, runtime: Runtime, slots: Slots, launcher: Launcher, files: SnapshotFiles) -> None:
        self._runtime = runtime
        self._slots = slots
        self._launcher = launcher
        self._files = files

    async def take(self, run: Run, target: Target) -> Build:
        """A snapshot of a run that goes on; it stands still only while its memory is read."""
        async with self._writing(run, target) as flush:
            await self._slots.hold_traffic(run.slot)
            try:
                bases = await self._write(run, target)
            finally:
                await _undo(self._slots.release_traffic, run.slot)
            return await self._seal(run, target, bases, flush)

    async def take_and_keep_frozen(self, run: Run, target: Target) -> Build:
        """The run is frozen, and its traffic held, when this returns; it goes on as before when it raises."""
        async with self._writing(run, target) as flush, contextlib.AsyncExitStack() as undo:
            undo.push_async_callback(_undo, self._slots.release_traffic, run.slot)
            await self._slots.hold_traffic(run.slot)
            run.frozen = True
            run.write_record()  # before, so that a server that dies now leaves no sandbox frozen for ever
            undo.push_async_callback(self._mark_thawed, run)
            await self._runtime.freeze(run.slot.name)
            undo.push_async_callback(_undo, self._runtime.thaw, run.slot.name)
            bases = await self._write(run, target)
            build = await self._seal(run, target, bases, flush)
            undo.pop_all()
            return build

    async def recover(self, run: Run) -> None:
        """Of a run that a dead server left: may be frozen and held, or neither."""
        await self._slots.release_traffic(run.slot)
        if run.frozen:
            try:
                await self._launcher.check(run, timeout=1)
            except AtollError:
                # Thawing one that is not frozen would end it; this one does not answer in any case.
                await self._runtime.thaw(run.slot.name)
            await self._mark_thawed(run)
        await self._launcher.check(run)

    async def _mark_thawed(self, run: Run) -> None:
        run.frozen = False
        with contextlib.suppress(OSError):  # its directory goes with it when it ended meanwhile
            run.write_record()

    @contextlib.asynccontextmanager
    async def _writing(self, run: Run, target: Target) -> AsyncGenerator[EarlyFlush]:
        """What is written between goes to the disk meanwhile, where it has to be there."""
        flush = EarlyFlush(self._files.unfinished(target.snapshot_id) / PAGES_FILE)
        if run.build is None:
            raise HostError("the sandbox does not know what it was made of: kill it and create another")
        try:
            await asyncio.to_thread(self._files.begin, target.snapshot_id)
            if target.keep:
                flush.start()
            yield flush
        except BaseException as error:
            await asyncio.shield(asyncio.to_thread(self._files.discard, target.snapshot_id))
            if isinstance(error, OSError):
                raise HostError(
                    f"the snapshot cannot be written ({error}): free some space, try again"
                ) from error
            raise
        finally:
            flush.stop()

    async def _write(self, run: Run, target: Target) -> tuple[StoredFile, ...]:
        """The bases that what was written stands on."""
        directory = self._files.unfinished(target.snapshot_id)
        if target.memory:
            return await self._launcher.write_images(run, directory)
        await self._launcher.write_layer(run, directory)
        return ()

    async def _seal(
        self, run: Run, target: Target, bases: tuple[StoredFile, ...], flush: EarlyFlush
    ) -> Build:
        assert run.build is not None
        await flush.finish()
        return await asyncio.to_thread(
            self._files.seal,
            target.snapshot_id,
            run.build.manifest,
            target.template_id,
            target.name,
            bases=bases,
            safe=target.keep,
        )


async def _undo(step: Callable[[_T], Awaitable[None]], what: _T) -> None:
    """A step back that fails is told and passed over: the sandbox may have ended meanwhile."""
    try:
        await asyncio.shield(asyncio.ensure_future(step(what)))
    except AtollError as error:
        _log.warning("a sandbox was not put back as it was: %s", error)
