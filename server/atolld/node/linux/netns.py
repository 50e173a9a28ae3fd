"""A sandbox's network: a namespace without a name, and a veth pair that joins it to the host.

The namespace lives by a descriptor we hold and, later, by the container's process: when both are gone the
kernel removes it and the pair, so a server that dies leaves nothing. Inside, the interface has no address:
all frames go to gVisor's own stack through a packet socket. Every pair uses the same two MAC addresses,
which a snapshot therefore may remember; a fixed neighbour entry on either side saves ARP.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import pyroute2  # pyright: ignore[reportMissingTypeStubs]
from pyroute2 import NetlinkError  # pyright: ignore[reportMissingTypeStubs]

from atolld.model.errors import HostError

GUEST_INTERFACE = "eth0"
GATEWAY_MAC = bytes.fromhex("02a701000001")
GUEST_MAC = bytes.fromhex("02a701000002")

LINK_PREFIX = "at-"
"""Of the host's ends."""

_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_ETH_P_ALL = 3
_SOL_PACKET, _PACKET_VNET_HDR = 263, 15
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_PACKET_BUFFER = 4 << 20
_NUD_PERMANENT = 0x80
_ROUTE_UNREACHABLE = 7
_HOLD_HANDLE, _TC_ROOT = 0x10000, 0xFFFFFFFF

_libc = ctypes.CDLL(None, use_errno=True)
_T = TypeVar("_T")


class Netlink(Protocol):
    """The part of pyroute2's AsyncIPRoute we use, which has no types of its own."""

    async def link(self, command: str, **arguments: Any) -> Any: ...
    async def addr(self, command: str, **arguments: Any) -> Any: ...
    async def neigh(self, command: str, **arguments: Any) -> Any: ...
    async def tc(self, command: str, *positional: Any, **arguments: Any) -> Any: ...
    async def route(self, command: str, **arguments: Any) -> Any: ...
    def close(self) -> None: ...


def open_netlink() -> Netlink:
    """A connection to the kernel's network configuration; needs a running event loop."""
    return cast(Netlink, pyroute2.AsyncIPRoute())


@dataclass(frozen=True, slots=True)
class Namespace:
    """``descriptor`` is closed by :meth:`close`; then the namespace lives as long as a process is in it."""

    descriptor: int

    @property
    def path(self) -> str:
        return f"/proc/{os.getpid()}/fd/{self.descriptor}"

    def close(self) -> None:
        os.close(self.descriptor)


def create_namespace() -> Namespace:
    """A new, empty network namespace. Blocks some milliseconds."""
    return Namespace(_in_new_thread(_unshare))


def set_up_inside(namespace: Namespace) -> None:
    """Loopback and the guest's end of the pair up, IPv6 off."""

    def act() -> None:
        _enter(namespace)
        _disable_ipv6("all")
        _set_up("lo")
        _set_up(GUEST_INTERFACE)

    _in_new_thread(act)


def open_packet_socket(namespace: Namespace) -> int:
    """A socket that carries the guest's frames, as gVisor makes it itself (`runsc/sandbox/network.go`)."""

    def act() -> int:
        _enter(namespace)
        # Protocol 0 first and all protocols by bind: binding a socket that receives already is slow.
        with contextlib.ExitStack() as stack:
            packet = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
            packet.bind((GUEST_INTERFACE, _ETH_P_ALL))
            packet.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
            packet.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _PACKET_BUFFER)
            packet.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _PACKET_BUFFER)
            stack.pop_all()
            return packet.detach()

    return _in_new_thread(act)


async def create_pair(
    netlink: Netlink,
    namespace: Namespace,
    host_name: str,
    gateway: IPv4Interface,
    *,
    mtu: int,
    group: int,
    owner: str,
) -> None:
    """The veth pair: ``host_name`` here with the ``gateway`` address, ``eth0`` in the namespace.

    ``owner`` is written on it for whoever finds it, see :func:`read_owner`.
    """
    peer = {
        "ifname": GUEST_INTERFACE,
        "net_ns_fd": namespace.descriptor,
        "address": _mac(GUEST_MAC),
        "mtu": mtu,
    }
    try:
        await netlink.link(
            "add", ifname=host_name, kind="veth", peer=peer, address=_mac(GATEWAY_MAC), mtu=mtu, group=group
        )
        await asyncio.to_thread(_disable_ipv6, host_name)
        await asyncio.to_thread(_alias(host_name).write_text, owner)
        index = socket.if_nametoindex(host_name)
        await netlink.addr("add", index=index, address=str(gateway.ip), prefixlen=gateway.network.prefixlen)
        await netlink.link("set", index=index, state="up")
        await netlink.neigh(
            "replace", dst=str(gateway.ip + 1), lladdr=_mac(GUEST_MAC), ifindex=index, state=_NUD_PERMANENT
        )
    except (NetlinkError, OSError) as error:
        raise HostError(
            f"the network link {host_name} cannot be made ({error}); see `./atoll doctor`"
        ) from error


async def delete_link(netlink: Netlink, name: str) -> None:
    """Removes a veth pair by its host end. Nothing to do when it is gone, as with its namespace."""
    try:
        index = socket.if_nametoindex(name)
        await netlink.link("del", index=index)
    except NetlinkError as error:
        if error.code not in (errno.ENODEV, errno.ENOENT):
            raise HostError(f"the network link {name} cannot be removed ({error})") from error
    except OSError:
        pass


async def hold_link(netlink: Netlink, name: str) -> None:
    """Drops every packet to the guest, silently, until :func:`release_link`; idempotent.

    The queueing discipline ``blackhole`` is part of every kernel that has any, and nobody else's here.
    """
    try:
        index = socket.if_nametoindex(name)
        await netlink.tc("add", "blackhole", index, _HOLD_HANDLE, parent=_TC_ROOT)
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise HostError(f"the traffic of {name} cannot be held ({error})") from error
    except OSError as error:
        raise HostError(f"the traffic of {name} cannot be held ({error})") from error


async def release_link(netlink: Netlink, name: str) -> None:
    """Undoes :func:`hold_link`; nothing to do when the link is gone, or was not held."""
    try:
        index = socket.if_nametoindex(name)
        await netlink.tc("del", index=index, handle=_HOLD_HANDLE, parent=_TC_ROOT)
    except NetlinkError as error:
        if error.code not in (errno.ENOENT, errno.ENODEV, errno.EINVAL):
            raise HostError(f"the traffic of {name} cannot be let go ({error})") from error
    except OSError:
        pass


async def reject_range(netlink: Netlink, network: IPv4Network) -> None:
    """An ``unreachable`` route over the range: a packet to a dead sandbox never leaves the machine."""
    try:
        await netlink.route("replace", dst=str(network), type=_ROUTE_UNREACHABLE)
    except NetlinkError as error:
        raise HostError(f"the route over {network} cannot be made ({error}); set ATOLL_NETWORK") from error


async def release_range(netlink: Netlink, network: IPv4Network) -> None:
    with contextlib.suppress(NetlinkError):
        await netlink.route("del", dst=str(network), type=_ROUTE_UNREACHABLE)


async def find_uplink_mtu(netlink: Netlink) -> int:
    """MTU of the default route's interface, so that a sandbox's packets fit without fragments; 1500
    without."""
    try:
        async for route in await netlink.route("dump", family=socket.AF_INET, table=254):
            index = route.get("oif") if route["dst_len"] == 0 else None
            if index is not None:
                name = _interface_name(index)
                return await asyncio.to_thread(_read_mtu, name)
    except (NetlinkError, OSError, ValueError):
        pass
    return 1500


async def find_overlap(netlink: Netlink, network: IPv4Network) -> str | None:
    """A route of this machine inside or around the range that is not ours, as text; the default is none."""
    async for route in await netlink.route("dump", family=socket.AF_INET, table=254):
        destination = route.get("dst")
        if destination is None or route["type"] == _ROUTE_UNREACHABLE:
            continue
        other = IPv4Network(f"{destination}/{route['dst_len']}", strict=False)
        index = route.get("oif")
        name = "no interface" if index is None else _interface_name(index)
        # Without a name, its link went since the list was made, and the route with it.
        if name and other.overlaps(network) and not name.startswith(LINK_PREFIX):
            return f"{other} at {name}"
    return None


async def list_routes(network: IPv4Network) -> frozenset[str]:
    """Routes of this machine that lie in the range, as text."""
    routes: set[str] = set()
    with contextlib.closing(open_netlink()) as netlink:
        async for route in await netlink.route("dump", family=socket.AF_INET, table=254):
            destination = route.get("dst")
            if destination is None:
                continue
            other = IPv4Network(f"{destination}/{route['dst_len']}", strict=False)
            if other.subnet_of(network):
                index = route.get("oif")
                routes.add(f"{other} at {_interface_name(index) if index else 'unreachable'}")
    return frozenset(routes)


def link_name(gateway: IPv4Address) -> str:
    """Host end's name, unique for each address of the machine."""
    return f"{LINK_PREFIX}{int(gateway):08x}"


def is_in_range(name: str, network: IPv4Network) -> bool:
    """Whether ``name`` begins with an address of the range, as links' (after their prefix) and slots' do."""
    try:
        return IPv4Address(int(name.split("-")[0], 16)) in network
    except ValueError:
        return False


def list_links(network: IPv4Network) -> frozenset[str]:
    """Host's ends of the range's pairs."""
    return frozenset(
        name
        for _, name in socket.if_nameindex()
        if name.startswith(LINK_PREFIX) and is_in_range(name.removeprefix(LINK_PREFIX), network)
    )


def read_owner(name: str) -> str:
    """What :func:`create_pair` was told; empty for a link that is just being made, or gone."""
    try:
        return _alias(name).read_text().strip()
    except OSError:
        return ""


def read_forwarding() -> bool:
    return Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1"


def set_forwarding(enabled: bool) -> None:
    """Raises :class:`HostError` when this machine does not let us."""
    try:
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1" if enabled else "0")
    except OSError as error:
        raise HostError(f"net.ipv4.ip_forward cannot be set ({error}); set it to 1 by hand") from error


def _alias(interface: str) -> Path:
    return Path(f"/sys/class/net/{interface}/ifalias")


def _disable_ipv6(interface: str) -> None:
    """Also on a kernel that has no IPv6 at all."""
    with contextlib.suppress(FileNotFoundError):
        Path(f"/proc/sys/net/ipv6/conf/{interface}/disable_ipv6").write_text("1")


def _read_mtu(interface: str) -> int:
    return int(Path(f"/sys/class/net/{interface}/mtu").read_text())


def _interface_name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return ""


def _mac(raw: bytes) -> str:
    return raw.hex(":")


def _unshare() -> int:
    if _libc.unshare(_CLONE_NEWNET) != 0:
        raise HostError(f"no network namespace can be made ({os.strerror(ctypes.get_errno())}); run as root")
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _enter(namespace: Namespace) -> None:
    if _libc.setns(namespace.descriptor, _CLONE_NEWNET) != 0:
        raise HostError(f"the network namespace cannot be entered ({os.strerror(ctypes.get_errno())})")


def _set_up(interface: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", interface.encode(), 0)
        (_, flags) = struct.unpack("16sH14x", fcntl.ioctl(control, _SIOCGIFFLAGS, request))
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", interface.encode(), flags | _IFF_UP))


def _in_new_thread(act: Callable[[], _T]) -> _T:
    """Runs ``act`` in a thread of its own, which ends with it: a thread's namespace must not come back to a
    pool. Raises what ``act`` raises, ``OSError`` as :class:`HostError`."""
    result: list[_T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(act())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, name="netns")
    thread.start()
    thread.join()
    if failure:
        error = failure[0]
        if isinstance(error, OSError):
            raise HostError(f"a network namespace cannot be set up ({error})") from error
        raise error
    return result[0]
