"""The front door itself: what it is given, when it opens, and how it closes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path

from atolld.model.errors import AtollError
from atolld.model.routes import Route, Routes
from atolld.model.sandbox import SandboxId
from atolld.proxy import errors, routing
from atolld.proxy.connection import ClientConnection
from atolld.proxy.errors import Refusal, Refused
from atolld.proxy.exchange import Way
from atolld.proxy.heads import RequestHead
from atolld.proxy.listen import open_listeners
from atolld.proxy.routing import ToApi, ToSandbox
from atolld.proxy.upstream import Destination, Pool

_log = logging.getLogger(__name__)

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where a listener on all addresses is reached from here."""

Wake = Callable[[SandboxId], Awaitable[Route | None]]
"""Resumes a sandbox that sleeps and publishes its route; ``None`` when there is no such sandbox. An
:class:`AtollError` says why it stays asleep."""


class FrontDoor:
    """One port for the API (a server on the unix socket ``api_socket``) and all sandboxes (``routes``).

    ``own_hosts`` are the host names we ourselves are reached by, where the routing headers count."""

    def __init__(
        self, routes: Routes, own_hosts: Collection[str], api_socket: Path, wake: Wake | None = None
    ) -> None:
        self.pool = Pool(routes)
        self.stopping = False
        self._routes = routes
        self._own_hosts = routing.host_names(own_hosts)
        self._to_api = Way(Destination(None, str(api_socket)))
        self._wake = wake
        self._waking: dict[SandboxId, asyncio.Task[Route | None]] = {}
        self._successor: Way | None = None
        self._listeners: list[asyncio.Server] = []
        self._sockets: Sequence[socket.socket] = ()
        self._connections: set[ClientConnection] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self.port = 0

    @property
    def open_connections(self) -> tuple[int, int]:
        """Clients' and upstreams', kept ones included."""
        return len(self._connections), self.pool.open_connections

    @property
    def keeps_connections(self) -> bool:
        """Whether a client's connection may be used for another request."""
        return not self.stopping and self._successor is None

    async def start(
        self, host: str, port: int, *, beside: bool = False, listeners: Sequence[socket.socket] = ()
    ) -> None:
        """Raises ``OSError`` when the port is taken; ``beside`` takes it together with another server,
        ``listeners`` are those of a predecessor, whose port is taken over."""
        loop = asyncio.get_running_loop()
        self._sockets = listeners or open_listeners(host, port, beside=beside)
        self.port = self._sockets[0].getsockname()[1]
        for listener in self._sockets:
            self._listeners.append(
                await loop.create_server(lambda: ClientConnection(self), sock=listener, backlog=1024)
            )

    def pass_on(self) -> list[socket.socket]:
        """The listening sockets, for a successor in another process; the caller closes them.

        What is under way goes on. Every open connection may send one more request, which is sent on to the
        successor: none is closed at the moment its client writes. Whoever connects waits until the successor
        accepts."""
        passed = [listener.dup() for listener in self._sockets]
        address: str = passed[0].getsockname()[0]
        self._successor = Way(Destination(None, _LOOPBACK.get(address, address), self.port))
        for listener in self._listeners:
            listener.close()
        return passed

    async def wait_woken(self) -> None:
        """Returns when every wake that has begun is over."""
        while self._waking:
            await asyncio.wait(tuple(self._waking.values()))

    async def stop(self, grace: float, *, patience: float = 0.0) -> None:
        """No new connection from now on, and after ``patience`` seconds no new request; what is under way
        then gets ``grace`` seconds to end."""
        if patience:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._empty.wait()
        self.stopping = True
        for listener in self._listeners:
            listener.close()
        for connection in tuple(self._connections):
            connection.retire()
        try:
            async with asyncio.timeout(grace):
                await self._empty.wait()
        except TimeoutError:
            for connection in tuple(self._connections):
                connection.abort()
            await self._empty.wait()
        self.pool.close()

    def joined(self, connection: ClientConnection) -> None:
        self._connections.add(connection)
        self._empty.clear()

    def left(self, connection: ClientConnection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    async def find_way(self, head: RequestHead) -> Way:
        """Raises :class:`Refused`."""
        if self._successor is not None:
            return self._successor
        to = routing.decide(head, self._own_hosts)
        if isinstance(to, Refusal):
            raise Refused(to)
        if isinstance(to, ToApi):
            return self._to_api
        if routing.is_reserved(to, head.target):
            raise Refused(errors.reserved_path(to.sandbox_id))
        route = self._routes.get(to.sandbox_id)
        if route is None:
            asleep = self._routes.asleep(to.sandbox_id)
            if asleep is not None and (refusal := routing.may_wake(to, head, asleep)):
                raise Refused(refusal)
            route = await self._woken(to.sandbox_id)
        if refusal := routing.admit(to, head, route):
            raise Refused(refusal)
        return _way(to, route)

    async def _woken(self, sandbox_id: SandboxId) -> Route:
        """One wake per sandbox however many ask; it goes on when those who asked have left."""
        if self._wake is None:
            raise Refused(errors.sandbox_not_found(sandbox_id))
        task = self._waking.get(sandbox_id)
        if task is None:
            task = asyncio.ensure_future(self._wake(sandbox_id))
            self._waking[sandbox_id] = task
            task.add_done_callback(lambda _: self._waking.pop(sandbox_id))
        try:
            route = await asyncio.shield(task)
        except AtollError as error:
            raise Refused(Refusal(error.code, error.message, sandbox_id)) from error
        except Exception as error:
            _log.exception("a sandbox was not resumed: %s", sandbox_id)
            raise Refused(errors.not_woken(sandbox_id)) from error
        if route is None:
            raise Refused(errors.sandbox_not_found(sandbox_id))
        return route


def _way(to: ToSandbox, route: Route) -> Way:
    mask = route.mask_host
    return Way(
        Destination(to.sandbox_id, route.address, to.port, tls=to.port in route.https_ports),
        to,
        None if mask is None else mask.replace("${PORT}", str(to.port)).encode(),
    )
