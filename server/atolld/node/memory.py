"""How much memory this machine has left, and whether one more sandbox fits."""

from __future__ import annotations

from pathlib import Path

from atolld.model.errors import CapacityUnavailable
from atolld.model.template import Build

OVERHEAD_MIB = 32
"""What gVisor's own kernel takes of each sandbox, beside the guest's pages."""
_SMALLEST_RESERVE_MIB = 256
_RESERVED_PART = 32
_MEMINFO = Path("/proc/meminfo")


def read_memory_mib(field: str, path: Path = _MEMINFO) -> int:
    """``MemTotal`` or ``MemAvailable``, MiB."""
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) >> 10
    raise ValueError(f"{path} has no {field}")


def reserve_mib(total_mib: int) -> int:
    """What stays free for everything that is no sandbox."""
    return max(_SMALLEST_RESERVE_MIB, total_mib // _RESERVED_PART)


def memory_of(build: Build) -> int:
    """MiB that a sandbox takes at first: the pages of its snapshot, and gVisor."""
    return (sum(stored.size for stored in build.manifest.snapshot.values()) >> 20) + OVERHEAD_MIB


def check_fits(needed_mib: int, available_mib: int, reserved_mib: int) -> None:
    """Raises :class:`CapacityUnavailable` when a sandbox that takes ``needed_mib`` at its start would leave
    the machine less than its reserve."""
    if available_mib - needed_mib < reserved_mib:
        raise CapacityUnavailable(
            f"Failed to place sandbox: it needs {needed_mib} MiB of memory at its start and {reserved_mib} "
            f"have to stay free, but this machine has {available_mib} left; kill or pause some, and try again"
        )
