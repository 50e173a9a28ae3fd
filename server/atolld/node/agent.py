"""The node: starts, stops and watches the sandboxes of this machine.

Warm path: a claimed run is thawed and told its identity, one call. Cold path: lease, create, restore, tell.
Either way everything acquired hangs on the run's exit stack and goes, in reverse, on failure or cancellation;
unwinding itself cannot be cancelled. What waits, rests or is left over is the business of the parts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from atoll_wire import process
from atolld.config import Config
from atolld.model.errors import AtollError, GuestUnresponsive
from atolld.model.sandbox import EndReason, Identity, Resources, SandboxId
from atolld.model.template import Build, Manifest
from atolld.node.adoption import Adoption
from atolld.node.bases import Bases
from atolld.node.blanks import Blanks
from atolld.node.captures import Captures, Target
from atolld.node.guest import GuestClient
from atolld.node.idle import Idleness
from atolld.node.keeper import PoolKeeper
from atolld.node.launcher import Launcher
from atolld.node.pageout import Frozen, PageOut
from atolld.node.placement import Placement
from atolld.node.resting import Resting
from atolld.node.rootfs import is_full
from atolld.node.runs import Run, Stopwatch
from atolld.node.runtime.protocol import Runtime
from atolld.node.sharing import SharingRule
from atolld.node.slots import Slots
from atolld.node.snapshots import SnapshotFiles
from atolld.node.starting import SandboxEnded, Started, StartSpec
from atolld.node.startup import start_up
from atolld.node.surroundings import Surroundings
from atolld.node.unwinding import Unwinding
from atolld.node.verify import BuildVerifier
from atolld.node.watches import Watches

_log = logging.getLogger(__name__)
HEALTH_TIMEOUT = 5.0
"""Seconds a daemon has to answer before it counts as silent; a busy one takes some tens of milliseconds."""


class Node:
    on_end: Callable[[SandboxId, EndReason, str], None] | None = None
    """Told of each sandbox that ended by itself: why, and what it last said."""

    def __init__(
        self,
        config: Config,
        runtime: Runtime,
        guest: GuestClient,
        slots: Slots,
        look_around: Callable[[], Surroundings] = Surroundings,
    ) -> None:
        self._home = config.home
        self._runtime = runtime
        self._guest = guest
        self._slots = slots
        self._look_around = look_around
        self._live: dict[SandboxId, Run] = {}
        self._forever: list[asyncio.Task[None]] = []
        self._bases = Bases(config.home)
        rule = SharingRule(config.shared_pages, config.unshared_templates, config.least_shared)
        self._launcher = Launcher(runtime, guest, slots, self._bases, rule)
        self._unwinding = Unwinding()
        self._watches = Watches(runtime)
        self._snapshots = SnapshotFiles(config.home, self._bases)
        self._captures = Captures(runtime, slots, self._launcher, self._snapshots)
        self._resting = Resting(self._unwinding, self._watches, config.resident_memory_mib)
        self._blanks = Blanks(self._launcher)
        self._page_out = PageOut(slots, wanted=config.page_out)
        self._idleness = Idleness(slots)
        self._placement = Placement(
            launcher=self._launcher,
            guest=guest,
            slots=slots,
            blanks=self._blanks,
            bases=self._bases,
            resting=self._resting,
            page_out=self._page_out,
            unwinding=self._unwinding,
            blank_taken=lambda: self._keeper.notice_taken(),
        )
        self._keeper = PoolKeeper(
            runtime=runtime,
            launcher=self._launcher,
            placement=self._placement,
            blanks=self._blanks,
            unwinding=self._unwinding,
            watches=self._watches,
            page_out=self._page_out,
            blank_size=config.blank_size,
            memory_mib=config.pool_memory_mib,
        )

    async def open(self) -> None:
        """Prepares the machine and adopts the sandboxes that outlived the last server; removes the rest of
        it."""
        run = self._home / "run"
        (run / "sandboxes").mkdir(parents=True, exist_ok=True, mode=0o711)
        await self._see_surroundings()
        runsc, features = await self._runtime.sha256(), await self._runtime.cpu_features()
        self._placement.open(BuildVerifier(runsc, features, self._guest.public_key, run / "verified.json"))
        # First: removing what a dead server left lets go of bases.
        await asyncio.to_thread(self._snapshots.hold_bases)
        adoption = Adoption(
            self._runtime, self._launcher, self._captures, self._unwinding, self._home, self._adopt
        )
        await adoption.settle()
        await asyncio.to_thread(self._tidy)
        self._forever = [
            asyncio.create_task(work)
            for work in (
                self._keeper.refill_forever(),
                self._resting.evict_forever(),
                self._page_out.run_forever(self._find_frozen, self._find_idle),
            )
        ]

    async def close(self) -> None:
        """Drops the warm ones and waits until all that is ending is gone. Live sandboxes go on."""
        for task in self._forever:
            task.cancel()
            await asyncio.wait([task])
        self._watches.drop_all()
        for run in [*self._keeper.take_all(), *self._resting.take_all()]:
            self._unwinding.remove_soon(run)
        await self._unwinding.wait_idle()
        for run in self._live.values():
            run.drop_connection()
        await self._slots.close(keep=bool(self._live))

    async def start(self, spec: StartSpec) -> Started:
        """Raises ``BuildDamaged``, ``CapacityUnavailable``, ``GuestUnresponsive`` or ``HostError``; nothing
        of the sandbox is left then."""
        run = await self._keeper.claim(spec) if spec.may_claim else None
        if run is None:
            run = await self._placement.restore(spec.build, spec.resources, may_fill=spec.may_fill)
            await self._placement.hand_over(run, spec)
        return self._enter(run, spec.identity.sandbox_id)

    async def boot(
        self,
        *,
        root_path: Path,
        resources: Resources,
        envs: Mapping[str, str],
        sandbox_id: SandboxId,
    ) -> Started:
        """A sandbox of a bare root image, for a template's build. It is not adopted by a later server."""
        run = await self._unwinding.launch(self._launcher.boot(root_path, resources, envs))
        return self._enter(run, sandbox_id)

    async def snapshot(self, sandbox_id: SandboxId, directory: Path) -> None:
        """Writes the sandbox's snapshot files into the existing, empty ``directory``; the sandbox is gone
        after."""
        run = self._leave(sandbox_id)
        if run is None:
            raise SandboxEnded(f"sandbox {sandbox_id} does not run here; build the template again")
        try:
            await self._launcher.checkpoint(run, directory)
        finally:
            await self._unwinding.remove(run)

    async def pause(self, sandbox_id: SandboxId, target: Target) -> None:
        """Its state is safe on the disk when this returns, and it is out of memory, or frozen in it for as
        long as there is room and its memory is part of its state. It runs on as before when this raises."""
        run = self._get(sandbox_id)
        build = await self._captures.take_and_keep_frozen(run, target)
        self._placement.verifier.remember(build)
        if self._leave(sandbox_id) is not run:
            raise SandboxEnded(f"sandbox {sandbox_id} ended while it was paused")
        run.sandbox_id = None
        with contextlib.suppress(OSError):  # else the next server finds one that no row asks for: as good
            run.write_record()
        if not target.memory:
            self._unwinding.remove_soon(run)
            return
        self._resting.enter(sandbox_id, run, build, target.snapshot_id)
        await self.evict()

    async def is_healthy(self, sandbox_id: SandboxId) -> bool:
        """Whether its daemon answers soon. Raises :class:`SandboxEnded`."""
        try:
            await self._launcher.check(self._get(sandbox_id), HEALTH_TIMEOUT)
        except GuestUnresponsive:
            return False
        return True

    async def capture(self, sandbox_id: SandboxId, target: Target) -> Build:
        """A snapshot of a sandbox that goes on."""
        build = await self._captures.take(self._get(sandbox_id), target)
        self._placement.verifier.remember(build)
        return build

    async def resume(
        self,
        identity: Identity,
        resources: Resources,
        snapshot_id: str,
        *,
        allow_internet: bool = True,
        reboot: bool = False,
    ) -> Started:
        """The sandbox as it was paused, from memory where it stayed there, else from its snapshot, which
        stays. ``reboot``: with its files only, and its start command runs again. Raises as :meth:`start`
        does, and ``BootUnconfirmed``."""
        asleep = self._resting.take(identity.sandbox_id)
        if asleep is not None:
            spec = StartSpec(identity, resources, asleep.build, allow_internet, may_claim=False)
            if not reboot and asleep.snapshot_id == snapshot_id and await self._wake(asleep.run, spec):
                return self._enter(asleep.run, identity.sandbox_id)
            await self._unwinding.remove(asleep.run)
        build = await asyncio.to_thread(self._snapshots.load, snapshot_id)
        spec = StartSpec(identity, resources, build, allow_internet, may_claim=False)
        if reboot and build.has_memory:
            return await self._start_with_files(spec)
        return await self.start(spec)

    async def _start_with_files(self, spec: StartSpec) -> Started:
        """Of a snapshot with memory, which is restored for the time it takes to read its files."""
        manifest = spec.build.manifest
        files_id = f"{manifest.build_id}-files"
        target = Target(files_id, manifest.template_id, manifest.name, keep=False, memory=False)
        run = await self._placement.restore_for_files(spec.build, spec.resources)
        try:
            files = await self._captures.take(run, target)
        finally:
            await self._unwinding.remove(run)
        try:
            self._placement.verifier.remember(files)
            return await self.start(replace(spec, build=files))
        finally:
            await asyncio.shield(self.discard(files_id))

    async def rollback(self, spec: StartSpec) -> Started:
        """Puts a run of the spec's build into the place of the sandbox that runs, which is gone then. It runs
        on as before when this raises."""
        sandbox_id = spec.identity.sandbox_id
        before = self._get(sandbox_id)
        run = await self._placement.restore(spec.build, spec.resources)
        await self._placement.hand_over(run, spec)
        if self._live.get(sandbox_id) is not before:
            await self._unwinding.remove(run)
            raise SandboxEnded(f"sandbox {sandbox_id} ended while it was rolled back")
        self._leave(sandbox_id)
        before.sandbox_id = None
        with contextlib.suppress(OSError):
            before.write_record()  # now, so that a server that dies later adopts the other one
        self._unwinding.remove_soon(before)
        return self._enter(run, sandbox_id)

    async def discard(self, snapshot_id: str) -> None:
        """Removes a snapshot from the disk. Idempotent."""
        await asyncio.to_thread(self._snapshots.discard, snapshot_id)
        self._placement.verifier.forget(self._snapshots.path(snapshot_id))

    async def snapshots(self) -> frozenset[str]:
        """Ids of all that are whole."""
        return await asyncio.to_thread(self._snapshots.ids)

    async def evict(self) -> None:
        """Lets go of paused sandboxes in memory that there is no room for."""
        await self._resting.evict_surplus()

    async def stop(self, sandbox_id: SandboxId) -> None:
        """Idempotent; everything the sandbox held is gone afterwards."""
        await self._resting.evict(sandbox_id)
        run = self._leave(sandbox_id)
        if run is not None:
            await self._unwinding.remove(run)
        await self._unwinding.wait_removed(sandbox_id)

    async def warm(self, builds: Iterable[tuple[Build, Resources, int]]) -> None:
        """Sets how many of each build wait; the pool gets there in the background."""
        await self._see_surroundings()
        self._keeper.aim(builds)

    async def start_up(
        self, sandbox_id: SandboxId, manifest: Manifest, within: float, report: Callable[[str], object]
    ) -> None:
        """Runs the template's start command in a sandbox that was booted, see :mod:`.startup`."""
        await start_up(self._guest, self._get(sandbox_id).slot.address, manifest, within, report)

    async def start_process(self, sandbox_id: SandboxId, start: process.Start, user: str = "root") -> int:
        """Starts a command that outlives the call; its pid inside. For sandboxes without a token."""
        return await self._guest.start_process(self._get(sandbox_id).slot.address, start, user)

    async def run_process(
        self, sandbox_id: SandboxId, start: process.Start, user: str = "root"
    ) -> tuple[int, str]:
        """Runs a command to its end: exit code and what it printed. For sandboxes without a token."""
        return await self._guest.run_process(self._get(sandbox_id).slot.address, start, user)

    async def hand_over(self, sandbox_id: SandboxId, host_key: str) -> None:
        """Its daemon obeys the host of that public key from now on, and us no longer."""
        await self._guest.init(self._get(sandbox_id).slot.address, {"hostKey": host_key})

    # -- what there is -------------------------------------------------------------------------------------

    def running(self) -> Mapping[SandboxId, str]:
        """Each living sandbox's address."""
        return {sandbox_id: run.slot.address for sandbox_id, run in self._live.items()}

    def warm_count(self) -> int:
        """How many restored sandboxes wait."""
        return len(self._keeper)

    def blank_count(self) -> int:
        """How many created ones wait for a snapshot."""
        return len(self._blanks)

    def resident_count(self) -> int:
        """How many paused sandboxes are still in memory."""
        return len(self._resting)

    def background_tasks(self) -> list[asyncio.Task[None]]:
        """What runs without a caller: watches, removals, the refiller, the evictor and who pages out."""
        return [*self._forever, *self._watches.tasks(), *self._unwinding.tasks()]

    def _tidy(self) -> None:
        """What sandboxes need is held by now."""
        self._snapshots.discard_unfinished()
        self._bases.sweep()

    # -- the living ----------------------------------------------------------------------------------------

    async def _see_surroundings(self) -> None:
        self._launcher.surroundings = await asyncio.to_thread(self._look_around)
        await self._slots.open(self._launcher.surroundings.allowances)

    async def _wake(self, run: Run, spec: StartSpec) -> bool:
        """Whether the frozen run became this sandbox again; it is to be removed when not."""
        watch = Stopwatch()
        run.timings_ms = watch.timings_ms
        try:
            await self._page_out.recall(run)
            await self._slots.release_traffic(run.slot)
            watch.mark("release")
            await self._placement.thaw_and_hand_over(run, spec)
            run.write_record()  # that it is not frozen
        except (AtollError, OSError) as error:
            _log.warning("a paused sandbox in memory was no good, its snapshot is restored: %s", error)
            return False
        run.timings_ms["resident"] = 1.0
        return True

    def _find_frozen(self) -> list[Frozen]:
        return [*self._keeper.find_frozen(), *self._resting.find_frozen()]

    async def _find_idle(self) -> list[Frozen]:
        return await self._idleness.find(tuple(self._live.values()), time.monotonic())

    def _adopt(self, run: Run, sandbox_id: SandboxId) -> bool:
        """There are two of one id when a rollback was broken off: either is right."""
        if sandbox_id in self._live:
            return False
        self._enter(run, sandbox_id)
        return True

    def _enter(self, run: Run, sandbox_id: SandboxId) -> Started:
        run.sandbox_id = sandbox_id
        self._live[sandbox_id] = run

        async def ended(words: str) -> None:
            await self._end(sandbox_id, run, words)

        self._watches.watch(run, ended)
        return Started(sandbox_id, run.slot.address, dict(run.timings_ms))

    def _get(self, sandbox_id: SandboxId) -> Run:
        run = self._live.get(sandbox_id)
        if run is None:
            raise SandboxEnded(f"sandbox {sandbox_id} does not run on this machine")
        return run

    def _leave(self, sandbox_id: SandboxId) -> Run | None:
        """Takes the sandbox out of the living; ``None`` when it is not among them."""
        run = self._live.pop(sandbox_id, None)
        if run is not None:
            self._watches.drop(run)
        return run

    async def _end(self, sandbox_id: SandboxId, run: Run, words: str) -> None:
        """It ended by itself; nothing to tell when it was stopped first."""
        if self._leave(sandbox_id) is None:
            return
        memory = await self._slots.is_out_of_memory(run.slot)
        await self._unwinding.remove(run)
        if self.on_end is not None:
            self.on_end(sandbox_id, self._why(memory), words)

    def _why(self, out_of_memory: bool) -> EndReason:
        if out_of_memory:
            return EndReason.MEMORY_LIMIT
        return EndReason.DISK_FULL if is_full(self._home / "run") else EndReason.CRASH
