"""A compressed swap in memory, for frozen sandboxes: made when the operator agreed.

A mark in the state directory says that it was agreed. The device is gone after a reboot,
and is made again when the server starts. https://docs.kernel.org/admin-guide/blockdev/zram.html
"""

from __future__ import annotations

import contextlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

from atolld.builds.files import replace_text
from atolld.model.errors import HostError
from atolld.node.memory import read_memory_mib

_CONTROL = Path("/sys/class/zram-control")
_SWAPS = Path("/proc/swaps")
_MARK = "swap"
"""In the state directory; holds the device."""
_PRIORITY = 100
"""Above any swap on a disk, whose default is below zero."""
_PREFERRED = ("zstd", "lz4", "lzo-rle")
"""The densest first: it is written once and read once."""
_TIMEOUT = 300.0
"""Turning a full swap off reads all of it."""


@dataclass(frozen=True, slots=True)
class Swap:
    device: str
    """Such as ``/dev/zram1`` or ``/swapfile``."""
    size_mib: int
    used_mib: int


def read_swaps(path: Path = _SWAPS) -> tuple[Swap, ...]:
    """What the machine swaps to."""
    try:
        rows = [line.split() for line in path.read_text().splitlines()[1:]]
    except FileNotFoundError:
        return ()
    return tuple(Swap(row[0], int(row[2]) >> 10, int(row[3]) >> 10) for row in rows)


def can_make() -> bool:
    """Whether this kernel has zram, after loading its module where it is one."""
    if not _CONTROL.is_dir():
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(["modprobe", "zram"], timeout=_TIMEOUT, check=False, capture_output=True)
    return (_CONTROL / "hot_add").exists()


def choose_algorithm(offered: str) -> str:
    """The best of a ``comp_algorithm`` file, such as ``lzo-rle [lz4] zstd``; the current one at worst."""
    names = offered.replace("[", "").replace("]", "").split()
    current = offered.partition("[")[2].partition("]")[0]
    return next((name for name in _PREFERRED if name in names), current)


def ensure(home: Path) -> None:
    """Makes the swap that was agreed to, unless the machine has one. Raises ``HostError``."""
    mark = home / _MARK
    if mark.exists() and not read_swaps():
        replace_text(mark, make(read_memory_mib("MemTotal")) + "\n")


def agree(home: Path) -> str:
    """The operator wants one; what was done, in words. Raises ``HostError``."""
    if not (home / _MARK).exists() and (swaps := read_swaps()):
        return f"This machine has swap already, {swaps[0].device}: frozen sandboxes go there."
    (home / _MARK).touch()
    try:
        ensure(home)
    except HostError:
        (home / _MARK).unlink()
        raise
    return "Frozen sandboxes go to a compressed swap in memory; `./atoll setup --no-swap` removes it."


def disagree(home: Path) -> str:
    """Removes the swap that was agreed to; what was done, in words. Raises ``HostError``."""
    mark = home / _MARK
    if not mark.exists():
        return "There is no swap of ours."
    device = mark.read_text().strip()
    if any(swap.device == device for swap in read_swaps()):
        remove(device)
    mark.unlink()
    return "The swap is gone: frozen sandboxes stay in memory."


def make(size_mib: int) -> str:
    """Makes a compressed swap of ``size_mib`` (before compression) and turns it on; its device.

    Raises ``HostError`` when this kernel cannot; nothing of it is left then.
    """
    if not can_make():
        raise HostError("this kernel has no zram: frozen sandboxes stay in memory")
    number = int((_CONTROL / "hot_add").read_text())
    device, settings = f"/dev/zram{number}", Path(f"/sys/block/zram{number}")
    try:
        algorithm = settings / "comp_algorithm"
        algorithm.write_text(choose_algorithm(algorithm.read_text()))
        (settings / "disksize").write_text(f"{size_mib}M")
        _run("mkswap", device)
        _run("swapon", "--priority", str(_PRIORITY), device)
    except (OSError, HostError) as error:
        _remove_device(number)
        raise HostError(f"no compressed swap could be made ({error})") from error
    return device


def remove(device: str) -> None:
    """Turns a swap that :func:`make` made off, which reads all that is in it, and removes its device."""
    _run("swapoff", device)
    _remove_device(int(device.removeprefix("/dev/zram")))


def _remove_device(number: int) -> None:
    with contextlib.suppress(OSError):
        (_CONTROL / "hot_remove").write_text(str(number))


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, timeout=_TIMEOUT, check=False, capture_output=True, text=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise HostError(f"{command[0]} failed ({error})") from error
    if done.returncode != 0:
        raise HostError(f"{' '.join(command)} failed: {done.stderr.strip()}")
