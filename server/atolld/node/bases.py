"""The pages files that sandboxes and snapshots share: ``bases/<hash>.img`` in the state directory.

A base never changes, and goes only by unlinking, when no snapshot's manifest and no sandbox's record names it
any more. A snapshot's own pages lie here, with a symbolic link in their place; a template's are linked hard,
so that its removal takes nothing away from those who stand on it, and theirs nothing from it.

Who holds what is counted in memory; a server that starts counts again what the manifests and records on the
disk say, then removes the rest. A file with a second name is somebody else's as well, and is left alone.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable
from pathlib import Path

from atolld.model.template import BASES, Build
from atolld.node.sharing import PAGES_FILE

_SUFFIX = ".img"


class Bases:
    """Those of one state directory. Every method but :meth:`path` blocks, for moments; from any thread."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._directory = home / BASES
        self._held: dict[str, frozenset[str]] = {}
        self._lock = threading.Lock()

    def path(self, digest: str) -> Path:
        return self._directory / f"{digest}{_SUFFIX}"

    def are_here(self, digests: Iterable[str]) -> bool:
        return all(self.path(digest).is_file() for digest in digests)

    def take_in(self, pages: Path, digest: str) -> None:
        """The file moves here, and is linked to where it was. Stays there when the same one is here already:
        what is vouched for must not come to depend on what somebody else may have damaged."""
        self._make_directory()
        with contextlib.suppress(FileExistsError):
            os.link(pages, self.path(digest))
            pages.unlink()
            pages.symlink_to(os.path.relpath(self.path(digest), pages.parent))

    def keep(self, build: Build) -> None:
        """Before sandboxes are made of a build whose pages are its own: they outlive it here as long as they
        are held. Where the disk is another one they do not, and no snapshot can stand on them."""
        pages = build.manifest.snapshot.get(PAGES_FILE)
        if pages is None or not pages.digest or not build.has_memory or self.path(pages.digest).exists():
            return
        if self._home not in build.directory.parents:
            return  # it is another's, who lent it
        self._make_directory()
        with contextlib.suppress(OSError):  # is missing, which is told by whoever verifies it
            os.link((build.snapshot_path / PAGES_FILE).resolve(), self.path(pages.digest))

    def hold(self, holder: str, digests: Iterable[str]) -> None:
        """From now on ``holder``, a snapshot's id or a slot's name, needs these, and no others."""
        with self._lock:
            before = self._held.pop(holder, frozenset())
            self._held[holder] = frozenset(digests)
            self._remove_unheld(before)

    def release(self, holder: str) -> None:
        """Idempotent."""
        with self._lock:
            self._remove_unheld(self._held.pop(holder, frozenset()))

    def sweep(self) -> None:
        """After a start, when all is held that is needed: removes the rest."""
        with self._lock, contextlib.suppress(FileNotFoundError):
            self._remove_unheld({path.stem for path in self._directory.iterdir()})

    def flush(self, digests: Iterable[str]) -> None:
        """Onto the disk, with their names."""
        for path in (*(self.path(digest) for digest in digests), self._directory):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _remove_unheld(self, digests: Iterable[str]) -> None:
        if not digests:
            return
        needed = frozenset[str]().union(*self._held.values())
        for digest in set(digests) - needed:
            with contextlib.suppress(FileNotFoundError):
                if self.path(digest).stat().st_nlink == 1:
                    self.path(digest).unlink()

    def _make_directory(self) -> None:
        self._directory.mkdir(exist_ok=True, mode=0o700)
