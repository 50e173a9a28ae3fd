"""What of ours is on this machine: for tests of cleanliness, and for `doctor --deep`.

Only looks, and only at what one server made, known by its home and its range of addresses; several servers
on one machine do not see each other. After `Node.close` with no sandbox alive all of it is empty but the
directories.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, fields
from ipaddress import IPv4Network
from pathlib import Path

from atolld.node.linux import cgroup, firewall, netns


@dataclass(frozen=True, slots=True)
class Inventory:
    """Each thing as a line of text that a reader can act on."""

    processes: frozenset[str]
    """``pid command``"""
    links: frozenset[str]
    routes: frozenset[str]
    tables: frozenset[str]
    cgroups: frozenset[str]
    mounts: frozenset[str]
    directories: frozenset[str]
    """Of slots, below ``run/``."""

    def __sub__(self, other: Inventory) -> dict[str, list[str]]:
        """What is here and not in ``other``, by kind; empty when there is nothing more here."""
        extra = {f.name: sorted(getattr(self, f.name) - getattr(other, f.name)) for f in fields(self)}
        return {name: lines for name, lines in extra.items() if lines}


async def take_inventory(home: Path, network: IPv4Network) -> Inventory:
    return Inventory(
        processes=await asyncio.to_thread(_processes, home),
        links=netns.list_links(network),
        routes=await netns.list_routes(network),
        tables=await firewall.list_tables(network),
        cgroups=await asyncio.to_thread(_cgroups, network),
        mounts=await asyncio.to_thread(_mounts, home),
        directories=await asyncio.to_thread(_directories, home),
    )


def _processes(home: Path) -> frozenset[str]:
    """Processes of containers: their command names our runtime's directory."""
    marker = f"--root={home / 'run'}"
    found: set[str] = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if marker in command:
            found.add(f"{entry.name} {command[:200].strip()}")
    return frozenset(found)


def _cgroups(network: IPv4Network) -> frozenset[str]:
    ours = (path for path in cgroup.list_groups() if netns.is_in_range(Path(path).name, network))
    return frozenset(ours)


def _mounts(home: Path) -> frozenset[str]:
    """Mounts below the home directory; the node itself makes none."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = (line.split()[4] for line in lines)
    return frozenset(point for point in points if point.startswith(f"{home}/"))


def _directories(home: Path) -> frozenset[str]:
    folders = (home / "run" / "sandboxes", home / "run" / "runsc")
    return frozenset(str(path) for folder in folders if folder.is_dir() for path in folder.iterdir())
