"""Sandboxes that rest leave memory: their pages go to the machine's swap, where it has one.

The kernel reclaims the whole cgroup on request. That reaches pages that gVisor's kernel and the guest's
processes have mapped together, which ``process_madvise(MADV_PAGEOUT)`` passes over. The kernel itself
swaps none of them: the memory limit of a busy one would then stop nothing.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Generator, Mapping
from pathlib import Path

from atolld.model.errors import HostError
from atolld.node.linux.cgroup import is_unified

_MOUNT = Path("/sys/fs/cgroup")
_SWAPS = Path("/proc/swaps")
_BLOCKS = Path("/sys/block")
_ROUNDS = 8
"""The first ones only take note of which pages are in use: the kernel gives each a second chance."""
_WORTH_ANOTHER = 1 << 20


def never_swap(path: str, mount: Path = _MOUNT) -> None:
    """The sandbox of the cgroup ``path``, such as ``/atoll/<name>``, stays in memory until it is paged out.
    Raises ``HostError``."""
    name = "memory.swap.max" if is_unified() else "memory.swappiness"
    try:
        _write(_group(path, mount) / name, "0", where_there_is=True)
    except OSError as error:
        raise HostError(f"the cgroup {path} cannot be kept out of swap ({error})") from error


def has_swap(path: Path = _SWAPS) -> bool:
    """Whether the machine has anywhere to page out to."""
    return bool(_read_swaps(path))


def page_out(path: str, go_on: Callable[[], bool] = lambda: True, mount: Path = _MOUNT) -> int:
    """Moves the memory of a frozen sandbox to swap; the bytes that it still takes. Blocks, 0.1 to 1 s, less
    when ``go_on`` says so.

    Nothing happens without swap. Raises ``HostError`` when the cgroup is gone or may not be written.
    """
    group = _group(path, mount)
    try:
        with _may_swap(group):
            left = _usage(group)
            for _ in range(_ROUNDS):
                if not go_on():
                    break
                _reclaim(group, left)
                before, left = left, _usage(group)
                if before - left < _WORTH_ANOTHER:
                    break
    except OSError as error:
        raise HostError(f"sandbox of cgroup {path} could not leave memory ({error})") from error
    return usage(path, mount)


def usage(path: str, mount: Path = _MOUNT) -> int:
    """Bytes of the machine's memory that the cgroup takes: what is charged to it but the cache of files,
    which all share, and what it takes in a swap that is in memory itself. Raises ``HostError``."""
    group, prefix = _group(path, mount), "" if is_unified() else "total_"
    try:
        counts, charged = _read_counts(group / "memory.stat"), _usage(group)
        swapped = _swapped(group, counts)
    except OSError as error:
        raise HostError(f"the memory of cgroup {path} cannot be read ({error})") from error
    files = counts[f"{prefix}inactive_file"] + counts[f"{prefix}active_file"]
    return max(0, charged - files) + int(swapped * compression())


def compression(swaps: Path = _SWAPS, blocks: Path = _BLOCKS) -> float:
    """What a byte in swap takes of memory: nothing on a disk, about a third where it is compressed."""
    devices = [blocks / Path(device).name / "mm_stat" for device in _read_swaps(swaps)]
    held = [[int(word) for word in file.read_text().split()[:3]] for file in devices if file.exists()]
    original = sum(row[0] for row in held)
    return sum(row[2] for row in held) / original if original and len(held) == len(devices) else 0.0


@contextlib.contextmanager
def _may_swap(group: Path) -> Generator[None]:
    name, open_, shut = ("memory.swap.max", "max", "0") if is_unified() else ("memory.swappiness", "100", "0")
    _write(group / name, open_, where_there_is=True)
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            _write(group / name, shut, where_there_is=True)


def _reclaim(group: Path, wanted: int) -> None:
    try:
        if not is_unified():
            _write(group / "memory.force_empty", "0")
            return
        try:
            _write(group / "memory.reclaim", f"{wanted} swappiness=max")
        except OSError as error:
            if error.errno != errno.EINVAL:  # kernels before 6.16 know no swappiness here
                raise
            _write(group / "memory.reclaim", str(wanted))
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EBUSY):  # not all of it could go: as good
            raise


def _read_swaps(path: Path) -> list[str]:
    """Their devices and files."""
    try:
        return [line.split()[0] for line in path.read_text().splitlines()[1:]]
    except FileNotFoundError:
        return []


def _swapped(group: Path, counts: Mapping[str, int]) -> int:
    """None where the kernel knows no swap."""
    if not is_unified():
        return counts.get("total_swap", 0)
    file = group / "memory.swap.current"
    return int(file.read_text()) if file.exists() else 0


def _read_counts(file: Path) -> Mapping[str, int]:
    return {name: int(count) for name, count in (line.split() for line in file.read_text().splitlines())}


def _usage(group: Path) -> int:
    return int((group / ("memory.current" if is_unified() else "memory.usage_in_bytes")).read_text())


def _group(path: str, mount: Path) -> Path:
    return (mount if is_unified() else mount / "memory") / path.lstrip("/")


def _write(file: Path, text: str, *, where_there_is: bool = False) -> None:
    """``where_there_is``: a kernel without swap has no such file."""
    if not where_there_is or file.exists():
        file.write_text(text)
