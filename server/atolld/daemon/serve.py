"""The server: one process, one event loop, one port.

Start: lock, store, node, sandboxes (what the last server left), the API on its unix socket, the port,
last https before it.
Stop (SIGTERM, SIGINT): the reverse. Sandboxes go on; the next server adopts them.
Replace (`serve --replace`): the running server lets go of all but its open streams, see :mod:`.succession`;
should the new one fail, it reigns again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncGenerator, Coroutine, Generator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import structlog
import uvicorn
from starlette.types import ASGIApp

from atolld.api import build_app
from atolld.config import Config
from atolld.daemon.lock import hold_machine
from atolld.daemon.parts import House, build_node, open_house
from atolld.daemon.ports import check_port, port_error
from atolld.daemon.succession import (
    Elder,
    Estate,
    Predecessor,
    Succession,
    Successor,
    open_succession,
    take_over,
    withdraw_all_but,
)
from atolld.model.errors import HostError
from atolld.model.routes import Routes
from atolld.proxy import FrontDoor
from atolld.setup import zram
from atolld.telemetry import SANDBOXES_RUNNING, configure_logs
from atolld.tls import open_front
from atolld.tls.front import TlsFront

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")

_GRACE = 5.0
"""Seconds that requests under way have to end when the server stops."""

_LAST_CALLS = 25.0
"""Seconds that requests to the API have to end when the server is replaced: a pause of much memory takes
some."""

_LAST_REQUESTS = 10.0
"""Seconds in which each connection of a replaced server may send one more request, which is answered by its
successor."""


@dataclass(frozen=True, slots=True)
class Skins:
    """``api`` may be closed before the door: it then leads to a successor."""

    door: FrontDoor
    api: AsyncExitStack
    api_server: uvicorn.Server

    async def accept(self, config: Config, listeners: Sequence[socket.socket] = ()) -> None:
        """From now on clients are answered; ``listeners`` are those of a predecessor. Raises
        ``HostError`` when the port is taken."""
        try:
            await self.door.start(config.host, config.port, listeners=listeners)
        except OSError as error:
            raise port_error(config.host, config.port, error) from error


@dataclass(frozen=True, slots=True)
class Reign:
    """This process as the one that has the machine."""

    house: House
    skins: Skins
    front: TlsFront | None
    succession: Succession
    owned: AsyncExitStack
    """What may have one owner only: the lock, the house, the place where successors ask."""


def serve(config: Config, *, replace: bool = False) -> None:
    """Runs until a signal; ``replace``: in the place of the server that runs now. Raises an
    :class:`~atolld.model.errors.AtollError` when it cannot start."""
    if os.geteuid() != 0:
        raise HostError("the server makes network namespaces and cgroups, which needs root: run it with sudo")
    os.umask(0o022)
    configure_logs()
    if replace:
        build_node(config)  # what is missing is said before anyone lets go
    predecessor = take_over(config) if replace else None
    # Not uvloop: it cannot open the netlink sockets of pyroute2.
    asyncio.run(_serve(config, predecessor))


async def _serve(config: Config, predecessor: Predecessor | None) -> None:
    stop = _stop_on_signals()
    estate = predecessor.estate if predecessor else Estate()
    elders: list[Elder] = [predecessor] if predecessor else []
    async with AsyncExitStack() as stack:
        while True:
            reign = await _reign(config, stack, estate, elders)
            successor = await _first(stop, reign.succession.wait())
            if successor is None:
                await _pause_at_stop(config, reign)
                break
            stack.callback(successor.close)
            estate = await _let_go(reign)
            if await _first(stop, successor.give(estate, reign.house.routes)):
                estate.close()
                await _first(stop, _drain(config, reign, successor, elders))
                break
            if stop.is_set():
                break
            _log.error("daemon.server.successor_failed")
            await successor.end()
            elders.append(_keep_streams(config, stack, reign))
        _log.info("daemon.server.stopping", sandboxes=len(reign.house.routes))


async def _pause_at_stop(config: Config, reign: Reign) -> None:
    if config.pause_at_stop:
        await reign.skins.api.aclose()  # nothing new meanwhile
        _log.info("daemon.server.pausing", paused=await reign.house.sandboxes.pause_all())


async def _reign(config: Config, stack: AsyncExitStack, estate: Estate, elders: Sequence[Elder]) -> Reign:
    owned = await stack.enter_async_context(AsyncExitStack())
    owned.enter_context(hold_machine(config.home, "server", config.url))
    if not estate.door:
        check_port(config.host, config.port)
    await asyncio.to_thread(_make_swap, config)
    house = await owned.enter_async_context(open_house(config))
    await house.sandboxes.open()
    skins = await stack.enter_async_context(open_skins(config, house))
    if not estate.door:
        await skins.accept(config)
    front = await stack.enter_async_context(_https(config, estate.tls))
    succession = await owned.enter_async_context(open_succession(config))
    if estate.door:  # last: nobody is let in who would be dropped, should anything before this fail
        await skins.accept(config, estate.door)
    for elder in elders:
        elder.keep_informed(house.routes)
    _log.info("daemon.server.started", url=config.url, domain=config.domain, sandboxes=len(house.routes))
    return Reign(house, skins, front, succession, owned)


def _make_swap(config: Config) -> None:
    """The one that the operator agreed to is gone after a reboot."""
    try:
        zram.ensure(config.home)
    except HostError as error:
        _log.warning("daemon.swap.failed", error=str(error))


async def _first(stop: asyncio.Event, work: Coroutine[None, None, _T]) -> _T | None:
    """What ``work`` returns; ``None`` when a signal came first."""
    stopped, done = asyncio.create_task(stop.wait()), asyncio.create_task(work)
    try:
        await asyncio.wait((stopped, done), return_when=asyncio.FIRST_COMPLETED)
        return done.result() if done.done() else None
    finally:
        stopped.cancel()
        done.cancel()
        await asyncio.wait((stopped, done))


async def _let_go(reign: Reign) -> Estate:
    """The machine is anyone's afterwards; what is left here are open streams."""
    _log.info("daemon.server.handing_over")
    tls = await reign.front.pass_on() if reign.front is not None else []
    door = reign.skins.door.pass_on()
    reign.skins.api_server.config.timeout_graceful_shutdown = int(_LAST_CALLS)
    await reign.skins.api.aclose()
    await reign.skins.door.wait_woken()
    await reign.owned.aclose()
    _log.info("daemon.server.handed_over", open_connections=reign.skins.door.open_connections[0])
    return Estate(door, tls)


async def _drain(config: Config, reign: Reign, successor: Successor, elders: Sequence[Elder]) -> None:
    """Returns when the last stream has ended here and in earlier servers, or the successor has."""

    async def last_stream() -> None:
        await _end_streams(config, reign.skins.door)
        for elder in elders:
            await elder.wait_end()

    tasks = [
        asyncio.create_task(last_stream()),
        asyncio.create_task(successor.follow(reign.house.routes)),
    ]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _end_streams(config: Config, door: FrontDoor) -> None:
    # A stream ends with its sandbox at the latest; the limit is for streams to nowhere.
    await door.stop(config.max_timeout, patience=_LAST_REQUESTS)


class _OwnStreams:
    """What this process has left of an earlier reign of its own."""

    def __init__(self, routes: Routes, ending: asyncio.Task[None]) -> None:
        self._routes = routes
        self._ending = ending

    def keep_informed(self, routes: Routes) -> None:
        withdraw_all_but(list(routes), self._routes)
        routes.watch(self._routes.withdraw)

    async def wait_end(self) -> None:
        await asyncio.wait((self._ending,))


def _keep_streams(config: Config, stack: AsyncExitStack, reign: Reign) -> Elder:
    ending = asyncio.create_task(_end_streams(config, reign.skins.door))
    stack.callback(ending.cancel)
    return _OwnStreams(reign.house.routes, ending)


@contextlib.asynccontextmanager
async def open_skins(config: Config, house: House) -> AsyncGenerator[Skins]:
    """The API on its unix socket, and the front door to it and to the sandboxes, which lets no one in yet."""
    SANDBOXES_RUNNING.set_function(lambda: len(house.routes))
    app = build_app(
        sandboxes=house.sandboxes,
        templates=house.templates,
        keys=house.keys,
        domain=config.domain,
        https_domain=config.tls.domain,
    )
    api_socket = config.home / "run" / "api.sock"
    async with AsyncExitStack() as api:
        api_server = await api.enter_async_context(_api(app, api_socket))
        own_hosts = [config.host, config.domain, config.tls.domain]
        door = FrontDoor(house.routes, own_hosts, api_socket, house.sandboxes.wake)
        try:
            yield Skins(door, api, api_server)
        finally:
            await door.stop(_GRACE)


@contextlib.asynccontextmanager
async def _https(config: Config, inherited: Sequence[int]) -> AsyncGenerator[TlsFront | None]:
    """https before the front door, where it is wanted and this machine can."""
    front = await open_front(config, inherited=inherited)
    try:
        yield front
    finally:
        if front is not None:
            await front.close(_GRACE)


def _stop_on_signals() -> asyncio.Event:
    """Set by the first signal; a second one ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def asked(number: int) -> None:
        stop.set()
        loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked, number)
    return stop


@contextlib.asynccontextmanager
async def _api(app: ASGIApp, path: Path) -> AsyncGenerator[uvicorn.Server]:
    """The API behind the front door, on a socket that only we may use."""
    settings = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        http="httptools",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=int(_GRACE),
    )
    server = _Server(settings)
    with _unix_listener(path) as listener:
        running = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield server
        finally:
            server.should_exit = True
            await running


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Signals are the daemon's."""
        yield


@contextlib.contextmanager
def _unix_listener(path: Path) -> Generator[socket.socket]:
    path.unlink(missing_ok=True)  # of a server that was killed: we hold the lock
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    with contextlib.closing(listener):
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        except OSError as error:
            raise HostError(f"{path} cannot be made ({error}): ATOLL_HOME may be too long") from error
        finally:
            os.umask(before)
        listener.listen(1024)
        yield listener
    path.unlink(missing_ok=True)
