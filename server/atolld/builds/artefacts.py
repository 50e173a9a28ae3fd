"""The binaries in ``bin/`` of the state directory: who they are, and where the current ones lie.

``bin/<name>-<key>/<name>`` is never changed once it is there; ``bin/<name>`` is a link to the one in use. A
binary found on the machine is copied, so that an upgrade does not take it away under the snapshots.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from atolld.builds.files import sync, unfinished


@dataclass(frozen=True, slots=True)
class Artefacts:
    home: Path

    @property
    def runsc(self) -> Path:
        """The runsc in use; a link."""
        return self._bin / "runsc"

    @property
    def runsc_patch_level(self) -> str:
        """The first half of the key of a runsc with our changes in it; empty for another."""
        level, dash, _ = (self.current_key("runsc") or "").partition("-")
        return level if dash else ""

    @property
    def envd(self) -> Path:
        """The guest daemon of the last set-up; a link. Roots carry their own copy."""
        return self._bin / "envd"

    def path(self, name: str, key: str) -> Path:
        return self._bin / f"{name}-{key}" / name

    def keep(self, name: str, key: str, made: Path) -> Path:
        """Copies ``made`` into its place. Idempotent."""
        path = self.path(name, key)
        if not path.is_file():
            with unfinished(path.parent) as work:
                shutil.copyfile(made, work / name)
                (work / name).chmod(0o755)
                sync(work / name)
                shutil.rmtree(path.parent, ignore_errors=True)
                os.rename(work, path.parent)
        return path

    def use(self, name: str, key: str) -> None:
        """From now on ``bin/<name>`` is this one."""
        link = self._bin / f".{name}.new"
        link.unlink(missing_ok=True)
        link.symlink_to(Path(f"{name}-{key}", name))
        link.replace(self._bin / name)
        sync(self._bin)

    def current_key(self, name: str) -> str | None:
        """The key of the one in use; ``None`` when there is none."""
        link = self._bin / name
        if not link.is_file() or not link.is_symlink():
            return None
        return link.readlink().parent.name.removeprefix(f"{name}-")

    def forget(self, name: str) -> None:
        """Removes every one of that name that we keep."""
        (self._bin / name).unlink(missing_ok=True)
        for directory in self._bin.glob(f"{name}-*"):
            shutil.rmtree(directory)

    @property
    def _bin(self) -> Path:
        return self.home / "bin"
