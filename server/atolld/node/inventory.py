"""What of ours is on this machine: for tests of cleanliness, and for `doctor --deep`.

Only looks, and only at what one server made, known by its home and its range of addresses; several servers
on one machine do not see each other. After `Node.close` with no sandbox alive all of it is empty but the
directories.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network
from pathlib import Path

from atolld.node.linux import cgroup, firewall, netns
from atolld.node.records import Record, read_records


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


@dataclass(frozen=True, slots=True)
class Survey:
    """What one server's slots are made of, each by the slot's name, to be compared with each other."""

    records: Mapping[str, Record | None]
    """A directory each; ``None``: its record cannot be read."""
    namespaces: Mapping[str, frozenset[int]]
    """A living container each: inodes of the network namespaces that its processes are in."""
    links: frozenset[str]
    """Addresses, 8 hex digits, as slots' names begin with."""
    cgroups: frozenset[str]
    mounts: frozenset[str]
    files: Mapping[str, frozenset[tuple[int, int]]] = field(
        default_factory=dict[str, frozenset[tuple[int, int]]]
    )
    """A living container each: device and inode of the regular files that its kernel has open."""


async def take_survey(home: Path, network: IPv4Network) -> Survey:
    return await asyncio.to_thread(_survey, home, network)


def _survey(home: Path, network: IPv4Network) -> Survey:
    return Survey(
        records={path.name: record for path, record in read_records(home / "run/sandboxes").items()},
        namespaces=_namespaces(home),
        files=_open_files(home),
        links=frozenset(name.removeprefix(netns.LINK_PREFIX) for name in netns.list_links(network)),
        cgroups=frozenset(Path(path).name for path in _cgroups(network)),
        mounts=_mounts(home),
    )


def _namespaces(home: Path) -> dict[str, frozenset[int]]:
    found: dict[str, frozenset[int]] = {}
    for name, process in _kernels(home):
        with contextlib.suppress(OSError):
            found[name] = found.get(name, frozenset()) | {os.stat(process / "ns/net").st_ino}
    return found


def _open_files(home: Path) -> dict[str, frozenset[tuple[int, int]]]:
    found: dict[str, frozenset[tuple[int, int]]] = {}
    for name, process in _kernels(home):
        files: set[tuple[int, int]] = set()
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    status = os.stat(descriptor)
                    if stat.S_ISREG(status.st_mode):
                        files.add((status.st_dev, status.st_ino))
        found[name] = found.get(name, frozenset()) | files
    return found


def _kernels(home: Path) -> Iterator[tuple[str, Path]]:
    """Name and process of each container's kernel; the process that serves its files is another."""
    marker = f"--root={home / 'run/runsc'}"
    for entry, arguments in _commands():
        if marker in arguments and "boot" in arguments:
            yield arguments[-1], entry


def _commands() -> Iterator[tuple[Path, list[str]]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):  # gone meanwhile
                words = (entry / "cmdline").read_bytes().decode("utf-8", "replace")
                yield entry, words.rstrip("\0").split("\0")


def _processes(home: Path) -> frozenset[str]:
    """Processes of containers: their command names our runtime's directory."""
    marker = f"--root={home / 'run'}"
    commands = ((entry.name, " ".join(arguments)) for entry, arguments in _commands())
    return frozenset(f"{pid} {command[:200].strip()}" for pid, command in commands if marker in command)


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
