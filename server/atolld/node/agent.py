"""The node: starts, stops and watches the sandboxes of this machine.

Warm path: a claimed run is thawed and told its identity, one call. Cold path: lease, create, restore, tell.
Either way everything acquired hangs on the run's exit stack and goes, in reverse, on failure or cancellation;
unwinding itself cannot be cancelled. The pool refills in the background, one run at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from atoll_wire import process
from atolld.config import Config
from atolld.model.errors import AtollError, GuestUnresponsive, HostError, NotFound
from atolld.model.sandbox import EndReason, Identity, Resources, SandboxId
from atolld.model.template import Build
from atolld.node.blanks import Blanks
from atolld.node.captures import Captures, Target
from atolld.node.guest import GuestClient, init_body
from atolld.node.launcher import Launcher, Run, Stopwatch
from atolld.node.memory import check_fits, read_memory_mib, reserve_mib
from atolld.node.pool import Kind, plan_pool
from atolld.node.records import Record, read_records
from atolld.node.residents import OVERHEAD_MIB, Resident, plan_evictions
from atolld.node.runtime.protocol import Runtime
from atolld.node.slots import Slots
from atolld.node.snapshots import SnapshotFiles
from atolld.node.surroundings import Surroundings
from atolld.node.verify import BuildVerifier

_log = logging.getLogger(__name__)
_BETWEEN_EVICTIONS = 15.0
_RETRY_POOL = 30.0
"""Seconds until a template that could not be made warm is tried again."""


class SandboxEnded(NotFound):
    """The sandbox does not run on this machine (any more)."""

    error_code = "sandbox_not_running"


@dataclass(frozen=True, slots=True)
class StartSpec:
    identity: Identity
    resources: Resources
    build: Build
    allow_internet: bool = True
    may_claim: bool = True
    """``False``: restore one although a warm one waits."""


@dataclass(frozen=True, slots=True)
class Started:
    sandbox_id: SandboxId
    address: str
    """IPv4 of the guest, reachable from the host."""
    timings_ms: Mapping[str, float]
    """Where the time went: ``slot``, ``create``, ``restore``, ``probe``, ``greet``, ``thaw``, ``guest``;
    ``warm`` is 1 when a waiting one was claimed."""


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
        self._run = config.home / "run"
        self._sandboxes = self._run / "sandboxes"
        self._runtime = runtime
        self._guest = guest
        self._slots = slots
        self._look_around = look_around
        self._surroundings = Surroundings()
        self._launcher = Launcher(runtime, guest, slots)
        self._verifier: BuildVerifier | None = None
        self._live: dict[SandboxId, Run] = {}
        self._watches: dict[Run, asyncio.Task[None]] = {}
        self._unwinding: dict[Run, asyncio.Task[None]] = {}
        self._launching: set[asyncio.Task[Run]] = set()
        self._waiting: list[tuple[Kind, Run]] = []
        self._targets: dict[Kind, tuple[Build, int]] = {}
        self._blocked: set[Kind] = set()
        self._refill_wanted = asyncio.Event()
        self._refiller: asyncio.Task[None] | None = None
        self._blanks = Blanks(self._launcher)
        self._blank_size = config.blank_size
        self._resident_memory_mib = config.resident_memory_mib
        self._roots = config.home / "roots"
        self._snapshots = SnapshotFiles(config.home)
        self._captures = Captures(runtime, slots, self._launcher, self._snapshots)
        self._residents: dict[SandboxId, tuple[Resident, Run, str]] = {}
        """Each with the id of the snapshot that says the same on the disk."""
        self._evictor: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Prepares the machine and adopts the sandboxes that outlived the last server; removes the rest of
        it."""
        self._sandboxes.mkdir(parents=True, exist_ok=True, mode=0o711)
        self._surroundings = await asyncio.to_thread(self._look_around)
        await self._slots.open(self._surroundings.allowances)
        self._verifier = BuildVerifier(
            await self._runtime.sha256(),
            await self._runtime.cpu_features(),
            self._guest.public_key,
            self._run / "verified.json",
        )
        await self._settle_leftovers()
        await asyncio.to_thread(self._snapshots.discard_unfinished)
        self._refiller = asyncio.create_task(self._refill_forever())
        self._evictor = asyncio.create_task(self._evict_forever())

    async def close(self) -> None:
        """Drops the warm ones and waits until all that is ending is gone. Live sandboxes go on."""
        for task in (self._refiller, self._evictor):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        for watch in self._watches.values():
            watch.cancel()
        self._watches.clear()
        waiting = [*(run for _, run in self._waiting), *self._blanks.take_all()]
        for run in [*waiting, *(run for _, run, _ in self._residents.values())]:
            self._unwind_soon(run)
        self._waiting.clear()
        self._residents.clear()
        while busy := [*self._launching, *self._unwinding.values()]:
            await asyncio.wait(busy)
        for run in self._live.values():
            run.drop_connection()
        await self._slots.close(keep=bool(self._live))

    async def start(self, spec: StartSpec) -> Started:
        """Raises ``BuildDamaged``, ``CapacityUnavailable``, ``GuestUnresponsive`` or ``HostError``; nothing
        of
        the sandbox is left then."""
        run = await self._claim(spec) if spec.may_claim else None
        if run is None:
            run = await self._restore(spec.build, spec.resources)
            await self._hand_over(run, spec)
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
        run = await self._launch(self._launcher.boot(root_path, resources, envs, self._surroundings))
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
            await self._unwind(run)

    async def pause(self, sandbox_id: SandboxId, target: Target) -> None:
        """Its state is safe on the disk when this returns, and it is out of memory, or frozen in it for as
        long as there is room. It runs on as before when this raises."""
        run = self._get(sandbox_id)
        build = await self._captures.take_and_keep_frozen(run, target)
        self._verify().remember(build)
        if self._leave(sandbox_id) is not run:
            raise SandboxEnded(f"sandbox {sandbox_id} ended while it was paused")
        run.sandbox_id = None
        with contextlib.suppress(OSError):  # else the next server finds one that no row asks for: as good
            run.write_record()
        self._residents[sandbox_id] = (_resident(sandbox_id, build), run, target.snapshot_id)
        self._watches[run] = asyncio.create_task(self._watch_resident(sandbox_id, run))
        await self.evict()

    async def check_healthy(self, sandbox_id: SandboxId) -> None:
        """Raises ``GuestUnresponsive`` unless its daemon answers soon."""
        await self._launcher.check(self._get(sandbox_id))

    async def capture(self, sandbox_id: SandboxId, target: Target) -> Build:
        """A snapshot of a sandbox that goes on."""
        build = await self._captures.take(self._get(sandbox_id), target)
        self._verify().remember(build)
        return build

    async def resume(
        self, identity: Identity, resources: Resources, snapshot_id: str, *, allow_internet: bool = True
    ) -> Started:
        """The sandbox as it was paused, from memory where it stayed there, else from its snapshot, which
        stays. Raises as :meth:`start` does."""
        build = await asyncio.to_thread(self._snapshots.load, snapshot_id)
        whole = replace(identity, envs={**build.manifest.envs, **identity.envs})
        spec = StartSpec(whole, resources, build, allow_internet, may_claim=False)
        _, run, held = self._residents.pop(identity.sandbox_id, (None, None, None))
        if run is not None:
            self._unwatch(run)
            if held == snapshot_id and await self._wake(run, spec):
                return self._enter(run, identity.sandbox_id)
            await self._unwind(run)
        return await self.start(spec)

    async def discard(self, snapshot_id: str) -> None:
        """Removes a snapshot from the disk. Idempotent."""
        await asyncio.to_thread(self._snapshots.discard, snapshot_id)
        self._verify().forget(self._snapshots.path(snapshot_id))

    async def snapshots(self) -> frozenset[str]:
        """Ids of all that are whole."""
        return await asyncio.to_thread(self._snapshots.ids)

    async def evict(self) -> None:
        """Lets go of paused sandboxes in memory that there is no room for."""
        total, available = read_memory_mib("MemTotal"), read_memory_mib("MemAvailable")
        budget = total // 4 if self._resident_memory_mib is None else self._resident_memory_mib
        residents = [resident for resident, _, _ in self._residents.values()]
        for sandbox_id in plan_evictions(residents, budget, available, reserve_mib(total), time.monotonic()):
            await self._evict(sandbox_id)

    def blank_count(self) -> int:
        """How many created ones wait for a snapshot."""
        return len(self._blanks)

    def resident_count(self) -> int:
        """How many paused sandboxes are still in memory."""
        return len(self._residents)

    async def stop(self, sandbox_id: SandboxId) -> None:
        """Idempotent; everything the sandbox held is gone afterwards."""
        await self._evict(sandbox_id)
        run = self._leave(sandbox_id)
        if run is not None:
            await self._unwind(run)
        ending = [task for other, task in self._unwinding.items() if other.sandbox_id == sandbox_id]
        if ending:
            await asyncio.wait(ending)

    def running(self) -> Mapping[SandboxId, str]:
        return {sandbox_id: run.slot.address for sandbox_id, run in self._live.items()}

    async def warm(self, builds: Iterable[tuple[Build, Resources, int]]) -> None:
        """Sets how many of each build wait; the pool gets there in the background."""
        self._surroundings = await asyncio.to_thread(self._look_around)
        await self._slots.open(self._surroundings.allowances)
        self._targets = {
            Kind(build.manifest.build_id, resources): (build, count) for build, resources, count in builds
        }
        self._blanks.aim(
            {
                (build.root_path, kind.resources): self._blank_size
                for kind, (build, _) in self._targets.items()
            }
        )
        self._blocked.clear()
        self._refill_wanted.set()

    def background_tasks(self) -> list[asyncio.Task[None]]:
        """What runs without a caller: the watches, the removals, the refiller and the evictor."""
        forever = [task for task in (self._refiller, self._evictor) if task is not None]
        return [*forever, *self._watches.values(), *self._unwinding.values()]

    def warm_count(self) -> int:
        """How many restored sandboxes wait."""
        return len(self._waiting)

    async def start_process(self, sandbox_id: SandboxId, start: process.Start, user: str = "root") -> int:
        """Starts a command that outlives the call; its pid inside. For sandboxes without a token."""
        return await self._guest.start_process(self._get(sandbox_id).slot.address, start, user)

    async def run_process(
        self, sandbox_id: SandboxId, start: process.Start, user: str = "root"
    ) -> tuple[int, str]:
        """Runs a command to its end: exit code and what it printed. For sandboxes without a token."""
        return await self._guest.run_process(self._get(sandbox_id).slot.address, start, user)

    # -- starting ------------------------------------------------------------------------------------------

    async def _restore(self, build: Build, resources: Resources, *, may_fill: bool = True) -> Run:
        await self._verify().verify(build)
        await self._make_room(build)
        blank = self._blanks.take(build.root_path, resources) if may_fill else None
        if blank is not None:
            self._refill_wanted.set()
            try:
                return await self._launch(self._launcher.restore(build, resources, self._surroundings, blank))
            except (HostError, GuestUnresponsive) as error:
                _log.warning("a waiting blank was no good, another is made: %s", error)
            except BaseException:
                await self._unwind(blank)  # nothing left to do, unless it was cancelled before it began
                raise
        try:
            return await self._launch(self._launcher.restore(build, resources, self._surroundings))
        except GuestUnresponsive as error:
            # A listener can be deaf after a restore into another network (gVisor issue 13920); rarely twice.
            _log.warning("a restored sandbox did not answer, it is restored once more: %s", error)
            return await self._launch(self._launcher.restore(build, resources, self._surroundings))

    def _verify(self) -> BuildVerifier:
        if self._verifier is None:
            raise RuntimeError("the node is not open")
        return self._verifier

    async def _make_room(self, build: Build) -> None:
        """Raises ``CapacityUnavailable`` when the machine has no memory for one more of the build. What waits
        in memory for somebody to come goes before somebody who is here is refused."""
        total, available = read_memory_mib("MemTotal"), read_memory_mib("MemAvailable")
        needed = _memory_mib(build)
        if self._residents and available - needed < reserve_mib(total):
            for sandbox_id in tuple(self._residents):
                await self._evict(sandbox_id)
            available = read_memory_mib("MemAvailable")
        check_fits(needed, available, reserve_mib(total))

    async def _launch(self, launching: Coroutine[None, None, Run]) -> Run:
        """Waits for a run in the making. Cancelled, it waits until all of it is undone; `close` does so, too,
        when the caller is cancelled once more."""
        task = asyncio.create_task(launching)
        self._launching.add(task)
        task.add_done_callback(self._launching.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._drop_late)
            task.cancel()
            await asyncio.wait([task])
            raise

    def _drop_late(self, task: asyncio.Task[Run]) -> None:
        """A run that was finished before the cancellation reached it is nobody's."""
        if not task.cancelled() and task.exception() is None:
            self._unwind_soon(task.result())

    async def _claim(self, spec: StartSpec) -> Run | None:
        """A warm run that became this sandbox; ``None`` when none waits that is alive."""
        kind = Kind(spec.build.manifest.build_id, spec.resources)
        while (run := self._take(kind)) is not None:
            self._refill_wanted.set()
            watch = Stopwatch()
            run.timings_ms = watch.timings_ms
            try:
                await self._thaw(run)
                watch.mark("thaw")
                await self._hand_over(run, spec)
            except AtollError as error:
                _log.warning("a warm sandbox was no good, the next is tried: %s", error)
                continue
            run.timings_ms["warm"] = 1.0
            return run
        return None

    def _take(self, kind: Kind) -> Run | None:
        for entry in self._waiting:
            if entry[0] == kind:
                self._waiting.remove(entry)
                self._unwatch(entry[1])
                return entry[1]
        return None

    async def _wake(self, run: Run, spec: StartSpec) -> bool:
        """Whether the frozen run became this sandbox again; it is to be unwound when not."""
        watch = Stopwatch()
        run.timings_ms = watch.timings_ms
        try:
            run.sandbox_id = spec.identity.sandbox_id
            run.write_record()
            await self._captures.wake(run)
            watch.mark("thaw")
            await self._hand_over(run, spec)
        except (AtollError, OSError) as error:
            _log.warning("a paused sandbox in memory was no good, its snapshot is restored: %s", error)
            return False
        run.timings_ms["resident"] = 1.0
        return True

    async def _thaw(self, run: Run) -> None:
        try:
            await self._runtime.thaw(run.slot.name)
        except BaseException:
            await self._unwind(run)
            raise

    async def _hand_over(self, run: Run, spec: StartSpec) -> None:
        """Makes the run this sandbox. Unwinds it when that fails."""
        watch = Stopwatch()
        try:
            run.sandbox_id = spec.identity.sandbox_id
            run.allow_internet = spec.allow_internet
            if not spec.allow_internet:
                await self._slots.set_internet(run.slot, False)
            run.write_record()
            manifest = spec.build.manifest
            body = init_body(spec.identity, manifest.default_user, manifest.workdir)
            await self._guest.init(run.slot.address, body, run.connection)
            run.drop_connection()
        except BaseException:
            await self._unwind(run)
            raise
        watch.mark("guest")
        run.timings_ms |= watch.timings_ms

    def _enter(self, run: Run, sandbox_id: SandboxId) -> Started:
        run.sandbox_id = sandbox_id
        self._live[sandbox_id] = run
        self._watches[run] = asyncio.create_task(self._watch_live(sandbox_id, run))
        return Started(sandbox_id, run.slot.address, dict(run.timings_ms))

    # -- ending --------------------------------------------------------------------------------------------

    def _get(self, sandbox_id: SandboxId) -> Run:
        run = self._live.get(sandbox_id)
        if run is None:
            raise SandboxEnded(f"sandbox {sandbox_id} does not run on this machine")
        return run

    def _leave(self, sandbox_id: SandboxId) -> Run | None:
        """Takes the sandbox out of the living; ``None`` when it is not among them."""
        run = self._live.pop(sandbox_id, None)
        if run is not None:
            self._unwatch(run)
        return run

    def _unwatch(self, run: Run) -> None:
        watch = self._watches.pop(run, None)
        if watch is not None and watch is not asyncio.current_task():
            watch.cancel()

    async def _watch_live(self, sandbox_id: SandboxId, run: Run) -> None:
        """Waits for the container's end and tells of it, unless the sandbox was stopped first."""
        words = await self._runtime.wait(run.slot.name)
        if self._leave(sandbox_id) is None:
            return
        memory = await self._slots.is_out_of_memory(run.slot)
        await self._unwind(run)
        if self.on_end is not None:
            self.on_end(sandbox_id, EndReason.MEMORY_LIMIT if memory else EndReason.CRASH, words)

    async def _watch_waiting(self, entry: tuple[Kind, Run]) -> None:
        """A warm one that dies makes room for another."""
        await self._runtime.wait(entry[1].slot.name)
        if entry in self._waiting:
            self._waiting.remove(entry)
            self._watches.pop(entry[1], None)
            await self._unwind(entry[1])
            self._refill_wanted.set()

    async def _watch_resident(self, sandbox_id: SandboxId, run: Run) -> None:
        """A frozen one that dies is no loss: its snapshot is on the disk."""
        await self._runtime.wait(run.slot.name)
        await self._evict(sandbox_id)

    async def _evict(self, sandbox_id: SandboxId) -> None:
        _, run, _ = self._residents.pop(sandbox_id, (None, None, None))
        if run is not None:
            self._unwatch(run)
            await self._unwind(run)

    async def _evict_forever(self) -> None:
        while True:
            await asyncio.sleep(_BETWEEN_EVICTIONS)
            try:
                await self.evict()
            except Exception:
                _log.exception("paused sandboxes could not be let go of; tried again soon")

    async def _unwind(self, run: Run) -> None:
        """Removes all of the run. A cancelled caller leaves at once, the removal goes on; `close` waits for
        it."""
        await asyncio.shield(self._unwind_soon(run))

    def _unwind_soon(self, run: Run) -> asyncio.Task[None]:
        task = self._unwinding.get(run)
        if task is None:
            task = asyncio.create_task(self._unwind_now(run))
            self._unwinding[run] = task
            task.add_done_callback(lambda _: self._unwinding.pop(run, None))
        return task

    async def _unwind_now(self, run: Run) -> None:
        try:
            await run.stack.aclose()
        except (AtollError, OSError):
            _log.exception(
                "sandbox %s left something behind; `./atoll doctor --deep` names it", run.slot.name
            )

    # -- pool ----------------------------------------------------------------------------------------------

    async def _refill_forever(self) -> None:
        while True:
            await self._refill_wanted.wait()
            self._refill_wanted.clear()
            try:
                await self._refill()
            except Exception:
                _log.exception("the pool could not be refilled; the next start tries again")

    async def _refill(self) -> None:
        """Makes and drops runs until the plan is empty; plans anew after each, for claims come in between."""
        while True:
            targets = {kind: count for kind, (_, count) in self._targets.items()}
            plan = plan_pool(targets, [kind for kind, _ in self._waiting], self._blocked)
            for kind in plan.drop:
                run = self._take(kind)
                if run is not None:
                    await self._unwind(run)
            if plan.make:
                await self._make_warm(plan.make[0])
            elif not await self._make_blank():
                return

    async def _make_blank(self) -> bool:
        """Whether one was made: there may be more to make."""
        try:
            made, dropped = await self._blanks.refill()
        except AtollError as error:
            _log.warning("no blank can be kept ahead: %s", error)
            asyncio.get_running_loop().call_later(_RETRY_POOL, self._refill_wanted.set)
            return False
        for run in dropped:
            await self._unwind(run)
        return made

    async def _make_warm(self, kind: Kind) -> None:
        build, _ = self._targets[kind]
        try:
            run = await self._restore(build, kind.resources, may_fill=False)
            await self._make_ready(run)
        except AtollError as error:
            _log.warning("template %s cannot be kept warm: %s", build.manifest.name, error)
            self._blocked.add(kind)
            asyncio.get_running_loop().call_later(_RETRY_POOL, self._unblock, kind)
            return
        entry = (kind, run)
        self._waiting.append(entry)
        self._watches[run] = asyncio.create_task(self._watch_waiting(entry))

    async def _make_ready(self, run: Run) -> None:
        try:
            await self._launcher.rehearse(run)
            await self._runtime.freeze(run.slot.name)
        except BaseException:
            await self._unwind(run)
            raise

    def _unblock(self, kind: Kind) -> None:
        self._blocked.discard(kind)
        self._refill_wanted.set()

    # -- after a restart -----------------------------------------------------------------------------------

    async def _settle_leftovers(self) -> None:
        """Every directory of the last server is adopted when it belongs to a living sandbox, else removed."""
        living = await self._runtime.list()
        records = await asyncio.to_thread(read_records, self._sandboxes)
        for name in living - {directory.name for directory in records}:
            await self._runtime.destroy(name)
        await asyncio.gather(*(self._settle(path, record, living) for path, record in records.items()))

    async def _settle(self, directory: Path, record: Record | None, living: frozenset[str]) -> None:
        run = await self._launcher.adopt(directory, record, self._roots)
        lives = directory.name in living and not run.slot.is_foreign
        if lives and record is not None and record.sandbox_id is not None:
            try:
                await self._captures.recover(run)
            except AtollError as error:
                _log.warning(
                    "sandbox %s does not answer any more and is removed: %s", record.sandbox_id, error
                )
            else:
                self._enter(run, record.sandbox_id)
                return
        await self._unwind(run)


def _resident(sandbox_id: SandboxId, build: Build) -> Resident:
    return Resident(sandbox_id, _memory_mib(build), time.monotonic())


def _memory_mib(build: Build) -> int:
    """What a sandbox takes at first: the pages of its snapshot, and gVisor."""
    return (sum(stored.size for stored in build.manifest.snapshot.values()) >> 20) + OVERHEAD_MIB
