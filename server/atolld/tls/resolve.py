"""Does a name below the domain lead to this machine?"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from atolld.tls.names import is_local

Lookup = Callable[[str], Awaitable[Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a made-up host name below a domain led to."""

    host: str
    addresses: Sequence[str]
    where: Literal["here", "elsewhere", "nowhere"]
    advice: str
    """What to do about it; empty when there is nothing to do."""

    @property
    def is_ours(self) -> bool:
        return self.where == "here"


async def resolves_to_us(domain: str, look_up: Lookup | None = None) -> Resolution:
    """``domain`` may end with a port. Never raises for a name that does not resolve."""
    name = domain.partition(":")[0]
    host = f"49983-check{secrets.token_hex(4)}.{name}"
    addresses = await (look_up or _look_up)(host)
    if not addresses:
        return Resolution(host, addresses, "nowhere", _missing(name))
    strangers = [address for address in addresses if not _is_of_this_machine(address)]
    if strangers:
        return Resolution(host, addresses, "elsewhere", _stray(name, strangers))
    return Resolution(host, addresses, "here", "")


async def _look_up(host: str) -> Sequence[str]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, 443, type=socket.SOCK_STREAM)
    except socket.gaierror:
        return ()
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _is_of_this_machine(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def _missing(name: str) -> str:
    if is_local(name):
        return (
            f"this machine's resolver does not know names below {name}: install libnss-myhostname "
            "(apt-get install libnss-myhostname), or add myhostname before dns to the line `hosts:` of "
            "/etc/nsswitch.conf where systemd brings the module"
        )
    return (
        f"add to the DNS zone of {name} two records that lead here: `{name}. A <address>` and "
        f"`*.{name}. A <address>` (AAAA for IPv6)"
    )


def _stray(name: str, strangers: Sequence[str]) -> str:
    return (
        f"names below {name} lead to {', '.join(strangers)}, which is no address of this machine: right "
        f"behind a NAT or a load balancer that passes it on, else correct the records {name} and *.{name}"
    )
