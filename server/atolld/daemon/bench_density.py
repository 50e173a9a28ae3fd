"""The figures of `./atoll bench density`: what many sandboxes of one template take of this machine.

One node after the other in this process, with a state directory and a range of its own: first as gVisor is
(``stock``), then with shared pages. No server takes part; code is run by the interpreter's own address. How
much memory sandboxes take is what the machine has available less, and what their cgroups are charged; the
processes of one share address spaces, so that a sum of theirs would count pages twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import shutil
import signal
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network
from pathlib import Path

from atolld.config import Config
from atolld.daemon import bench_cells as cells
from atolld.daemon.bench_restore import find_build
from atolld.daemon.parts import build_guest, runsc_binary
from atolld.model.errors import HostError
from atolld.model.sandbox import Identity, Resources, SandboxId
from atolld.model.template import Build
from atolld.node import KernelSlots, Node, Slot, Started, StartSpec, Target, look_around
from atolld.node.memory import read_memory_mib
from atolld.node.runtime.runsc import RunscRuntime
from atolld.setup import zram

_INTERPRETER = 49999
_TIMEOUT = 120.0
_PREFIX = 19
"""Of the range: 2,047 sandboxes."""
_BORROWED = ("bin", "host-key", "roots")
_SETTLING = 3.0
"""Seconds after which what was just started has given back what it does not need."""
_CALM_AFTER = 40.0
"""Seconds after a sandbox ran code, in which gVisor and the daemon give memory back."""
_IDLE = 10.0
_TENTH = 10
_SIDE_BY_SIDE = 3
STEPS = ("code", "crowd", "writes", "pause", "forks")


@dataclass(frozen=True, slots=True)
class Sizes:
    n: int = 5
    """How often what takes time is measured."""
    clones: int = 50
    forks: int = 20
    alive: int = 0
    """How many are tried to have alive at once; 0: not measured."""
    steps: tuple[str, ...] = STEPS


@dataclass(slots=True)
class Density:
    """Values by name, for each variant; units are in the names."""

    template: str
    swap: str = ""
    """The device that frozen sandboxes were paged out to."""
    stock: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    shared: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    notes: list[str] = field(default_factory=list[str])


class _Slots(KernelSlots):
    """Knows whose an address is."""

    def __init__(self, network: IPv4Network, sandboxes: Path) -> None:
        super().__init__(network, sandboxes)
        self.by_address: dict[str, Slot] = {}

    async def lease(self, resources: Resources) -> Slot:
        slot = await super().lease(resources)
        self.by_address[slot.address] = slot
        return slot


class _Variant:
    def __init__(
        self,
        config: Config,
        build: Build,
        sizes: Sizes,
        into: dict[str, list[float]],
        notes: list[str],
    ) -> None:
        self._home = config.home
        self._build = build
        self._sizes = sizes
        self._into = into
        self._notes = notes
        run = config.home / "run"
        self._slots = _Slots(config.network, run / "sandboxes")
        self._runtime = RunscRuntime(runsc_binary(config).resolve(), run / "runsc")
        self._node = Node(
            config,
            self._runtime,
            build_guest(config),
            self._slots,
            lambda: look_around(config.allow_egress, os.environ),
        )
        self._names = iter(f"bench{number:05d}" for number in range(10**5))

    async def measure(self) -> None:
        steps: dict[str, Callable[[], Awaitable[None]]] = {
            "code": self._code,
            "crowd": self._crowd,
            "writes": self._writes,
            "pause": self._pause,
            "forks": self._forks,
        }
        try:
            await self._node.open()
            for name in self._sizes.steps:
                await steps[name]()
            if self._sizes.alive:
                await self._alive()
        finally:
            await self._stop_all()
            await self._node.close()

    # -- the steps -----------------------------------------------------------------------------------------

    async def _code(self) -> None:
        """Restores into blanks, and the first code there; the same in warm ones."""
        await self._keep(warm=0)
        for _ in range(self._sizes.n):
            await self._until(lambda: self._node.blank_count() > 0)
            async with self._started() as one:
                if "blank" in one.timings_ms:
                    self._note("restore_ms", one.timings_ms["restore"] + one.timings_ms["probe"])
                times = [await self._run(one, cells.GROUP_BY) for _ in range(_TENTH)]
                self._note("cold_first_ms", times[0])
                self._note("tenth_ms", times[-1])
        await self._keep(warm=1)
        for _ in range(self._sizes.n):
            await self._until(lambda: self._node.warm_count() > 0 and self._node.blank_count() > 0)
            async with self._started(may_claim=True) as one:
                if "warm" in one.timings_ms:
                    self._note("warm_first_ms", await self._run(one, cells.GROUP_BY))
        await self._node.warm([])
        await self._until(lambda: self._node.warm_count() + self._node.blank_count() == 0)

    async def _crowd(self) -> None:
        async with self._started():  # what only the first one pays
            count = self._sizes.clones
            before = await self._available()
            crowd = [await self._start() for _ in range(count)]
            self._note("fresh_mib", (before - await self._available()) / count)
            self._note("fresh_charged_mib", await self._charged(crowd) / count)
            if self._slots.can_page_out():
                for one in crowd:
                    slot = self._slot(one)
                    await self._runtime.freeze(slot.name)
                    begin = time.perf_counter()
                    await self._slots.page_out(slot, lambda: True)
                    self._note("page_out_ms", _since(begin))
                self._note("paged_out_mib", (before - await self._available()) / count)
                self._note("paged_out_charged_mib", await self._charged(crowd) / count)
                for one in crowd[: self._sizes.n]:
                    begin = time.perf_counter()
                    await self._runtime.thaw(self._slot(one).name)
                    await self._run(one, "1 + 1")
                    self._note("thaw_and_run_ms", _since(begin))
            await self._stop_all()

    async def _writes(self) -> None:
        for _ in range(self._sizes.n):
            async with self._started() as one:
                printed = json.loads(await self._print(one, cells.WRITE_ALL))
                self._note("first_pass_mib_s", printed["first"])
                self._note("later_passes_mib_s", printed["later"])

    async def _pause(self) -> None:
        big = await self._big()
        for _ in range(min(self._sizes.n, 3)):
            one = await self._start(big)
            await self._run(one, cells.CHANGE_TEN)
            target = self._target("paused")
            begin = time.perf_counter()
            await self._node.pause(one.sandbox_id, target)
            self._note("pause_ms", _since(begin))
            self._note("pause_mib", _size_mib(self._home / "snapshots" / target.snapshot_id / "snapshot"))
            await self._node.stop(one.sandbox_id)
            await self._node.discard(target.snapshot_id)
        await self._node.discard(big.manifest.build_id)

    async def _forks(self) -> None:
        """What a source is charged; then, when it is gone, what its forks are, and once the pages that they
        share: those are cache of a file."""
        big = await self._big(note_source=True)
        forks = [await self._start(big) for _ in range(self._sizes.forks)]
        await asyncio.sleep(_SETTLING)
        charged, pages = await self._charged(forks), _size_mib(big.snapshot_path)
        self._note("forks_mib", charged + (pages if charged < len(forks) * pages else 0))
        await self._stop_all()
        await self._node.discard(big.manifest.build_id)

    async def _alive(self) -> None:
        before, begin = await self._available(), time.perf_counter()
        gate, alive = asyncio.Semaphore(_SIDE_BY_SIDE), list[Started]()

        async def start_one() -> None:
            async with gate:
                one = await self._start()
                await self._run(one, "1 + 1")
                alive.append(one)

        tries = (start_one() for _ in range(self._sizes.alive))
        failed = [error for error in await asyncio.gather(*tries, return_exceptions=True) if error]
        self._note("alive_made_s", _since(begin) / 1000)
        took = [await self._run(one, "1 + 1") for one in alive]
        self._note("alive", len(took))
        self._note("alive_run_ms", sum(took) / max(1, len(took)))
        await asyncio.sleep(_CALM_AFTER)
        self._note("alive_mib", (before - await self._available()) / max(1, len(alive)))
        used = await self._cpu_seconds(alive)
        await asyncio.sleep(_IDLE)
        self._note("alive_idle_cpu_percent", (await self._cpu_seconds(alive) - used) / _IDLE * 100)
        await self._stop_all()
        if failed:
            self._notes.append(f"{len(failed)} of {self._sizes.alive} were not alive: {failed[0]}")

    # -- what they are made of -----------------------------------------------------------------------------

    async def _keep(self, *, warm: int) -> None:
        await self._node.warm([(self._build, self._build.manifest.resources, warm)])

    async def _start(self, build: Build | None = None, *, may_claim: bool = False) -> Started:
        build = build or self._build
        manifest = build.manifest
        identity = Identity(SandboxId(next(self._names)), manifest.template_id, manifest.build_id, "bench")
        return await self._node.start(StartSpec(identity, manifest.resources, build, may_claim=may_claim))

    @contextlib.asynccontextmanager
    async def _started(self, *, may_claim: bool = False) -> AsyncGenerator[Started]:
        one = await self._start(may_claim=may_claim)
        try:
            yield one
        finally:
            await self._node.stop(one.sandbox_id)

    async def _stop_all(self) -> None:
        for sandbox_id in tuple(self._node.running()):
            await self._node.stop(sandbox_id)

    async def _big(self, *, note_source: bool = False) -> Build:
        """A snapshot of a sandbox that holds 500 MB, which is gone."""
        one = await self._start()
        await self._run(one, cells.HOLD_MUCH)
        if note_source:
            self._note("source_mib", await self._charged([one]))
        build = await self._node.capture(one.sandbox_id, self._target("big"))
        await self._node.stop(one.sandbox_id)
        return build

    def _target(self, name: str) -> Target:
        manifest = self._build.manifest
        return Target(f"bench-{name}-{next(self._names)}", manifest.template_id, manifest.name)

    async def _run(self, one: Started, code: str) -> float:
        """Milliseconds until the interpreter was done with it."""
        took, _ = await asyncio.to_thread(_execute, one.address, code)
        return took

    async def _print(self, one: Started, code: str) -> str:
        _, printed = await asyncio.to_thread(_execute, one.address, code)
        return printed

    async def _available(self) -> float:
        await asyncio.sleep(_SETTLING)
        return read_memory_mib("MemAvailable")

    async def _charged(self, crowd: list[Started]) -> float:
        return sum([await self._slots.measure(self._slot(one)) for one in crowd])

    async def _cpu_seconds(self, crowd: list[Started]) -> float:
        return sum([await self._slots.measure_cpu(self._slot(one)) for one in crowd])

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(_TIMEOUT):
            while not condition():  # noqa: ASYNC110 (the pool announces nothing)
                await asyncio.sleep(0.05)

    def _slot(self, one: Started) -> Slot:
        return self._slots.by_address[one.address]

    def _note(self, name: str, value: float) -> None:
        self._into.setdefault(name, []).append(value)


def _execute(address: str, code: str) -> tuple[float, str]:
    """Milliseconds, and what was printed. Raises ``HostError`` when the code failed."""
    connection = http.client.HTTPConnection(address, _INTERPRETER, timeout=_TIMEOUT)
    begin, printed = time.perf_counter(), ""
    with contextlib.closing(connection):
        try:
            body = json.dumps({"code": code})
            connection.request("POST", "/execute", body, {"Content-Type": "application/json"})
            lines = connection.getresponse().read().splitlines()
        except (OSError, http.client.HTTPException) as error:
            raise HostError(f"the interpreter at {address} does not answer: {error}") from error
    took = _since(begin)
    for event in map(json.loads, lines):
        if event["type"] == "error":
            raise HostError(f"the measured code failed: {event['name']}: {event['value']}")
        if event["type"] == "stdout":
            printed += event["text"]
    return took, printed


def _since(begin: float) -> float:
    """Milliseconds."""
    return (time.perf_counter() - begin) * 1000


def _size_mib(directory: Path) -> float:
    return sum(file.stat().st_size for file in directory.iterdir()) / (1 << 20)


@contextlib.contextmanager
def _swap(density: Density) -> Generator[None]:
    """The machine's, else one that is there for the measurement only, where that is possible."""
    swaps, made = zram.read_swaps(), ""
    if not swaps and zram.can_make():
        made = zram.make(read_memory_mib("MemTotal"))
        density.notes.append("the machine has no swap: a compressed one was made and removed again")
    density.swap = made or (swaps[0].device if swaps else "")
    try:
        yield
    finally:
        if made:
            zram.remove(made)


@contextlib.contextmanager
def _own_home(config: Config) -> Generator[Config]:
    """A state directory and a range that no server has."""
    home = config.home / "run" / "bench"
    if home.exists():
        raise HostError(f"another `bench density` runs; if not, `./atoll down` and remove {home}")
    home.mkdir(parents=True)
    try:
        for name in _BORROWED:
            (home / name).symlink_to(config.home / name)
        size = 1 << (32 - _PREFIX)
        first = (int(config.network.broadcast_address) // size + 2) * size  # template builds are just above
        yield replace(config, home=home, network=IPv4Network((first, _PREFIX)), blank_size=1)
    finally:
        sandboxes = home / "run/sandboxes"
        if not sandboxes.is_dir() or not any(sandboxes.iterdir()):
            shutil.rmtree(home)  # else it is kept: it names what could not be removed


def bench_density(config: Config, template: str, sizes: Sizes) -> Density:
    """Raises ``HostError`` when a step fails, ``NotFound`` for an unknown template."""
    return asyncio.run(_measure(config, template, sizes))


async def _measure(config: Config, template: str, sizes: Sizes) -> Density:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # what was made is removed
    build, density = await find_build(config, template), Density(template)
    unlimited = read_memory_mib("MemTotal")
    with _swap(density), _own_home(config) as own:
        # Its steps page out by themselves.
        own = replace(own, pool_memory_mib=unlimited, page_out=bool(sizes.alive))
        if not sizes.alive:
            stock = replace(own, shared_pages=False)
            await _Variant(stock, build, sizes, density.stock, density.notes).measure()
        shared = replace(own, shared_pages=True, unshared_templates=frozenset())
        await _Variant(shared, build, sizes, density.shared, density.notes).measure()
    return density
