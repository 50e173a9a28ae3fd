"""What the server's unit tests share: a clock that stands still, and a whole server over a fake machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from atolld.config import Config
from atolld.control.clock import Clock
from atolld.control.keys import Keys, ensure_credentials
from atolld.control.sandboxes import NewSandbox, Sandboxes
from atolld.control.templates import Templates, register_build
from atolld.model.routes import Routes
from atolld.model.sandbox import SandboxId
from atolld.model.team import Team
from atolld.model.template import encode_manifest
from atolld.node.doubles import FakeMachine, fake_build
from atolld.store import Store


class FakeClock(Clock):
    """Time passes by :meth:`advance` only; the wall clock can be set apart from it."""

    def __init__(self) -> None:
        self.boot_id = "this boot"
        self.wall = datetime(2026, 5, 1, 12, tzinfo=UTC)
        self._ticks = 1000.0
        self._sleepers: dict[asyncio.Event, float] = {}
        self._asleep = asyncio.Event()

    def now(self) -> datetime:
        return self.wall

    def ticks(self) -> float:
        return self._ticks

    async def wait(self, event: asyncio.Event, until: float | None) -> None:
        reached = asyncio.Event()
        if until is not None:
            self._sleepers[reached] = until
        tasks = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(reached.wait())]
        self._asleep.set()
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._sleepers.pop(reached, None)
            for task in tasks:
                task.cancel()

    async def advance(self, seconds: float) -> None:
        """Returns when whoever this woke waits again."""
        for _ in range(10):  # whoever was told something meanwhile takes notice first
            await asyncio.sleep(0)
        self._ticks += seconds
        self.wall += timedelta(seconds=seconds)
        woken = [event for event, until in self._sleepers.items() if until <= self._ticks]
        for event in woken:
            self._asleep.clear()
            event.set()
        if woken:
            await self._asleep.wait()


@dataclass
class House:
    """A server without its skins."""

    config: Config
    clock: FakeClock
    store: Store
    machine: FakeMachine
    routes: Routes
    templates: Templates
    keys: Keys
    sandboxes: Sandboxes
    team: Team
    key: str

    async def create(self, timeout: int = 300, **wanted: object) -> SandboxId:
        created = await self.sandboxes.create(
            self.team,
            NewSandbox("base", timeout, **wanted),  # type: ignore[arg-type]
        )
        return created.record.sandbox_id

    async def settled(self) -> None:
        await self.sandboxes.wait_settled()

    async def die(self) -> None:
        """As ``kill -9`` would: the database and the machine stay as they are."""
        self.machine.kill_server()
        await self.sandboxes.close()
        await self.store.close()


OpenHouse = Callable[..., Awaitable[House]]


async def build_house(
    home: Path, clock: FakeClock, machine: FakeMachine | None = None, **settings: object
) -> House:
    """A server in ``home``, new or come back to what another left; ``settings`` replace the config's."""
    store = await Store.open(home / "atoll.db")
    key = await ensure_credentials(store, home / "credentials")
    build = fake_build(home)
    (build.directory / "manifest.json").write_text(encode_manifest(build.manifest))
    await register_build(store, build.manifest)
    machine = machine or FakeMachine(home, settings=settings)
    config = replace(machine.config, **{"pool_size": 0, **settings})  # type: ignore[arg-type]
    routes, templates, keys = Routes(), Templates(store, home), Keys(store, clock.ticks)
    sandboxes = Sandboxes(
        config=config, store=store, node=machine.node, routes=routes, templates=templates, clock=clock
    )
    await machine.node.open()
    await sandboxes.open()
    team = await keys.authenticate(key)
    return House(config, clock, store, machine, routes, templates, keys, sandboxes, team, key)


@pytest.fixture(name="build_house")
def build_house_fixture() -> Callable[..., Awaitable[House]]:
    return build_house


@pytest.fixture
def clock_type() -> type[FakeClock]:
    return FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def open_house(tmp_path: Path, clock: FakeClock) -> AsyncGenerator[OpenHouse]:
    """Opens servers in one state directory: one at a time, the earlier ones must have died."""
    opened: list[House] = []

    async def open_one(machine: FakeMachine | None = None, **settings: object) -> House:
        house = await build_house(tmp_path, clock, machine, **settings)
        opened.append(house)
        return house

    yield open_one
    last = opened[-1]
    await last.sandboxes.end_all()
    await last.sandboxes.close()
    await last.machine.node.close()
    await last.store.close()


@pytest.fixture
async def house(open_house: OpenHouse) -> House:
    return await open_house()
