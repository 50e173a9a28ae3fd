"""One request and its answer: find out who gets it, send it on, bring back what comes.

Both bodies move at the same time; an answer may come, and end, before the request has been sent whole.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from atolld.proxy import errors, forward
from atolld.proxy.errors import Refused
from atolld.proxy.framing import Framing, UntilClose, response_framing
from atolld.proxy.heads import BadHead, Headers, RequestHead, ResponseHead, parse_response
from atolld.proxy.relay import HeadTooLarge, Outcome, Pour, Side
from atolld.proxy.routing import ToSandbox
from atolld.proxy.upgrade import run_tunnel
from atolld.proxy.upstream import Destination, Pool, Upstream

_REPEATABLE = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))
"""Methods that may reach a service twice (RFC 9110 §9.2.2)."""


@dataclass(frozen=True, slots=True)
class Way:
    """Where a request goes, and as what. ``to`` is ``None`` for the API."""

    destination: Destination
    to: ToSandbox | None = None
    mask_host: bytes | None = None


FindWay = Callable[[RequestHead], Awaitable[Way]]
"""Raises :class:`Refused`."""


class _Unanswered(Exception):
    """The upstream closed the connection before a byte of its answer."""


class Exchange:
    def __init__(self, client: Side, peer: str, head: RequestHead, body: Framing, pool: Pool) -> None:
        self._client = client
        self._peer = peer
        self._head = head
        self._body = body
        self._pool = pool
        self._upstream: Upstream | None = None
        self._sent: Pour | None = None

    async def run(self, find_way: FindWay, may_keep: Callable[[], bool]) -> bool:
        """Whether the client's connection can take another request. Cancelled: the upstream's is cut at once.
        Raises :class:`Refused` while the client has seen nothing of an answer."""
        way = await find_way(self._head)
        try:
            answer = await self._ask(way)
            return await self._relay(way, answer, may_keep)
        finally:
            if self._upstream is not None:
                self._upstream.abort()

    @property
    def is_sent(self) -> bool:
        """Whether the request's body came, and left, whole."""
        return self._sent is not None and self._sent.done.done() and self._sent.done.result() is Outcome.WHOLE

    def client_ended(self) -> None:
        """The client sends no more. It may wait for the answer or be gone: the service gets to know and
        decides, as it would without us between."""
        if self._upstream is not None and self.is_sent and not self._client.held:
            self._upstream.half_close()
            self._upstream.cut_when_quiet()

    async def _ask(self, way: Way) -> ResponseHead:
        kept = self._pool.take(way.destination)
        if kept is not None:
            try:
                return await self._ask_on(kept, way)
            except _Unanswered:
                if not self._may_repeat():
                    raise Refused(self._failure(way, "closed the connection without an answer")) from None
        try:
            return await self._ask_on(await self._pool.connect(way.destination), way)
        except _Unanswered:
            raise Refused(self._failure(way, "closed the connection without an answer")) from None

    def _may_repeat(self) -> bool:
        """A kept connection may be one that its server was just closing; what it has not read can be sent
        again."""
        return self._sent is not None and not self._sent.begun and self._head.method in _REPEATABLE

    async def _ask_on(self, upstream: Upstream, way: Way) -> ResponseHead:
        self._upstream = upstream
        self._sent = Pour(self._client, upstream, self._body, self._encode(way))
        self._sent.done.add_done_callback(lambda _: self._request_ended(upstream))
        try:
            while True:
                head = await self._read_answer(upstream, way)
                if head.status >= 200 or head.status == 101:
                    return head
                if self._head.version != "1.0":
                    self._client.write(forward.encode_response(head, close=False))
        except BaseException:
            self._sent.detach()
            upstream.abort()
            raise

    def _encode(self, way: Way) -> bytes:
        forwarded: Headers = [] if way.to is not None else forward.forwarded_for(self._head, self._peer)
        upgrade = forward.wanted_upgrade(self._head, way.to)
        return forward.encode_request(
            self._head, forwarded=forwarded, mask_host=way.mask_host, upgrade=upgrade
        )

    def _request_ended(self, upstream: Upstream) -> None:
        if not self.is_sent:
            upstream.abort()  # half a request: the service must not take it for a whole one
        elif self._client.eof:
            self.client_ended()

    async def _read_answer(self, upstream: Upstream, way: Way) -> ResponseHead:
        try:
            raw = await upstream.read_head()
            if raw is not None:
                return parse_response(raw)
        except HeadTooLarge:
            raise Refused(self._failure(way, "answered with headers larger than 64 KiB")) from None
        except BadHead as bad:
            raise Refused(self._failure(way, f"answered with no HTTP/1.1 ({bad.message})")) from bad
        if self._sent is not None and self._sent.done.done() and not self.is_sent:
            raise Refused(errors.BAD_BODY)
        if upstream.held:
            raise Refused(self._failure(way, "closed the connection within the head of its answer"))
        raise _Unanswered

    async def _relay(self, way: Way, answer: ResponseHead, may_keep: Callable[[], bool]) -> bool:
        assert self._upstream is not None
        if answer.status == 101:
            await self._tunnel(way, answer, self._upstream)
            return False
        try:
            body = response_framing(answer, self._head.method)
        except BadHead as bad:
            raise Refused(self._failure(way, f"answered with no HTTP/1.1 ({bad.message})")) from bad
        keep = self._head.keep_alive and may_keep() and not isinstance(body, UntilClose)
        lead = forward.encode_response(answer, close=not keep)
        outcome = await Pour(self._upstream, self._client, body, lead).done
        if outcome is Outcome.WHOLE:
            self._release(answer, body, self._upstream)
        elif isinstance(body, UntilClose):
            self._client.abort()  # only a broken connection tells this client that the end is missing
        return keep and outcome is Outcome.WHOLE and self.is_sent

    async def _tunnel(self, way: Way, answer: ResponseHead, upstream: Upstream) -> None:
        if forward.wanted_upgrade(self._head, way.to) is None or not self.is_sent:
            raise Refused(self._failure(way, "changed to a protocol that was not asked for"))
        chosen = b", ".join(answer.values(b"upgrade"))
        await run_tunnel(self._client, upstream, forward.encode_response(answer, close=False, upgrade=chosen))
        upstream.close()
        self._upstream = None

    def _release(self, answer: ResponseHead, body: Framing, upstream: Upstream) -> None:
        self._upstream = None
        reusable = answer.keep_alive and self._head.version == "1.1" and not isinstance(body, UntilClose)
        spent = upstream.held or upstream.eof or upstream.half_closed or not self.is_sent
        if reusable and not spent:
            self._pool.keep(upstream)
        else:
            upstream.abort()

    def _failure(self, way: Way, what: str) -> errors.Refusal:
        if way.to is None:
            return errors.API_DOWN
        if not self._pool.is_current(way.destination):
            return errors.sandbox_not_found(way.to.sandbox_id)
        return errors.service_failed(way.to.sandbox_id, way.to.port, what)
