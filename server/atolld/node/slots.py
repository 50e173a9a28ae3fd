"""A slot: the kernel resources one sandbox stands on, namely address, network namespace, veth, cgroup,
directory.

A slot is leased for one run and never used twice: a fresh namespace carries nothing over. Leasing and
releasing are the only ways such objects come and go, so what `inventory` finds beyond the leased slots is a
leak.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from atolld.model.sandbox import Resources
from atolld.node.runtime.protocol import Link


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

    async def adopt(self, directory: Path) -> Slot:
        """The slot whose directory another server left; its name says all there is to know."""
        ...

    async def release(self, slot: Slot) -> None:
        """Gives everything back; the container in it is gone already. Idempotent."""
        ...

    async def is_out_of_memory(self, slot: Slot) -> bool:
        """Whether the kernel ended a process of the slot for its memory limit."""
        ...
