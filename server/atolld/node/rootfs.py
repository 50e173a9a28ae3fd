"""A sandbox's root: the template's EROFS image, shared read-only, under a writable layer of its own on disk.

runsc keeps the layer in one unlinked file in the slot's directory: it needs no mount, is part of every
snapshot, is limited by ``Resources.disk_mib``, and goes with the process. Memory would be faster but counts
against the sandbox's limit, and pages of a file the kernel can write out and drop.
"""

from __future__ import annotations

import os
from pathlib import Path

from atolld.model.errors import CapacityUnavailable, HostError

_MIB = 1 << 20
_RESERVE_MIB = 512
"""Free space that is left for everything else on the disk, MiB."""
_FULL_MIB = 16


def check_root_image(path: Path) -> None:
    """Raises :class:`HostError` unless ``path`` is an EROFS image (magic number at offset 1024)."""
    try:
        with path.open("rb") as file:
            file.seek(1024)
            magic = file.read(4)
    except OSError as error:
        raise HostError(
            f"the root image {path} cannot be read ({error.strerror}); run `./atoll setup`"
        ) from error
    if magic != b"\xe2\xe1\xf5\xe0":
        raise HostError(f"{path} is no EROFS image; make it anew with `./atoll setup`")


def check_free_space(directory: Path, needed_mib: int, what: str) -> None:
    """Raises :class:`CapacityUnavailable` when ``needed_mib`` would leave the disk of ``directory`` too full.

    Asked before a snapshot is written: near a full disk a truncated one can be reported as good.
    """
    free_mib = _free_mib(directory)
    if free_mib < needed_mib + _RESERVE_MIB:
        raise CapacityUnavailable(
            f"{what} needs {needed_mib + _RESERVE_MIB} MiB free at {directory}, there are {free_mib}; "
            "free some space and try again"
        )


def is_full(directory: Path) -> bool:
    """Whether the disk of ``directory`` has no room for what sandboxes write, which ends them."""
    return _free_mib(directory) < _FULL_MIB


def _free_mib(directory: Path) -> int:
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize // _MIB
