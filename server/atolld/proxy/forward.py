"""Heads as they are sent on: hop-by-hop headers end here, the rest stays as it came, names' case and order
included. Pure."""

from __future__ import annotations

from atoll_wire.hosts import ENVD_PORT
from atolld.proxy.heads import Headers, RequestHead, ResponseHead
from atolld.proxy.routing import ToSandbox

_HOP_BY_HOP = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade"))
_NEVER_DROPPED = frozenset((b"host", b"content-length", b"transfer-encoding"))
"""Naming one of these in Connection must not take it away; bodies keep their framing, so transfer-encoding
stays."""


def encode_request(
    head: RequestHead, *, forwarded: Headers, mask_host: bytes | None, upgrade: bytes | None
) -> bytes:
    """``forwarded`` replaces headers of its names; ``mask_host`` replaces the Host, which then goes into
    ``X-Forwarded-Host``."""
    replaced = {name.lower() for name, _ in forwarded}
    headers = [(k, v) for k, v in _end_to_end(head) if k.lower() not in replaced]
    if mask_host is not None:
        hidden = (b"host", b"x-forwarded-host")
        headers = [(k, v) for k, v in headers if k.lower() not in hidden]
        headers = [(b"Host", mask_host), *headers, (b"X-Forwarded-Host", head.host)]
    if b"trailers" in head.tokens(b"te"):
        headers.append((b"TE", b"trailers"))
    headers += forwarded
    headers += _connection(upgrade, close=head.version == "1.0")
    start = b"%s %s HTTP/%s\r\n" % (head.method, head.target, head.version.encode())
    return start + _encode(headers)


def encode_response(head: ResponseHead, *, close: bool, upgrade: bytes | None = None) -> bytes:
    headers = _end_to_end(head) + _connection(upgrade, close=close)
    return b"HTTP/1.1 %d %s\r\n" % (head.status, head.reason) + _encode(headers)


def wanted_upgrade(head: RequestHead, to: ToSandbox | None) -> bytes | None:
    """The protocol the client may change to. Never HTTP/2, whose requests we could not see, and never with
    envd, which has routes to protect."""
    if b"upgrade" not in head.tokens(b"connection") or (to is not None and to.port == ENVD_PORT):
        return None
    asked = b", ".join(head.values(b"upgrade"))
    return None if not asked or b"h2" in asked.lower() else asked


def forwarded_for(head: RequestHead, peer: str) -> Headers:
    """The API learns its client's address, after the ones it passed already."""
    hops = [*head.values(b"x-forwarded-for"), peer.encode()]
    return [(b"X-Forwarded-For", b", ".join(hops))]


def _end_to_end(head: RequestHead | ResponseHead) -> Headers:
    dropped = (_HOP_BY_HOP | head.tokens(b"connection")) - _NEVER_DROPPED
    return [(name, value) for name, value in head.headers if name.lower() not in dropped]


def _connection(upgrade: bytes | None, *, close: bool) -> Headers:
    if upgrade is not None:
        return [(b"Connection", b"Upgrade"), (b"Upgrade", upgrade)]
    return [(b"Connection", b"close")] if close else []


def _encode(headers: Headers) -> bytes:
    return b"".join(b"%s: %s\r\n" % header for header in headers) + b"\r\n"
