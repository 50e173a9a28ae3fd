"""The front door itself: what it is given, when it opens, and how it closes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
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
        self._listeners: list[asyncio.Server] = []
        self._connections: set[ClientConnection] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self.port = 0

    @property
    def open_connections(self) -> tuple[int, int]:
        """Clients' and upstreams', kept ones included."""
        return len(self._connections), self.pool.open_connections

    async def start(self, host: str, port: int, *, beside: bool = False) -> None:
        """Raises ``OSError`` when the port is taken; ``beside`` takes it together with the server it
        replaces."""
        loop = asyncio.get_running_loop()
        sockets = open_listeners(host, port, beside=beside)
        self.port = sockets[0].getsockname()[1]
        for listener in sockets:
            self._listeners.append(
                await loop.create_server(lambda: ClientConnection(self), sock=listener, backlog=1024)
            )

    async def stop(self, grace: float) -> None:
        """No new connection and no new request from now on; what is under way gets ``grace`` seconds to
        end."""
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
        to = routing.decide(head, self._own_hosts)
        if isinstance(to, Refusal):
            raise Refused(to)
        if isinstance(to, ToApi):
            return self._to_api
        if routing.is_reserved(to, head.target):
            raise Refused(errors.reserved_path(to.sandbox_id))
        route = self._routes.get(to.sandbox_id) or await self._woken(to.sandbox_id)
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
