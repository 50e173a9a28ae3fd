"""The server: one process, one event loop, one port.

Start: lock, store, node, sandboxes (what the last server left), the API on its unix socket, the port,
last https before it.
Stop (SIGTERM, SIGINT): the reverse. Sandboxes go on; the next server adopts them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack
from pathlib import Path

import structlog
import uvicorn
from starlette.types import ASGIApp

from atolld.api import build_app
from atolld.config import Config
from atolld.daemon.lock import hold_machine
from atolld.daemon.parts import House, open_house
from atolld.daemon.ports import check_port, port_error
from atolld.model.errors import HostError
from atolld.proxy import FrontDoor
from atolld.telemetry import SANDBOXES_RUNNING, configure_logs
from atolld.tls import open_front

_log = structlog.get_logger(__name__)

_GRACE = 5.0
"""Seconds that requests under way have to end when the server stops."""


def serve(config: Config) -> None:
    """Runs until a signal. Raises an :class:`~atolld.model.errors.AtollError` when it cannot start."""
    if os.geteuid() != 0:
        raise HostError("the server makes network namespaces and cgroups, which needs root: run it with sudo")
    os.umask(0o022)
    configure_logs()
    with hold_machine(config.home, "server", config.url):
        check_port(config.host, config.port)
        # Not uvloop: it cannot open the netlink sockets of pyroute2.
        asyncio.run(_serve(config))


async def _serve(config: Config) -> None:
    stop = _stop_on_signals()
    async with AsyncExitStack() as stack:
        house = await stack.enter_async_context(open_house(config))
        await house.sandboxes.open()
        await stack.enter_async_context(open_skins(config, house))
        await stack.enter_async_context(_https(config))
        _log.info("daemon.server.started", url=config.url, domain=config.domain, sandboxes=len(house.routes))
        await stop.wait()
        _log.info("daemon.server.stopping", sandboxes=len(house.routes))


@contextlib.asynccontextmanager
async def open_skins(config: Config, house: House) -> AsyncGenerator[FrontDoor]:
    """The API on its unix socket, and the front door that leads to it and to the sandboxes."""
    SANDBOXES_RUNNING.set_function(lambda: len(house.routes))
    app = build_app(
        sandboxes=house.sandboxes,
        templates=house.templates,
        keys=house.keys,
        domain=config.domain,
        https_domain=config.tls.domain,
    )
    api_socket = config.home / "run" / "api.sock"
    async with _api(app, api_socket):
        door = FrontDoor(house.routes, [config.host, config.domain, config.tls.domain], api_socket)
        try:
            await door.start(config.host, config.port)
        except OSError as error:
            raise port_error(config.host, config.port, error) from error
        try:
            yield door
        finally:
            await door.stop(_GRACE)


@contextlib.asynccontextmanager
async def _https(config: Config) -> AsyncGenerator[None]:
    """https before the front door, where it is wanted and this machine can."""
    front = await open_front(config)
    try:
        yield
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
