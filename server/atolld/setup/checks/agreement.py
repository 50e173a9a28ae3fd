"""Whether the database, the files and the kernel's objects say the same. Pure: three views in, findings out.

Each finding names one thing that is wrong and what to do. What a moving server has in its hands for a moment
looks wrong, too: :mod:`.deep` therefore looks twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from atolld.model.records import SandboxRecord
from atolld.model.sandbox import UP, SandboxId, State
from atolld.node.inventory import Survey
from atolld.setup.checks.finding import Finding, fail, warn

_RESTART = "./atoll serve --replace, or start the server: it settles what it finds"
LOST = "import it again where it was exported; else what was in it is lost: delete it"
_LEAVE = "the next start of the server removes it"


@dataclass(frozen=True, slots=True)
class Rows:
    """What the database says."""

    moving: tuple[SandboxRecord, ...]
    """Neither paused nor over."""
    paused: tuple[SandboxRecord, ...]
    snapshots: frozenset[str]
    """Ids of those that sandboxes can start from."""
    builds: Mapping[str, str]
    """Build id → the template it is the newest of."""


@dataclass(frozen=True, slots=True)
class Base:
    """A file that snapshots and sandboxes share pages of."""

    inode: tuple[int, int]
    """With the device before it."""
    has_other_names: bool
    """It is a template's as well, and goes with it."""


@dataclass(frozen=True, slots=True)
class Disk:
    snapshots: frozenset[str]
    """Ids of those that are whole."""
    unfinished: frozenset[str]
    builds: frozenset[str]
    bases: Mapping[str, Base] = field(default_factory=dict[str, "Base"])
    """By the hash that each is called by."""
    needed: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Such a hash → the snapshots whose memory is partly or wholly in it."""


def find_disagreements(rows: Rows, disk: Disk, machine: Survey, *, serving: bool) -> Iterator[Finding]:
    """``serving``: a server runs, and holds warm sandboxes and slots that no row speaks of."""
    yield from _compare_sandboxes(rows, machine)
    yield from _compare_snapshots(rows, disk)
    yield from _compare_bases(disk, machine)
    yield from _compare_slots(machine, serving=serving)


def _compare_sandboxes(rows: Rows, machine: Survey) -> Iterator[Finding]:
    owners = Counter(_owned(machine))
    known = {row.sandbox_id for row in rows.moving}
    for row in rows.moving:
        if row.state in UP and not owners[row.sandbox_id]:
            yield fail(
                "rows", f"sandbox {row.sandbox_id} is {row.state} by its row, and runs nowhere", _RESTART
            )
    for sandbox_id, count in sorted(owners.items()):
        if sandbox_id not in known:
            yield fail("rows", f"sandbox {sandbox_id} runs, and no row says that it should", _RESTART)
        if count > 1:
            detail = f"sandbox {sandbox_id} runs {count} times"
            yield fail("rows", detail, f"./atoll sandbox kill {sandbox_id}; its state is doubtful")


def _owned(machine: Survey) -> Iterator[SandboxId]:
    for name, record in machine.records.items():
        if record is not None and record.sandbox_id is not None and name in machine.namespaces:
            yield record.sandbox_id


def _compare_snapshots(rows: Rows, disk: Disk) -> Iterator[Finding]:
    asleep = {row.snapshot_id: row.sandbox_id for row in rows.paused if row.snapshot_id}
    for snapshot_id in sorted(asleep.keys() - disk.snapshots):
        sandbox_id = asleep[snapshot_id]
        detail = f"sandbox {sandbox_id} is paused, and its snapshot {snapshot_id} is not there"
        yield fail("snapshots", detail, f"./atoll sandbox kill {sandbox_id}; its state is lost")
    for snapshot_id in sorted(rows.snapshots - disk.snapshots):
        detail = f"the snapshot {snapshot_id} has a row and no files"
        yield fail("snapshots", detail, "delete it; import it again, where it was exported")
    held = {row.snapshot_id for row in rows.moving}
    for snapshot_id in sorted(disk.snapshots - asleep.keys() - rows.snapshots - held):
        yield warn("snapshots", f"the snapshot {snapshot_id} takes room, and no row wants it", _LEAVE)
    for name in sorted(disk.unfinished - {f"{snapshot_id}.unfinished" for snapshot_id in held}):
        yield warn("snapshots", f"{name} was left half-written", _LEAVE)
    for build_id in sorted(rows.builds.keys() - disk.builds):
        detail = f"build {build_id} of template {rows.builds[build_id]} has a row and no files"
        yield fail("templates", detail, "./atoll setup")


def _compare_bases(disk: Disk, machine: Survey) -> Iterator[Finding]:
    for digest in sorted(disk.needed.keys() - disk.bases.keys()):
        stand = ", ".join(disk.needed[digest])
        yield fail("bases", f"bases/{digest}.img is not there; on it stand: {stand}", LOST)
    held: set[str] = set()
    for name, record in sorted(machine.records.items()):
        if record is None or name not in machine.files:
            continue
        for digest in (base.digest for base in record.bases):
            held.add(digest)
            base = disk.bases.get(digest)
            if base is None:
                detail = f"bases/{digest}.img is not there, and the sandbox in {name} maps it"
                yield warn("bases", detail, "none is needed: its next snapshot stands alone")
            elif base.inode not in machine.files[name]:
                detail = f"the sandbox in {name} maps another file than bases/{digest}.img"
                yield fail("bases", detail, "kill it: its state is doubtful")
    mapped = frozenset[tuple[int, int]]().union(*machine.files.values())
    for digest, base in sorted(disk.bases.items()):
        if not (digest in disk.needed or digest in held or base.has_other_names or base.inode in mapped):
            yield warn("bases", f"bases/{digest}.img takes room, and nothing stands on it", _LEAVE)


def _compare_slots(machine: Survey, *, serving: bool) -> Iterator[Finding]:
    living, directories = machine.namespaces.keys(), machine.records.keys()
    for name in sorted(living - directories):
        yield fail("processes", f"the container {name} runs, and has no directory", _RESTART)
    for name in sorted(directories - living):
        yield warn("directories", f"run/sandboxes/{name} is there, and nothing runs in it", _LEAVE)
    for name in sorted(name for name, record in machine.records.items() if record is None):
        yield fail("directories", f"run/sandboxes/{name} has no record that can be read", _RESTART)
    for name in sorted(living & directories):
        yield from _examine_slot(name, machine)
    shared = Counter(inode for inodes in machine.namespaces.values() for inode in inodes)
    for name, inodes in sorted(machine.namespaces.items()):
        if any(shared[inode] > 1 for inode in inodes):
            yield fail("namespaces", f"{name} shares its network namespace", _RESTART)
    for name in sorted(machine.cgroups - living - directories):
        yield warn("cgroups", f"the cgroup {name} is there, and no sandbox", _LEAVE)
    if not serving:
        yield from _find_forsaken(machine)
    for point in sorted(machine.mounts):
        yield warn("mounts", f"something is mounted at {point}, which is not ours", f"umount {point}")


def _examine_slot(name: str, machine: Survey) -> Iterator[Finding]:
    if _address(name) not in machine.links:
        yield fail("links", f"the sandbox in {name} has no link to the host", _RESTART)
    if name not in machine.cgroups:
        yield fail("cgroups", f"the sandbox in {name} is in no cgroup: it has no limits", _RESTART)
    if len(machine.namespaces[name]) != 1:
        yield fail("namespaces", f"{name} is in {len(machine.namespaces[name])} network namespaces", _RESTART)


def _find_forsaken(machine: Survey) -> Iterator[Finding]:
    for name, record in sorted(machine.records.items()):
        if record is not None and record.sandbox_id is None and name in machine.namespaces:
            yield warn("directories", f"{name} waits for a server that is not there", _LEAVE)
    addresses = {_address(name) for name in (*machine.records, *machine.namespaces)}
    for address in sorted(machine.links - addresses):
        yield warn("links", f"the link at-{address} leads nowhere", _LEAVE)


def _address(name: str) -> str:
    return name.split("-")[0]


def count(rows: Rows, disk: Disk, machine: Survey) -> str:
    """What was compared, for a report in which nothing is wrong."""
    running = sum(row.state in UP for row in rows.moving)
    parts: Iterable[str] = (
        f"{running} running",
        f"{sum(row.state is State.PAUSED for row in rows.paused)} paused",
        f"{len(rows.snapshots)} snapshots, {len(rows.builds)} templates",
        f"{len(machine.records)} slots",
        f"{len(disk.snapshots)} snapshots on the disk",
    )
    return "; ".join(parts)
