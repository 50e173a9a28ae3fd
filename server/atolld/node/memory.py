"""How much memory this machine has left, and whether one more sandbox fits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from atolld.model.errors import CapacityUnavailable
from atolld.model.template import Build

OVERHEAD_MIB = 32
"""What gVisor's own kernel takes of each sandbox, beside the guest's pages."""
_SMALLEST_RESERVE_MIB = 256
_RESERVED_PART, _RESERVED_PART_PRESSED = 32, 8
_PRESSED = 10.0
_MEMINFO = Path("/proc/meminfo")
_PRESSURE = Path("/proc/pressure/memory")


def read_memory_mib(field: str, path: Path = _MEMINFO) -> int:
    """``MemTotal`` or ``MemAvailable``, MiB."""
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) >> 10
    raise ValueError(f"{path} has no {field}")


def read_pressure(path: Path = _PRESSURE) -> float:
    """Of the last ten seconds, the percentage in which something waited for memory; 0 where the kernel does
    not tell. https://docs.kernel.org/accounting/psi.html"""
    try:
        return float(path.read_text().partition("some avg10=")[2].split()[0])
    except (OSError, IndexError):
        return 0.0


def reserve_mib(total_mib: int, pressure: float = 0.0) -> int:
    """What stays free for everything that is no sandbox, and for sandboxes to grow into.

    It is larger under ``pressure``, which alone says nothing: a sandbox at its own limit makes it, too.
    """
    part = _RESERVED_PART_PRESSED if pressure >= _PRESSED else _RESERVED_PART
    return max(_SMALLEST_RESERVE_MIB, total_mib // part)


@dataclass(frozen=True, slots=True)
class Room:
    """MiB of this machine: all of it, what is available, and what has to stay so."""

    total: int
    available: int
    reserved: int

    def fits(self, needed_mib: int) -> bool:
        return self.available - needed_mib >= self.reserved


def read_room() -> Room:
    total, available = read_memory_mib("MemTotal"), read_memory_mib("MemAvailable")
    return Room(total, available, reserve_mib(total, read_pressure()))


def memory_of(build: Build) -> int:
    """MiB that a sandbox takes at first: the pages of its snapshot, and gVisor."""
    return (sum(stored.size for stored in build.manifest.snapshot.values()) >> 20) + OVERHEAD_MIB


def check_fits(needed_mib: int, room: Room) -> None:
    """Raises :class:`CapacityUnavailable` when a sandbox that takes ``needed_mib`` at its start would leave
    the machine less than its reserve."""
    if not room.fits(needed_mib):
        raise CapacityUnavailable(
            f"Failed to place sandbox: it needs {needed_mib} MiB of memory at its start and {room.reserved} "
            f"have to stay free, but this machine has {room.available} left; kill or pause some, and try "
            "again"
        )
