"""One nftables table of ours: what a sandbox may reach, and who may reach it.

The table's text is made purely from a :class:`Policy` and replaced in one transaction, so there is never a
moment without rules. It is named after the range: two servers with different ranges do not meet. Packets
are told apart by the group number of the host's end of each pair, which a guest cannot forge.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network

from atolld.model.errors import HostError

TABLE_PREFIX = "atoll_"

BLOCKED = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/4",
    "240.0.0.0/4",
)
"""Private, link-local (cloud metadata), shared, benchmark, multicast and reserved ranges."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """A destination that is open although a range it lies in is not. ``port`` ``None``: all of them."""

    network: IPv4Network
    port: int | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    network: IPv4Network
    """The sandboxes' range."""
    allowances: frozenset[Allowance] = frozenset()
    offline: frozenset[str] = frozenset()
    """Addresses of sandboxes without internet access."""


def table_name(network: IPv4Network) -> str:
    return f"{TABLE_PREFIX}{int(network.network_address):08x}_{network.prefixlen}"


def link_group(network: IPv4Network) -> int:
    """Number of the group that the host's ends of the range's pairs are in."""
    return int(network.network_address) >> 4 | 1


def build_table(policy: Policy) -> str:
    """The nft script that replaces the table."""
    name, group, network = table_name(policy.network), link_group(policy.network), policy.network
    everywhere = _set(str(a.network) for a in policy.allowances if a.port is None)
    ports = _set(f"{a.network} . {a.port}" for a in policy.allowances if a.port is not None)
    return f"""\
table inet {name}
delete table inet {name}
table inet {name} {{
  set offline {{ type ipv4_addr; {_set(policy.offline)} }}
  set blocked {{ type ipv4_addr; flags interval; auto-merge; {_set(BLOCKED)} }}
  set allowed {{ type ipv4_addr; flags interval; auto-merge; {everywhere} }}
  set allowed_ports {{ type ipv4_addr . inet_service; flags interval; {ports} }}

  chain forward {{
    type filter hook forward priority filter - 5; policy accept;
    iifgroup {group} jump from_sandbox
    oifgroup {group} ct state established,related accept
    oifgroup {group} drop
  }}
  chain from_sandbox {{
    jump check_sender
    ct state established,related accept
    ip daddr {network} jump refuse
    jump check_allowed
    ip daddr @blocked jump refuse
    accept
  }}
  chain check_sender {{
    meta nfproto != ipv4 drop
    fib saddr . iif oif missing drop
    ip saddr @offline jump refuse
  }}
  chain check_allowed {{
    ip daddr @allowed accept
    meta l4proto {{ tcp, udp }} ip daddr . th dport @allowed_ports accept
  }}
  chain refuse {{
    meta l4proto tcp reject with tcp reset
    reject with icmpx admin-prohibited
  }}
  chain input {{
    type filter hook input priority filter - 5; policy accept;
    iifgroup {group} jump to_host
  }}
  chain to_host {{
    ct direction reply ct state established,related accept
    jump check_sender
    jump check_allowed
    drop
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {network} oifgroup != {group} masquerade
  }}
}}
"""


def add_offline(network: IPv4Network, address: str) -> str:
    return f"add element inet {table_name(network)} offline {{ {address} }}\n"


def delete_offline(network: IPv4Network, address: str) -> str:
    return f"delete element inet {table_name(network)} offline {{ {address} }}\n"


def delete_table(network: IPv4Network) -> str:
    """Also when there is none."""
    return f"table inet {table_name(network)}\ndelete table inet {table_name(network)}\n"


async def apply(script: str) -> None:
    """Runs the script as one transaction. Raises :class:`HostError` with nft's words."""
    await _nft("-f", "-", script=script)


async def list_tables(network: IPv4Network) -> frozenset[str]:
    """Our table for the range, when there is one."""
    line = f"table inet {table_name(network)}"
    return frozenset(listed for listed in (await _nft("list", "tables")).splitlines() if listed == line)


async def list_offline(network: IPv4Network) -> frozenset[str]:
    """Addresses of the sandboxes without internet access, as the kernel has them."""
    printed = await _nft("list", "set", "inet", table_name(network), "offline")
    return frozenset(word.strip(",") for word in printed.split() if word[0].isdigit())


async def _nft(*arguments: str, script: str = "") -> str:
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            "nft", *arguments, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        )
    except FileNotFoundError:
        raise HostError("nft is missing; install the package nftables") from None
    try:
        printed, said = await process.communicate(script.encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise HostError(f"the packet rules were refused: {said.decode('utf-8', 'replace').strip()[:500]}")
    return printed.decode("utf-8", "replace")


def _set(elements: Iterable[str]) -> str:
    listed = ", ".join(sorted(elements))
    return f"elements = {{ {listed} }};" if listed else ""
