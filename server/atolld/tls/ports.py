"""May the https port be listened on? Asked before Caddy starts.

Caddy itself would share a taken port with whoever has it, and each would get some of the connections.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

from atolld.model.errors import HostError

_ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def usable_addresses(addresses: Sequence[str], port: int, *, ours: bool = False) -> Sequence[str]:
    """``addresses`` without ``::1`` on a machine that has no IPv6 beside an IPv4 address. ``ours``: the port
    may be taken, by a Caddy of ours.

    Raises :class:`HostError` when another program has the port, or when it is not ours to take.
    """
    usable: list[str] = []
    for address in addresses:
        try:
            _try_bind(address or "0.0.0.0", port)
        except OSError as error:
            if address == "::1" and usable and error.errno in _ABSENT:
                continue
            if ours and error.errno == errno.EADDRINUSE:
                usable.append(address)
                continue
            raise HostError(_why_not(address, port, error)) from error
        usable.append(address)
    return usable


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
