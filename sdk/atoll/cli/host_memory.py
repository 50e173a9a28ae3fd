"""What a sandbox takes of the host's memory: MiB by part.

A page that several processes map is divided among them (PSS). gVisor's guest processes come in groups that
are one address space (clone with CLONE_VM), and each of a group reports the whole: it is counted once.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from atoll_wire.values import WireError, get_text, parse_object

SameSpace = Callable[[int, int], bool]
_KCMP = {"x86_64": 312, "aarch64": 272}.get(platform.machine())
_KCMP_VM = 1  # linux/kcmp.h


def share_space(first: int, second: int) -> bool:
    """Whether two processes have one address space, as kcmp(2) says; False where the kernel has no kcmp."""
    if _KCMP is None:
        return False
    return ctypes.CDLL(None).syscall(_KCMP, first, second, _KCMP_VM, 0, 0) == 0


def measure_memory(
    home: Path, sandbox_id: str, processes: Path = Path("/proc"), same: SameSpace = share_space
) -> dict[str, float]:
    """{} where it cannot be read. runsc's processes name the container; those of the guest are below them."""
    container = find_container(home, sandbox_id)
    if container is None:
        return {}
    named = {
        int(folder.name): _text(folder / "cmdline").replace("\0", " ")
        for folder in processes.iterdir()
        if folder.name.isdigit()
    }
    own = {pid for pid, line in named.items() if container in line and "runsc" in line.split(" ")[0]}
    parents = {pid: _parent(processes / str(pid)) for pid in named}
    parts: dict[str, float] = {}
    for pid in _one_of_each_space((pid for pid in named if _is_below(pid, own, parents)), same):
        part = _part(named[pid]) if pid in own else "guest processes"
        parts[part] = round(parts.get(part, 0.0) + _pss_mib(processes / str(pid)), 1)
    return parts if sum(parts.values()) else {}


def find_container(home: Path, sandbox_id: str) -> str | None:
    """The name under which runsc runs the sandbox, from the node's records."""
    for path in home.glob("run/sandboxes/*/record.json"):
        with suppress(OSError, WireError):
            record = parse_object(path.read_bytes(), str(path))
            if record.get("sandbox_id") == sandbox_id:
                return get_text(record, "name")
    return None


def _one_of_each_space(pids: Iterable[int], same: SameSpace) -> list[int]:
    found: list[int] = []
    for pid in pids:
        if not any(same(pid, other) for other in found):
            found.append(pid)
    return found


def _is_below(pid: int, own: set[int], parents: dict[int, int]) -> bool:
    while pid not in own and pid in parents:
        pid = parents[pid]
    return pid in own


def _part(command: str) -> str:
    return "files (gofer)" if "gofer" in command.split(" ")[0] else "kernel and guest memory (sandbox)"


def _parent(folder: Path) -> int:
    fields = _text(folder / "stat").rpartition(")")[2].split()
    return int(fields[1]) if len(fields) > 1 else 0


def _pss_mib(folder: Path) -> float:
    for line in _text(folder / "smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""  # it has ended, or is another user's
