"""How much memory the sandbox has, and how much of it a new kernel may still take."""

import os
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_MIB = 1 << 20


def total_mib() -> int | None:
    return _field("MemTotal")


def available_mib() -> int | None:
    """What may still be used before envd ends a process: it keeps 1/32 of the memory free, 16 to 128 MiB.

    gVisor's meminfo lags behind what programs touch, and its sysinfo is exact; it is known by having no cache
    to reclaim. Elsewhere sysinfo knows nothing of caches.
    """
    total, free, available = total_mib(), _field("MemFree"), _field("MemAvailable")
    if total is None or available is None:
        return None
    if free == available:
        available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // _MIB
    return max(0, available - min(max(total // 32, 16), 128))


def _field(name: str) -> int | None:
    try:
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) // 1024
    except (OSError, ValueError, IndexError):
        return None
    return None
