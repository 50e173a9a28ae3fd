"""A slot: the kernel resources one sandbox stands on, namely address, network namespace, veth, cgroup,
directory.

A slot is leased for one run and never used twice: a fresh namespace carries nothing over. Leasing and
releasing are the only ways such objects come and go, so what `inventory` finds beyond the leased slots is a
leak.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from typing import Protocol

from atolld.model.errors import CapacityUnavailable, HostError
from atolld.model.sandbox import Resources
from atolld.node.linux import cgroup, firewall, netns, paging
from atolld.node.runtime.protocol import Link

_ADDRESSES, _PREFIX = 4, 30
"""A slot's own network: its name, the host's end, the guest, broadcast."""


@dataclass(frozen=True, slots=True)
class Slot:
    name: str
    """Unique for ever; names the container, the directory and the cgroup."""
    index: int
    """Which /30 of the range."""
    directory: Path
    cgroup_path: str
    link: Link

    @property
    def entering(self) -> tuple[str, ...]:
        """What a command begins with that is to run in the slot's cgroup."""
        return cgroup.joining(self.cgroup_path)

    @property
    def is_foreign(self) -> bool:
        """Left by a server of another range: it can be removed, not gone on with."""
        return self.index == 0

    @property
    def address(self) -> str:
        return str(self.link.address.ip)


class Slots(Protocol):
    """Where slots come from. Every method raises ``HostError`` when the machine could not do its part."""

    async def open(self, network_allowances: frozenset[str]) -> None:
        """Prepares the machine: routes, rules, forwarding. Idempotent, keeps what adopted slots need."""
        ...

    async def close(self, *, keep: bool) -> None:
        """Drops prepared slots; with ``keep`` false also what :meth:`open` made."""
        ...

    async def lease(self, resources: Resources) -> Slot:
        """A slot with limits for ``resources``. Raises ``CapacityUnavailable`` when all addresses are in
        use."""
        ...

    async def give_headroom(self, slot: Slot, resources: Resources) -> None:
        """Lets the container use more than the guest was told it has: its kernel needs memory too."""
        ...

    async def set_internet(self, slot: Slot, allowed: bool) -> None:
        """Whether packets may leave the slot at all; a fresh slot's may."""
        ...

    async def hold_traffic(self, slot: Slot) -> None:
        """No packet reaches the guest until :meth:`release_traffic`, and none is answered: a snapshot must
        not meet one half received. Idempotent."""
        ...

    async def release_traffic(self, slot: Slot) -> None:
        """Idempotent."""
        ...

    async def adopt(self, directory: Path) -> Slot:
        """The slot whose directory another server left; its name says all there is to know."""
        ...

    async def end(self, slot: Slot) -> None:
        """Ends every process in the slot, also of a container that is only being made. Idempotent."""
        ...

    async def release(self, slot: Slot) -> None:
        """Gives everything back; the container in it is gone already. Idempotent."""
        ...

    async def is_out_of_memory(self, slot: Slot) -> bool:
        """Whether the kernel ended a process of the slot for its memory limit."""
        ...

    async def measure(self, slot: Slot) -> int:
        """MiB of the machine's memory that the slot takes beside cached files, at least 1."""
        ...

    async def measure_cpu(self, slot: Slot) -> float:
        """Seconds that the container has used. Raises ``HostError`` when it is gone."""
        ...

    def can_page_out(self) -> bool:
        """Whether containers that rest can leave memory."""
        ...

    async def page_out(self, slot: Slot, go_on: Callable[[], bool]) -> int:
        """Moves the memory of a container that rests to swap, as far as ``go_on`` says so; what
        :meth:`measure` is then. It comes back by itself, page by page, when it is thawed."""
        ...


@dataclass(frozen=True, slots=True)
class _Network:
    """The part of a slot that is the same for every sandbox, and so is made ahead."""

    index: int
    namespace: netns.Namespace
    gateway: IPv4Interface


class KernelSlots:
    """Slots of this machine's kernel: one /30 of ``network`` each, the guest's address its second."""

    def __init__(self, network: IPv4Network, sandboxes: Path) -> None:
        self._network = network
        self._sandboxes = sandboxes
        self._count = network.num_addresses // _ADDRESSES
        self._next_index = 1
        self._used: dict[int, str] = {}
        """Index → slot; an index in the making has an empty name."""
        self._namespaces: dict[str, netns.Namespace] = {}
        self._offline: set[str] = set()
        self._applied: firewall.Policy | None = None
        self._netlink: netns.Netlink | None = None
        self._mtu = 1500
        self._turned_forwarding_on = False
        self._spare: _Network | None = None
        self._preparing: asyncio.Task[None] | None = None

    async def open(self, network_allowances: frozenset[str]) -> None:
        netlink = self._open_netlink()
        overlap = await netns.find_overlap(netlink, self._network)
        if overlap is not None:
            raise HostError(
                f"the sandboxes' range {self._network} is in use on this machine ({overlap}); "
                "set ATOLL_NETWORK to a private range that is free"
            )
        await self._settle_links()
        await netns.reject_range(netlink, self._network)
        if not netns.read_forwarding():
            netns.set_forwarding(True)
            self._turned_forwarding_on = True
        self._mtu = await netns.find_uplink_mtu(netlink)
        allowances = frozenset(_parse_allowance(text) for text in network_allowances)
        await self._apply(firewall.Policy(self._network, allowances, frozenset(self._offline)))

    async def close(self, *, keep: bool) -> None:
        if self._preparing is not None:
            await asyncio.wait([self._preparing])
        if self._spare is not None:
            self._used.pop(self._spare.index)
            await self._remove_network(self._spare.gateway, self._spare.namespace)
            self._spare = None
        if not keep:
            await self._give_back_machine()
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None
        self._applied = None

    async def lease(self, resources: Resources) -> Slot:
        network = await self._take_network()
        name = f"{int(network.gateway.ip):08x}-{secrets.token_hex(3)}"
        slot = self._slot(name, network.index, network.namespace)
        self._used[network.index] = name
        self._namespaces[name] = network.namespace
        try:
            await asyncio.to_thread(slot.directory.mkdir, parents=True)
            await asyncio.to_thread(_make_group, slot.cgroup_path, resources)
        except BaseException:
            await asyncio.shield(self.release(slot))
            raise
        return slot

    async def give_headroom(self, slot: Slot, resources: Resources) -> None:
        limit_mib = resources.memory_mib + cgroup.headroom_mib(resources.memory_mib)
        await asyncio.to_thread(cgroup.set_memory_limit, slot.cgroup_path, limit_mib)

    async def set_internet(self, slot: Slot, allowed: bool) -> None:
        if allowed == (slot.address not in self._offline):
            return
        change = firewall.delete_offline if allowed else firewall.add_offline
        await firewall.apply(change(self._network, slot.address))
        (self._offline.discard if allowed else self._offline.add)(slot.address)

    async def hold_traffic(self, slot: Slot) -> None:
        await netns.hold_link(self._open_netlink(), netns.link_name(self._gateway(slot.index).ip))

    async def release_traffic(self, slot: Slot) -> None:
        await netns.release_link(self._open_netlink(), netns.link_name(self._gateway(slot.index).ip))

    async def adopt(self, directory: Path) -> Slot:
        index = (_address_of(directory.name) - int(self._network.network_address)) // _ADDRESSES
        slot = self._slot(directory.name, index if 0 < index < self._count else 0, None)
        self._used[slot.index] = slot.name
        return slot

    async def end(self, slot: Slot) -> None:
        await cgroup.end_group(slot.cgroup_path)

    async def release(self, slot: Slot) -> None:
        """Every part is tried, whatever another's failure; the first failure is raised at the end."""
        async with AsyncExitStack() as stack:
            if self._used.get(slot.index) == slot.name:
                stack.callback(self._used.pop, slot.index)
            stack.push_async_callback(asyncio.to_thread, shutil.rmtree, slot.directory, True)
            stack.push_async_callback(cgroup.remove_group, slot.cgroup_path)
            stack.push_async_callback(self.set_internet, slot, True)
            namespace = self._namespaces.pop(slot.name, None)
            stack.push_async_callback(self._remove_network, self._gateway(slot.index), namespace)

    async def is_out_of_memory(self, slot: Slot) -> bool:
        return await asyncio.to_thread(cgroup.count_memory_kills, slot.cgroup_path) > 0

    async def measure(self, slot: Slot) -> int:
        return _mib(await asyncio.to_thread(paging.usage, slot.cgroup_path))

    async def measure_cpu(self, slot: Slot) -> float:
        return await asyncio.to_thread(cgroup.read_cpu_seconds, slot.cgroup_path)

    def can_page_out(self) -> bool:
        return paging.has_swap()

    async def page_out(self, slot: Slot, go_on: Callable[[], bool]) -> int:
        return _mib(await asyncio.to_thread(paging.page_out, slot.cgroup_path, go_on))

    # -- the network's part --------------------------------------------------------------------------------

    async def _take_network(self) -> _Network:
        """The spare one. The next is made while nobody waits for it, by a task that no caller's cancellation
        reaches: a namespace is only a descriptor until then, and would be lost."""
        while self._spare is None:
            await asyncio.shield(self._prepare_soon())
        network, self._spare = self._spare, None
        self._prepare_soon()
        return network

    def _prepare_soon(self) -> asyncio.Task[None]:
        if self._preparing is None or self._preparing.done():
            self._preparing = asyncio.create_task(self._prepare())
            self._preparing.add_done_callback(_retrieve_failure)
        return self._preparing

    async def _prepare(self) -> None:
        if self._spare is None:
            self._spare = await self._make_network()

    async def _make_network(self) -> _Network:
        index = self._take_index()
        gateway = self._gateway(index)
        try:
            namespace = await asyncio.to_thread(netns.create_namespace)
        except BaseException:
            del self._used[index]
            raise
        try:
            name, group = netns.link_name(gateway.ip), firewall.link_group(self._network)
            await netns.create_pair(
                self._open_netlink(),
                namespace,
                name,
                gateway,
                mtu=self._mtu,
                group=group,
                owner=self._owner,
            )
            await asyncio.to_thread(netns.set_up_inside, namespace)
        except BaseException:
            del self._used[index]
            await self._remove_network(gateway, namespace)
            raise
        return _Network(index, namespace, gateway)

    def _take_index(self) -> int:
        """The next free one in turn, so that an address rests as long as possible before it is used again."""
        for step in range(self._count):
            index = (self._next_index + step) % self._count
            if index not in self._used and index != 0:
                self._next_index = index + 1
                self._used[index] = ""
                return index
        raise CapacityUnavailable(
            f"all {self._count - 1} addresses of {self._network} are in use; stop some sandboxes or set "
            "ATOLL_NETWORK to a larger range"
        )

    async def _remove_network(self, gateway: IPv4Interface, namespace: netns.Namespace | None) -> None:
        if namespace is not None:
            namespace.close()
        await netns.delete_link(self._open_netlink(), netns.link_name(gateway.ip))

    def _open_netlink(self) -> netns.Netlink:
        if self._netlink is None:
            self._netlink = netns.open_netlink()
        return self._netlink

    async def _settle_links(self) -> None:
        """Links that no slot stands on: our dead predecessor's go; another server's mean a range in use."""
        known = {netns.link_name(self._gateway(index).ip) for index in self._used}
        known |= {f"{netns.LINK_PREFIX}{path.name.split('-')[0]}" for path in _list(self._sandboxes)}
        for name in netns.list_links(self._network) - known:
            owner = netns.read_owner(name)
            if owner == self._owner:
                await netns.delete_link(self._open_netlink(), name)
            elif owner:
                raise HostError(
                    f"the sandboxes' range {self._network} is in use by the server of {owner}; "
                    "stop that one or set ATOLL_NETWORK"
                )

    @property
    def _owner(self) -> str:
        return str(self._sandboxes)

    async def _apply(self, policy: firewall.Policy) -> None:
        if policy != self._applied:
            await firewall.apply(firewall.build_table(policy))
            self._applied = policy

    async def _give_back_machine(self) -> None:
        await firewall.apply(firewall.delete_table(self._network))
        await netns.release_range(self._open_netlink(), self._network)
        await asyncio.to_thread(cgroup.remove_parent)
        if self._turned_forwarding_on:
            netns.set_forwarding(False)
            self._turned_forwarding_on = False

    def _gateway(self, index: int) -> IPv4Interface:
        return IPv4Interface((int(self._network.network_address) + index * _ADDRESSES + 1, _PREFIX))

    def _slot(self, name: str, index: int, namespace: netns.Namespace | None) -> Slot:
        gateway = self._gateway(index)
        link = Link(
            interface=netns.GUEST_INTERFACE,
            address=IPv4Interface((gateway.ip + 1, _PREFIX)),
            gateway=str(gateway.ip),
            mac=netns.GUEST_MAC,
            gateway_mac=netns.GATEWAY_MAC,
            mtu=self._mtu,
            namespace_path=namespace.path if namespace else "",
            open_packet_socket=lambda: netns.open_packet_socket(_need(namespace)),
        )
        return Slot(name, index, self._sandboxes / name, f"{cgroup.PARENT}/{name}", link)


def _make_group(path: str, resources: Resources) -> None:
    cgroup.create_group(path, resources)
    paging.never_swap(path)


def _mib(size: int) -> int:
    return max(1, size >> 20)


def _retrieve_failure(task: asyncio.Task[None]) -> None:
    """A failed preparation with nobody waiting is no news: the next lease tries again, and tells."""
    if not task.cancelled():
        task.exception()


def _list(directory: Path) -> list[Path]:
    return list(directory.iterdir()) if directory.is_dir() else []


def _address_of(name: str) -> int:
    try:
        return int(name.split("-")[0], 16)
    except ValueError:
        return 0


def _need(namespace: netns.Namespace | None) -> netns.Namespace:
    if namespace is None:
        raise HostError("the network of a sandbox that outlived its server cannot be opened again")
    return namespace


def _parse_allowance(text: str) -> firewall.Allowance:
    """``network`` or ``network:port``."""
    network, _, port = text.partition(":")
    return firewall.Allowance(IPv4Network(network, strict=False), int(port) if port else None)
