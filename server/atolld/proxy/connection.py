"""A client's connection: its requests one after the other, each decided by itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import Protocol, cast

from atolld.proxy import errors
from atolld.proxy.errors import Refusal, Refused, encode_refusal
from atolld.proxy.exchange import Exchange, Way
from atolld.proxy.framing import BadFraming, Framing, request_framing
from atolld.proxy.heads import BadHead, RequestHead, parse_request
from atolld.proxy.relay import HeadTooLarge, Side
from atolld.proxy.upstream import Pool

IDLE_SECONDS = 620.0
"""How long a connection may wait for its next request."""
HEAD_SECONDS = 60.0
"""How long a request's head may take once it has begun."""
LINGER_SECONDS = 2.0
"""How long we read on after refusing a body, lest the reset that unread bytes cause takes the answer with
it."""

_log = logging.getLogger(__name__)


class House(Protocol):
    """What connections share."""

    pool: Pool
    stopping: bool

    @property
    def keeps_connections(self) -> bool: ...

    async def find_way(self, head: RequestHead) -> Way:
        """Raises :class:`Refused`."""
        ...

    def joined(self, connection: ClientConnection) -> None: ...

    def left(self, connection: ClientConnection) -> None: ...


class ClientConnection(Side):
    def __init__(self, house: House) -> None:
        super().__init__()
        self._house = house
        self._exchange: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._between_requests = True
        self._unread = False
        """The client may still be sending what we take no more."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        _notice_dead_peers(transport)
        self._house.joined(self)
        self._task = self._loop.create_task(self._serve())

    def eof_received(self) -> bool:
        open_still = super().eof_received()
        if self._exchange is not None:
            self._exchange.client_ended()
        return open_still

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._task is not None:
            self._task.cancel()
        self._house.left(self)

    def retire(self) -> None:
        """The house stops: no further request; one that is under way may end."""
        if self._between_requests and not self.held:
            self.close()

    async def _serve(self) -> None:
        try:
            while await self._serve_one():
                await self.wait_drained()
            if self._unread or self.held:
                await self._linger()
        except Exception:
            _log.exception("the front door failed at a request; its connection is closed")
        finally:
            self.close()

    async def _serve_one(self) -> bool:
        """One request and its answer. Whether there may be another."""
        head: RequestHead | None = None
        body: Framing | None = None
        try:
            raw = await self._next_head()
            if raw is None:
                return False
            head = parse_request(raw)
            body = request_framing(head)
            return await self._exchange_for(head, body)
        except BadHead as bad:
            return self._refuse(Refusal(bad.status, bad.message, text=True), head, None)
        except HeadTooLarge:
            return self._refuse(errors.HEAD_TOO_LARGE, None, None)
        except Refused as refused:
            return self._refuse(refused.refusal, head, body)

    async def _next_head(self) -> bytes | None:
        self._between_requests = True
        if self._house.stopping and not self.held:
            return None
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                while not self.held and not self.eof:
                    await self.wait_more()
        except TimeoutError:
            return None
        self._between_requests = False
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                return await self.read_head()
        except TimeoutError:
            raise Refused(errors.STALLED) from None

    async def _exchange_for(self, head: RequestHead, body: Framing) -> bool:
        peer = cast(tuple[str, int] | None, self.transport.get_extra_info("peername"))
        exchange = Exchange(self, peer[0] if peer else "", head, body, self._house.pool)
        self._exchange = exchange
        try:
            return await exchange.run(self._house.find_way, lambda: self._house.keeps_connections)
        finally:
            self._exchange = None
            self._unread = not exchange.is_sent

    def _refuse(self, refusal: Refusal, head: RequestHead | None, body: Framing | None) -> bool:
        self._unread = not self._skip(body)
        keep = not self._unread and head is not None and head.keep_alive and self._house.keeps_connections
        self.write(encode_refusal(refusal, head, close=not keep))
        return keep

    def _skip(self, body: Framing | None) -> bool:
        """Pass over the refused body, if it is here already."""
        if body is None:
            return False
        with contextlib.suppress(BadFraming):
            del self.held[: body.take(bytes(self.held))]
            self.regulate()
        return body.done

    async def _linger(self) -> None:
        if self.eof:
            return
        self.half_close()
        self.deafen()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while not self.eof:
                    await self.wait_more()


def _notice_dead_peers(transport: asyncio.BaseTransport) -> None:
    """A client whose machine or network is gone, found within two minutes on a stream that is silent by
    nature."""
    peer = cast(socket.socket | None, transport.get_extra_info("socket"))
    if peer is None or peer.family not in (socket.AF_INET, socket.AF_INET6):
        return
    for option, value in (
        (socket.TCP_KEEPIDLE, 60),
        (socket.TCP_KEEPINTVL, 15),
        (socket.TCP_KEEPCNT, 4),
    ):
        peer.setsockopt(socket.IPPROTO_TCP, option, value)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
