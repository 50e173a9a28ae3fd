"""Gets a run for a sandbox from a snapshot, and makes it that sandbox.

A restore goes into a blank where one waits. What fails on the way is undone; a guest that stays silent is
restored once more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from atolld.model.errors import GuestUnresponsive, HostError
from atolld.model.sandbox import Resources
from atolld.model.template import Build
from atolld.node.bases import Bases
from atolld.node.blanks import Blanks
from atolld.node.guest import CALL_TIMEOUT, GuestClient, init_body
from atolld.node.launcher import Launcher
from atolld.node.memory import check_fits, memory_of, read_room
from atolld.node.pageout import PageOut
from atolld.node.resting import Resting
from atolld.node.runs import Run, Stopwatch
from atolld.node.slots import Slots
from atolld.node.starting import StartSpec
from atolld.node.unwinding import Unwinding
from atolld.node.verify import BuildVerifier

_log = logging.getLogger(__name__)
_MOST_LEAVING = 200
"""Idle sandboxes that leave memory while one create waits for room."""


class Placement:
    def __init__(
        self,
        *,
        launcher: Launcher,
        guest: GuestClient,
        slots: Slots,
        blanks: Blanks,
        bases: Bases,
        resting: Resting,
        page_out: PageOut,
        unwinding: Unwinding,
        blank_taken: Callable[[], None],
    ) -> None:
        """``blank_taken`` is told when there is one blank less."""
        self._launcher = launcher
        self._guest = guest
        self._slots = slots
        self._blanks = blanks
        self._bases = bases
        self._resting = resting
        self._page_out = page_out
        self._unwinding = unwinding
        self._blank_taken = blank_taken
        self._verifier: BuildVerifier | None = None

    def open(self, verifier: BuildVerifier) -> None:
        self._verifier = verifier

    @property
    def verifier(self) -> BuildVerifier:
        if self._verifier is None:
            raise RuntimeError("the node is not open")
        return self._verifier

    async def restore(self, build: Build, resources: Resources, *, may_fill: bool = True) -> Run:
        """A run of the build that is nobody's yet. ``may_fill`` false: in a container of its own making."""
        self._bases.keep(build)
        await self.verifier.verify(build)
        await self._make_room(build)
        if not build.has_memory:
            return await self._unwinding.launch(self._launcher.reboot(build, resources))
        blank = self._blanks.take(build.root_path, resources) if may_fill else None
        if blank is not None:
            self._blank_taken()
            try:
                return await self._unwinding.launch(self._launcher.restore(build, resources, blank))
            except (HostError, GuestUnresponsive) as error:
                _log.warning("a waiting blank was no good, another is made: %s", error)
            except BaseException:
                # Nothing left to do, unless it was cancelled before it began.
                await self._unwinding.remove(blank)
                raise
        try:
            return await self._unwinding.launch(self._launcher.restore(build, resources))
        except GuestUnresponsive as error:
            # A listener can be deaf after a restore into another network (gVisor issue 13920); rarely twice.
            _log.warning("a restored sandbox did not answer, it is restored once more: %s", error)
            return await self._unwinding.launch(self._launcher.restore(build, resources))

    async def restore_for_files(self, build: Build, resources: Resources) -> Run:
        """A run of the build whose daemon may not answer."""
        await self.verifier.verify(build)
        await self._make_room(build)
        return await self._unwinding.launch(self._launcher.restore_unasked(build, resources))

    async def hand_over(self, run: Run, spec: StartSpec, patience: float = CALL_TIMEOUT) -> None:
        """Makes the run this sandbox. Removes it when that fails, or takes longer than ``patience``."""
        watch = Stopwatch()
        try:
            run.sandbox_id = spec.identity.sandbox_id
            run.allow_internet = spec.allow_internet
            if not spec.allow_internet:
                await self._slots.set_internet(run.slot, False)
            run.write_record()
            manifest = spec.build.manifest
            identity = replace(spec.identity, envs={**manifest.envs, **spec.identity.envs})
            body = init_body(identity, manifest.default_user, manifest.workdir)
            await self._guest.init(run.slot.address, body, run.connection, patience)
            run.drop_connection()
        except BaseException:
            await self._unwinding.remove(run)
            raise
        watch.mark("guest")
        run.timings_ms |= watch.timings_ms

    async def thaw_and_hand_over(self, run: Run, spec: StartSpec, patience: float = CALL_TIMEOUT) -> None:
        """Thaws the run beside telling it who it is: that waits in its network until it can hear. Removes it
        as :meth:`hand_over` does."""
        thawing = asyncio.create_task(self._launcher.thaw(run))
        await asyncio.sleep(0)  # the call is on its way then
        try:
            await self.hand_over(run, spec, patience)
            await thawing
        except BaseException:
            thawing.cancel()
            await asyncio.gather(thawing, return_exceptions=True)
            await self._unwinding.remove(run)
            raise

    async def _make_room(self, build: Build) -> None:
        """Raises ``CapacityUnavailable`` when the machine has no memory for one more of the build. What waits
        in memory for somebody to come goes before somebody who is here is refused; who is idle leaves it."""
        needed, room = memory_of(build), read_room()
        if len(self._resting) and not room.fits(needed):
            await self._resting.evict_all()
            room = read_room()
        for _ in range(_MOST_LEAVING):
            if room.fits(needed) or not await self._page_out.wait_for_room():
                break
            room = read_room()
        check_fits(needed, room)
