"""Writing so that a killed run or a power cut leaves the whole thing or nothing that looks like it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_UNFINISHED = ".unfinished"
_SCRATCH = "making-"
_PLACES = ("bin", "roots", "cache/trees", "templates/*")


@contextmanager
def scratch(home: Path) -> Generator[Path]:
    """A directory for what is soon moved elsewhere, on the disk of the state directory."""
    with tempfile.TemporaryDirectory(dir=home, prefix=_SCRATCH) as directory:
        yield Path(directory)


def remove_leftovers(home: Path) -> None:
    """What killed set-ups left half-made. Whoever calls holds the set-up's lock."""
    patterns = (f"{_SCRATCH}*", *(f"{place}/*{_UNFINISHED}" for place in _PLACES))
    for path in (path for pattern in patterns for path in home.glob(pattern)):
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def unfinished(path: Path) -> Generator[Path]:
    """A directory beside ``path`` to make it in: empty at first, gone afterwards.

    What a killed run left there goes too, so only one may be making ``path``: callers hold the set-up's lock.
    """
    work = path.with_name(path.name + _UNFINISHED)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def sync(path: Path) -> None:
    """What was written to a file, or renamed in a directory, survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_text(path: Path, text: str, mode: int = 0o644) -> None:
    """The file is the old one or the new one, never half of one."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    fresh.chmod(mode)
    sync(fresh)
    fresh.replace(path)
    sync(path.parent)
