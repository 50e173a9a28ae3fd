"""Connections to the services behind the door, kept alive between requests.

A connection is kept for one destination, the sandbox's id included: an address that is leased again never
inherits another sandbox's connections. When a sandbox moves or ends, all its connections are cut, busy ones
too.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections import defaultdict
from dataclasses import dataclass

from atoll_wire.hosts import ENVD_PORT
from atolld.model.routes import Routes
from atolld.model.sandbox import SandboxId
from atolld.proxy import errors
from atolld.proxy.errors import Refused
from atolld.proxy.inside import open_inside
from atolld.proxy.relay import Side

CONNECT_SECONDS = 5.0
IDLE_SECONDS = 1.5
"""Shorter than what common servers wait (gunicorn 2 s, uvicorn and node 5 s): a connection is hardly ever
found closed by its server at the moment a request is sent on it."""
IDLE_PER_DESTINATION = 32

_OUR_LIMITS = (errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM)


@dataclass(frozen=True, slots=True)
class Destination:
    """A port of a sandbox at its ``address``; without a sandbox, the API's unix socket at that path or, with
    a port, another server."""

    sandbox_id: SandboxId | None
    address: str
    port: int = 0
    tls: bool = False


class Upstream(Side):
    def __init__(self, pool: Pool, destination: Destination) -> None:
        super().__init__()
        self.destination = destination
        self.waiting: asyncio.TimerHandle | None = None
        """Set while it is kept for the next request."""
        self._pool = pool

    def data_received(self, data: bytes) -> None:
        if self.waiting is not None:
            self.abort()  # an answer that nobody asked for
        else:
            super().data_received(data)

    def eof_received(self) -> bool:
        open_still = super().eof_received()
        if self.waiting is not None:
            self.abort()
        return open_still

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.closed(self)
        super().connection_lost(exc)


class Pool:
    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._kept: dict[Destination, list[Upstream]] = {}
        self._open: defaultdict[SandboxId | None, set[Upstream]] = defaultdict(set)
        self._attempts: defaultdict[SandboxId | None, set[asyncio.Task[Upstream]]] = defaultdict(set)
        self._tls = _unverified()
        routes.watch(self.cut)

    @property
    def open_connections(self) -> int:
        return sum(map(len, self._open.values()))

    def take(self, destination: Destination) -> Upstream | None:
        """A kept connection, the one used last."""
        kept = self._kept.get(destination, [])
        while kept:
            upstream = kept.pop()
            self._stop_waiting(upstream)
            if not upstream.eof and not upstream.transport.is_closing():
                return upstream
        return None

    def keep(self, upstream: Upstream) -> None:
        """For the next request; its last answer is complete and nothing is left unread."""
        kept = self._kept.setdefault(upstream.destination, [])
        if len(kept) >= IDLE_PER_DESTINATION or not self.is_current(upstream.destination):
            upstream.close()
            return
        upstream.waiting = asyncio.get_running_loop().call_later(IDLE_SECONDS, upstream.close)
        kept.append(upstream)

    async def connect(self, destination: Destination) -> Upstream:
        """Raises :class:`Refused` with what to tell the client."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                upstream = await self._attempt(destination)
        except (OSError, TimeoutError) as error:
            raise Refused(self._failure(destination, error)) from error
        if not self.is_current(destination):  # the sandbox went while we connected to what was its address
            upstream.abort()
            raise Refused(errors.sandbox_not_found(str(destination.sandbox_id)))
        if not upstream.lost:
            self._open[destination.sandbox_id].add(upstream)
        return upstream

    def cut(self, sandbox_id: SandboxId | None) -> None:
        """Close every connection to the sandbox (``None``: the API) at once."""
        for upstream in tuple(self._open.get(sandbox_id, ())):
            upstream.abort()
        for attempt in tuple(self._attempts.get(sandbox_id, ())):
            attempt.cancel()

    def close(self) -> None:
        for sandbox_id in tuple(self._open):
            self.cut(sandbox_id)

    def closed(self, upstream: Upstream) -> None:
        kept = self._kept.get(upstream.destination, [])
        if upstream in kept:
            kept.remove(upstream)
        if not kept:
            self._kept.pop(upstream.destination, None)
        self._stop_waiting(upstream)
        ours = self._open[upstream.destination.sandbox_id]
        ours.discard(upstream)
        if not ours:
            del self._open[upstream.destination.sandbox_id]

    async def _attempt(self, to: Destination) -> Upstream:
        """Given up as soon as the sandbox goes: nobody would answer at its address any more."""
        attempt = asyncio.create_task(self._connect(to))
        self._attempts[to.sandbox_id].add(attempt)
        try:
            return await attempt
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if caller is not None and caller.cancelling():
                raise
            raise Refused(errors.sandbox_not_found(str(to.sandbox_id))) from None
        finally:
            self._attempts[to.sandbox_id].discard(attempt)
            if not self._attempts[to.sandbox_id]:
                del self._attempts[to.sandbox_id]

    async def _connect(self, to: Destination) -> Upstream:
        loop = asyncio.get_running_loop()
        tls = self._tls if to.tls else None
        if not to.port:
            _, upstream = await loop.create_unix_connection(lambda: Upstream(self, to), to.address)
            return upstream
        try:
            _, upstream = await loop.create_connection(
                lambda: Upstream(self, to), to.address, to.port, ssl=tls
            )
        except ConnectionRefusedError:
            route = None if to.sandbox_id is None else self._routes.get(to.sandbox_id)
            if route is None or to.port == ENVD_PORT:
                raise
            return await open_inside(lambda: Upstream(self, to), to.address, to.port, route.envd_token, tls)
        return upstream

    def is_current(self, destination: Destination) -> bool:
        if destination.sandbox_id is None:
            return True
        route = self._routes.get(destination.sandbox_id)
        return route is not None and route.address == destination.address

    def _failure(self, to: Destination, error: Exception) -> errors.Refusal:
        if isinstance(error, OSError) and error.errno in _OUR_LIMITS:
            return errors.BUSY
        if to.sandbox_id is None:
            return errors.API_DOWN
        if not self.is_current(to):
            return errors.sandbox_not_found(to.sandbox_id)
        if isinstance(error, ssl.SSLError):
            return errors.service_failed(to.sandbox_id, to.port, "does not speak TLS on this port")
        return errors.port_closed(to.sandbox_id, to.port)

    def _stop_waiting(self, upstream: Upstream) -> None:
        if upstream.waiting is not None:
            upstream.waiting.cancel()
            upstream.waiting = None


def _unverified() -> ssl.SSLContext:
    """A sandbox's service has a certificate that nobody signed; the way to it does not leave this machine."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
