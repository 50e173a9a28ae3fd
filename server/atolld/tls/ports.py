"""The https port: may it be listened on, and the sockets that do.

They are ours and only lent to Caddy. Caddy itself would share a taken port with whoever has it, each getting
some of the connections; and connections that come while a Caddy replaces another wait instead of failing.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

from atolld.model.errors import HostError

_ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def usable_addresses(addresses: Sequence[str], port: int) -> Sequence[str]:
    """``addresses`` without ``::1`` on a machine that has no IPv6 beside an IPv4 address.

    Raises :class:`HostError` when another program has the port, or when it is not ours to take.
    """
    usable: list[str] = []
    for address in addresses:
        try:
            _try_bind(address or "0.0.0.0", port)
        except OSError as error:
            if address == "::1" and usable and error.errno in _ABSENT:
                continue
            raise HostError(_why_not(address, port, error)) from error
        usable.append(address)
    return usable


def open_listeners(addresses: Sequence[str], port: int) -> list[socket.socket]:
    """One for each of ``addresses`` (empty: all of the machine, IPv6 included where there is any). Raises
    :class:`HostError` as :func:`usable_addresses` does."""
    opened: list[socket.socket] = []
    try:
        # A loop, so that what is open already is closed when the next fails.
        for address in usable_addresses(addresses, port):
            opened.append(_listen(address, port))  # noqa: PERF401
    except BaseException as error:
        for listener in opened:
            listener.close()
        if isinstance(error, OSError):
            raise HostError(_why_not("", port, error)) from error
        raise
    return opened


def _listen(address: str, port: int) -> socket.socket:
    if address == "" and socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, backlog=1024, dualstack_ipv6=True)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, port), family=family, backlog=1024)


def _try_bind(address: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((address, port))


def _why_not(address: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"the https port {port} is taken: end what listens there, or choose another (--tls-port)"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"the https port {port} may not be taken by this user: run as root, or choose one above 1023"
    return f"nothing can listen on {address}:{port} ({error.strerror}): correct ATOLL_TLS_HOST"
