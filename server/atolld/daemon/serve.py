"""The server: one process, one event loop, one port.

Start: lock, store, node, sandboxes (what the last server left), the API on its unix socket, the port,
last https before it.
Stop (SIGTERM, SIGINT): the reverse. Sandboxes go on; the next server adopts them.
Replace (`serve --replace`): the running server lets go of all but its open streams, see :mod:`.succession`.
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
from atolld.daemon.parts import House, open_house
from atolld.daemon.ports import check_port, port_error
from atolld.daemon.succession import Predecessor, Successor, open_succession, take_over
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

_LAST_REQUESTS = 10.0
"""Seconds in which each connection of a replaced server may send one more request, which is answered by its
successor."""


@dataclass(frozen=True, slots=True)
class Skins:
    """``api`` may be closed before the door: it then leads to a successor."""

    door: FrontDoor
    api: AsyncExitStack


def serve(config: Config, *, replace: bool = False) -> None:
    """Runs until a signal; ``replace``: in the place of the server that runs now. Raises an
    :class:`~atolld.model.errors.AtollError` when it cannot start."""
    if os.geteuid() != 0:
        raise HostError("the server makes network namespaces and cgroups, which needs root: run it with sudo")
    os.umask(0o022)
    configure_logs()
    predecessor = take_over(config) if replace else None
    # Not uvloop: it cannot open the netlink sockets of pyroute2.
    asyncio.run(_serve(config, predecessor))


async def _serve(config: Config, predecessor: Predecessor | None) -> None:
    stop = _stop_on_signals()
    async with AsyncExitStack() as stack:
        owned = await stack.enter_async_context(AsyncExitStack())
        owned.enter_context(hold_machine(config.home, "server", config.url))
        if predecessor is None:
            check_port(config.host, config.port)
        await asyncio.to_thread(_make_swap, config)
        house = await owned.enter_async_context(open_house(config))
        await house.sandboxes.open()
        skins = await stack.enter_async_context(
            open_skins(config, house, predecessor.door if predecessor else ())
        )
        if predecessor is not None:
            predecessor.keep_informed(house.routes)
        front = await stack.enter_async_context(_https(config, predecessor.tls if predecessor else ()))
        succession = await stack.enter_async_context(open_succession(config))
        _log.info("daemon.server.started", url=config.url, domain=config.domain, sandboxes=len(house.routes))
        successor = await _first(stop, succession.wait())
        if successor is not None:
            await _let_go(skins, front, owned, successor)
            await _first(stop, _drain(config, skins.door, successor, house.routes, predecessor))
        _log.info("daemon.server.stopping", sandboxes=len(house.routes))


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


async def _let_go(skins: Skins, front: TlsFront | None, owned: AsyncExitStack, successor: Successor) -> None:
    """The machine is the successor's afterwards; what is left here are open streams."""
    _log.info("daemon.server.handing_over")
    tls = await front.pass_on() if front is not None else []
    door = skins.door.pass_on()
    await skins.api.aclose()
    await owned.aclose()
    successor.give(door, tls)
    _log.info("daemon.server.handed_over", open_connections=skins.door.open_connections[0])


async def _drain(
    config: Config, door: FrontDoor, successor: Successor, routes: Routes, predecessor: Predecessor | None
) -> None:
    """Returns when the last stream has ended here and in a predecessor, or the successor has."""

    async def last_stream() -> None:
        # A stream ends with its sandbox at the latest; this is for streams to nowhere.
        await door.stop(config.max_timeout, patience=_LAST_REQUESTS)
        if predecessor is not None:
            await predecessor.wait_end()

    tasks = [asyncio.create_task(last_stream()), asyncio.create_task(successor.follow(routes))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        successor.close()


@contextlib.asynccontextmanager
async def open_skins(
    config: Config, house: House, listeners: Sequence[socket.socket] = ()
) -> AsyncGenerator[Skins]:
    """The API on its unix socket, and the front door that leads to it and to the sandboxes; ``listeners`` are
    those of a predecessor."""
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
        await api.enter_async_context(_api(app, api_socket))
        own_hosts = [config.host, config.domain, config.tls.domain]
        door = FrontDoor(house.routes, own_hosts, api_socket, house.sandboxes.wake)
        try:
            await door.start(config.host, config.port, listeners=listeners)
        except OSError as error:
            raise port_error(config.host, config.port, error) from error
        try:
            yield Skins(door, api)
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
async def _api(app: ASGIApp, path: Path) -> AsyncGenerator[None]:
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
            yield
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
