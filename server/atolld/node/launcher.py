"""Makes runs: a leased slot with a container in it whose daemon answers, everything held by one exit stack.

No more of them at once than the machine has use for; the rest wait for their turn, in a queue with an end.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from atolld.model.errors import (
    BootUnconfirmed,
    CapacityUnavailable,
    GuestUnresponsive,
    HostError,
    PlacementTimeout,
)
from atolld.model.sandbox import Identity, Resources, SandboxId
from atolld.model.template import Build, StoredFile
from atolld.node.bases import Bases
from atolld.node.guest import GuestClient, GuestConnection, init_body
from atolld.node.records import Record, read_build, write_build
from atolld.node.rootfs import check_free_space, check_root_image
from atolld.node.runs import Run, Stopwatch
from atolld.node.runtime.protocol import CheckpointUnusable, ContainerSpec, Runtime
from atolld.node.sharing import SharingRule, list_bases, should_flatten
from atolld.node.slots import Slot, Slots
from atolld.node.snapshots import flush
from atolld.node.startup import start_up
from atolld.node.surroundings import Surroundings
from atolld.node.verify import damaged

_log = logging.getLogger(__name__)
_DIGEST_FILE = "surroundings"
"""Beside a snapshot's images: the digest of what this host had passed on when it was taken."""
LONGEST_QUEUE = 256
"""Starts that may wait for their turn."""
LONGEST_WAIT = 45.0
"""Seconds that a start waits for it: less than a client does, so that the client is told."""
_READY_AGAIN = 40.0
"""Seconds for the start command of a sandbox that is booted again: less than a client waits."""
_PROBE_TIMEOUT = 15.0
"""Seconds a fresh daemon may take to answer; it is milliseconds when all is well."""


def container_in(
    slot: Slot,
    root_image: Path,
    resources: Resources,
    guest: GuestClient,
    envs: Mapping[str, str] | None = None,
) -> ContainerSpec:
    """A container of the root image in a leased slot, whose daemon obeys ``guest``."""
    return ContainerSpec(
        name=slot.name,
        directory=slot.directory,
        root_image=root_image.resolve(),
        resources=resources,
        link=slot.link,
        cgroup_path=slot.cgroup_path,
        args=guest.command,
        entering=slot.entering,
        envs={**(envs or {}), **guest.environment},
    )


class Launcher:
    surroundings = Surroundings()
    """What this host passes on to its sandboxes, as it was last looked at."""

    def __init__(
        self, runtime: Runtime, guest: GuestClient, slots: Slots, bases: Bases, sharing: SharingRule
    ) -> None:
        self._bases = bases
        self._sharing = sharing
        self._runtime = runtime
        self._guest = guest
        self._slots = slots
        # More side by side would only make each of them slower, and time out.
        self._gate = asyncio.Semaphore(2 * (os.cpu_count() or 1))
        self._queue = 0

    async def make_blank(self, root_path: Path, resources: Resources) -> Run:
        """A run without processes, for :meth:`restore` to fill."""
        async with self._place(), AsyncExitStack() as stack:
            run, _ = await self._create(stack, root_path, resources, {}, Stopwatch())
            run.stack = stack.pop_all()
        return run

    async def restore(self, build: Build, resources: Resources, blank: Run | None = None) -> Run:
        """A run of the build's snapshot, probed, with this host's resolver and certificates; in ``blank``
        when given, which is unwound when that fails."""
        watch = Stopwatch()
        async with self._place(), AsyncExitStack() as stack:
            watch.mark("queue")
            if blank is None or blank.spec is None:
                run, spec = await self._create(stack, build.root_path, resources, {}, watch)
            else:
                run, spec = blank, blank.spec
                await stack.enter_async_context(blank.stack)
                run.stack, run.timings_ms = stack, watch.timings_ms
                run.timings_ms["blank"] = 1.0
            try:
                await self._fill(run, spec, build)
            except CheckpointUnusable as error:
                # Another host key, or a server that makes its sandboxes differently.
                _log.warning("build %s does not fit this server: %s", build.manifest.build_id, error)
                raise damaged(build, "its snapshot was taken by another server or version of it") from error
            watch.mark("restore")
            await self._probe(run, watch)
            run.surroundings = await asyncio.to_thread(_read_digest, build.snapshot_path)
            if run.surroundings != self.surroundings.digest:
                # A snapshot of a sandbox has its token in it, which the identity to come replaces.
                await self._guest.init(run.slot.address, {"accessToken": ""}, run.connection)
                await self._greet(run, watch)
            run.stack = stack.pop_all()
        return run

    async def restore_unasked(self, build: Build, resources: Resources) -> Run:
        """A run of the build's snapshot whose daemon may not answer: for its files."""
        async with self._place(), AsyncExitStack() as stack:
            run, spec = await self._create(stack, build.root_path, resources, {}, Stopwatch())
            await self._fill(run, spec, build)
            run.stack = stack.pop_all()
        return run

    async def reboot(self, build: Build, resources: Resources) -> Run:
        """A run of a build without memory: booted, with its files, and its start command run again.

        Raises :class:`BootUnconfirmed` when what should run in it does not come up.
        """
        watch = Stopwatch()
        envs = {name: value for name, value in build.manifest.envs.items() if name == "PATH"}
        async with self._place(), AsyncExitStack() as stack:
            watch.mark("queue")
            layer = build.snapshot_path
            run, spec = await self._create(stack, build.root_path, resources, envs, watch, layer)
            run.build = build
            write_build(run.slot.directory, build)
            await self._runtime.start(spec)
            watch.mark("start")
            try:
                await self._probe(run, watch)
                await self._greet(run, watch)
                await start_up(self._guest, run.slot.address, build.manifest, _READY_AGAIN, _log.debug)
            except (GuestUnresponsive, HostError) as error:
                raise BootUnconfirmed(
                    f"The sandbox was booted with its files, but what should run in it does not: "
                    f"{error.message}; try again, or start another"
                ) from error
            watch.mark("start_command")
            run.stack = stack.pop_all()
        return run

    async def boot(self, root_path: Path, resources: Resources, envs: Mapping[str, str]) -> Run:
        """A run of a bare root image: only the daemon lives in it."""
        watch = Stopwatch()
        async with self._place(), AsyncExitStack() as stack:
            watch.mark("queue")
            run, spec = await self._create(stack, root_path, resources, envs, watch)
            await self._runtime.start(spec)
            watch.mark("start")
            await self._probe(run, watch)
            await self._greet(run, watch)
            run.stack = stack.pop_all()
        return run

    async def adopt(self, directory: Path, record: Record | None, roots: Path) -> Run:
        """What a dead server left in ``directory``, as a run that can be unwound, or gone on with if it
        lives."""
        slot = await self._slots.adopt(directory)
        stack = AsyncExitStack()
        stack.push_async_callback(self._slots.release, slot)
        stack.push_async_callback(asyncio.to_thread, self._bases.release, slot.name)
        stack.push_async_callback(self._runtime.destroy, slot.name)
        # Before that: a container that is still being made would leave its state behind.
        stack.push_async_callback(self._slots.end, slot)
        run = Run(slot, record.resources if record else Resources(), stack)
        if record is not None:
            run.sandbox_id, run.allow_internet = record.sandbox_id, record.allow_internet
            run.frozen = record.frozen
            run.build = read_build(directory, roots)
            self._hold_bases(run, record.bases)
            if not record.allow_internet:
                await self._slots.set_internet(slot, False)
        return run

    async def thaw(self, run: Run) -> None:
        """Undoes the runtime's freezing."""
        await self._runtime.thaw(run.slot.name)
        run.frozen = False

    async def check(self, run: Run, timeout: float = 5) -> None:
        """Raises :class:`GuestUnresponsive` unless the run's daemon answers soon."""
        (await self._guest.wait_healthy(run.slot.address, timeout)).close()

    async def rehearse(self, run: Run, build: Build) -> None:
        """The call that comes at the claim, as if for a sandbox of the slot's name, and what the template
        wants to be warmed up: the first of each is slow, since the pages it needs are not there."""
        manifest = build.manifest
        name = SandboxId(run.slot.name)
        identity = Identity(name, manifest.template_id, manifest.build_id, "", envs=manifest.envs)
        body = init_body(identity, manifest.default_user, manifest.workdir)
        await self._guest.init(run.slot.address, body, run.connection)
        if manifest.warmup is not None:
            try:
                await self._guest.warm_up(run.slot.address, manifest.warmup)
            except GuestUnresponsive as error:
                _log.warning("template %s could not be warmed up: %s", manifest.name, error)

    async def checkpoint(self, run: Run, directory: Path) -> None:
        """The run's snapshot into ``directory``; the run is over afterwards and must be unwound."""
        await self._write_images(run, directory, (), keep_running=False)
        await asyncio.to_thread(flush, directory)

    async def write_images(self, run: Run, directory: Path) -> tuple[StoredFile, ...]:
        """The files of a snapshot, not yet flushed, of a run that goes on; and the bases it stands on. Raises
        ``CapacityUnavailable`` before anything is written where the disk has no room for them."""
        private = await self._runtime.measure(run.slot.name)
        bases = run.bases
        if should_flatten(bases, private, run.resources.memory_mib):
            bases = ()
        if not await asyncio.to_thread(self._bases.are_here, [base.digest for base in bases]):
            bases = ()
        await self._write_images(run, directory, bases, keep_running=True)
        if run.bases and not bases:
            run.bases = ()
            run.write_record()
            await asyncio.to_thread(self._bases.hold, run.slot.name, ())
        return bases

    async def _write_images(
        self, run: Run, directory: Path, bases: tuple[StoredFile, ...], *, keep_running: bool
    ) -> None:
        """Without ``bases`` it has all pages, those too that the run shares."""
        copied = 0 if bases else sum(base.size for base in run.bases)
        needed_mib = (await self._runtime.measure(run.slot.name) + copied >> 20) + 1
        await asyncio.to_thread(check_free_space, directory, needed_mib, "the snapshot")
        await self._runtime.checkpoint(run.slot.name, directory, keep_running=keep_running, delta=bool(bases))
        (directory / _DIGEST_FILE).write_text(run.surroundings)

    async def write_layer(self, run: Run, directory: Path) -> None:
        """As :meth:`write_images`, of its files alone."""
        needed_mib = (await self._runtime.measure(run.slot.name) >> 20) + 1
        await asyncio.to_thread(check_free_space, directory, needed_mib, "the snapshot")
        await self._runtime.save_layer(run.slot.name, directory)

    async def _fill(self, run: Run, spec: ContainerSpec, build: Build) -> None:
        """The build's memory into a blank."""
        sharing = self._sharing.decide(build, able=bool(await self._runtime.patch_level()))
        run.build = build
        write_build(run.slot.directory, build)
        self._hold_bases(run, list_bases(build, sharing))
        await self._runtime.restore(spec, build.snapshot_path, sharing)

    def _hold_bases(self, run: Run, bases: tuple[StoredFile, ...]) -> None:
        """For as long as there is the run, so that its snapshots can stand on them."""
        run.bases = bases
        self._bases.hold(run.slot.name, [base.digest for base in bases])

    async def _create(
        self,
        stack: AsyncExitStack,
        root_path: Path,
        resources: Resources,
        envs: Mapping[str, str],
        watch: Stopwatch,
        layer: Path | None = None,
    ) -> tuple[Run, ContainerSpec]:
        check_root_image(root_path)
        slot = await self._slots.lease(resources)
        stack.push_async_callback(self._slots.release, slot)
        stack.push_async_callback(asyncio.to_thread, self._bases.release, slot.name)
        run = Run(slot, resources, stack, watch.timings_ms)
        run.write_record()
        watch.mark("slot")
        spec = replace(container_in(slot, root_path, resources, self._guest, envs), layer=layer)
        stack.push_async_callback(self._runtime.destroy, slot.name)
        await self._runtime.create(spec)
        await self._slots.give_headroom(slot, resources)
        watch.mark("create")
        run.spec = spec
        return run, spec

    @asynccontextmanager
    async def _place(self) -> AsyncGenerator[None]:
        """One of the places at the gate. Raises ``CapacityUnavailable`` when too many wait for one already:
        better told at once than timed out; ``PlacementTimeout`` when none became free in time."""
        if self._queue >= LONGEST_QUEUE:
            raise CapacityUnavailable(
                f"Failed to place sandbox: {self._queue} others are waiting to start; try again in a moment"
            )
        self._queue += 1
        try:
            async with asyncio.timeout(LONGEST_WAIT):
                await self._gate.acquire()
        except TimeoutError:
            raise PlacementTimeout(
                f"Failed to place sandbox: it was not its turn to start within {LONGEST_WAIT:g} s, "
                f"{self._queue} are waiting; try again in a moment"
            ) from None
        finally:
            self._queue -= 1
        try:
            yield
        finally:
            self._gate.release()

    async def _probe(self, run: Run, watch: Stopwatch) -> None:
        """Keeps the connection the daemon answered on."""
        run.connection = await self._wait_healthy(run)
        run.stack.callback(run.drop_connection)
        watch.mark("probe")

    async def _wait_healthy(self, run: Run) -> GuestConnection:
        """Does not wait on for a daemon whose container has ended."""
        healthy = asyncio.create_task(self._guest.wait_healthy(run.slot.address, _PROBE_TIMEOUT))
        ended = asyncio.create_task(self._runtime.wait(run.slot.name))
        try:
            await asyncio.wait((healthy, ended), return_when=asyncio.FIRST_COMPLETED)
            if healthy.done():
                return healthy.result()
            words = ended.result().strip()
            raise HostError(f"the sandbox ended while it was starting: {words or 'it said nothing'}")
        finally:
            healthy.cancel()
            ended.cancel()

    async def _greet(self, run: Run, watch: Stopwatch) -> None:
        """Gives the daemon what depends on this host and not on who claims the sandbox."""
        address, surroundings = run.slot.address, self.surroundings
        for path, content in surroundings.guest_files.items():
            await self._guest.write_file(address, path, content, run.connection)
        if surroundings.ca_bundle:
            await self._guest.init(address, {"caBundle": surroundings.ca_bundle}, run.connection)
        run.surroundings = surroundings.digest
        watch.mark("greet")


def _read_digest(directory: Path) -> str:
    """Which surroundings a snapshot has in it; empty when nobody knows."""
    try:
        return (directory / _DIGEST_FILE).read_text()
    except OSError:
        return ""
