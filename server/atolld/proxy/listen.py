"""The sockets the door listens on."""

from __future__ import annotations

import errno
import socket

_LOOPBACK_NAMES = frozenset(("localhost", "127.0.0.1", "::1"))
_BACKLOG = 1024


def open_listeners(host: str, port: int, *, beside: bool = False) -> list[socket.socket]:
    """Both loopback addresses for a loopback name (``*.localhost`` resolves to ``::1`` first), else the one
    of ``host``. ``port`` 0: any free one, the same on both.

    ``beside``: share the port with a server that is about to stop. Otherwise a taken port raises ``OSError``
    (``EADDRINUSE``), as do an address that is not this machine's and a port that is not ours to take.
    """
    if not beside and port:
        _check_free(host, port)
    hosts = ("127.0.0.1", "::1") if host in _LOOPBACK_NAMES else (host,)
    opened: list[socket.socket] = []
    try:
        for address in hosts:
            listener = _listen(address, port, optional=address == "::1" and host != "::1")
            if listener is not None:
                opened.append(listener)
                port = listener.getsockname()[1]
    except BaseException:
        for listener in opened:
            listener.close()
        raise
    return opened


def _listen(address: str, port: int, *, optional: bool) -> socket.socket | None:
    try:
        listener = _bind(address, port, shared=True)
    except OSError as error:
        if optional and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            return None  # a machine without IPv6
        raise
    listener.listen(_BACKLOG)
    return listener


def _check_free(host: str, port: int) -> None:
    """SO_REUSEPORT alone would let a second server take half of the first one's connections."""
    for address in ("127.0.0.1",) if host in _LOOPBACK_NAMES else (host,):
        _bind(address, port, shared=False).close()


def _bind(address: str, port: int, *, shared: bool) -> socket.socket:
    family, _, _, _, where = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted connections inherit it. asyncio sets it only on sockets that were made with a protocol;
        # without it an answer's end waits 40 ms for the client to acknowledge what came before.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(where[0] != "::"))
        listener.bind(where)
    except BaseException:
        listener.close()
        raise
    return listener
