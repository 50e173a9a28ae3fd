"""Frozen sandboxes leave memory: their pages go to the machine's swap, where it has one.

The kernel reclaims the whole cgroup on request. That reaches pages that gVisor's kernel and the guest's
processes have mapped together, which ``process_madvise(MADV_PAGEOUT)`` passes over. A running sandbox is
never swapped: its memory limit would then stop nothing.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Generator
from pathlib import Path

from atolld.model.errors import HostError
from atolld.node.linux.cgroup import is_unified

_MOUNT = Path("/sys/fs/cgroup")
_ROUNDS = 8
"""The first ones only take note of which pages are in use: the kernel gives each a second chance."""
_WORTH_ANOTHER = 1 << 20


def never_swap(path: str, mount: Path = _MOUNT) -> None:
    """The sandbox of the cgroup ``path``, such as ``/atoll/<name>``, stays in memory until it is paged out.
    Raises ``OSError``."""
    if is_unified():
        _write(_group(path, mount) / "memory.swap.max", "0", where_there_is=True)
    else:
        _write(_group(path, mount) / "memory.swappiness", "0", where_there_is=True)


def page_out(path: str, mount: Path = _MOUNT) -> int:
    """Moves the memory of a frozen sandbox to swap; the bytes that it still takes. Blocks, 0.1 to 1 s.

    Nothing happens without swap. Raises ``HostError`` when the cgroup is gone or may not be written.
    """
    group = _group(path, mount)
    try:
        with _may_swap(group):
            left = _usage(group)
            for _ in range(_ROUNDS):
                _reclaim(group, left)
                before, left = left, _usage(group)
                if before - left < _WORTH_ANOTHER:
                    break
            return left
    except OSError as error:
        raise HostError(f"sandbox of cgroup {path} could not leave memory ({error})") from error


def usage(path: str, mount: Path = _MOUNT) -> int:
    """Bytes of memory that are charged to the cgroup."""
    return _usage(_group(path, mount))


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


def _usage(group: Path) -> int:
    return int((group / ("memory.current" if is_unified() else "memory.usage_in_bytes")).read_text())


def _group(path: str, mount: Path) -> Path:
    return (mount if is_unified() else mount / "memory") / path.lstrip("/")


def _write(file: Path, text: str, *, where_there_is: bool = False) -> None:
    """``where_there_is``: a kernel without swap has no such file."""
    if not where_there_is or file.exists():
        file.write_text(text)
