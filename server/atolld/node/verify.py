"""A build whose files are not what its manifest says is never restored.

Sizes are compared at every start; hashes once for each state of a file (size, mtime, inode), because
hashing a root image takes seconds. What is found broken names the command that makes the build anew.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

from atolld.model.errors import BuildDamaged
from atolld.model.template import Build, StoredFile

_FileState = tuple[str, int, int, int]


class BuildVerifier:
    def __init__(self, runsc_sha256: str, cpu_features: frozenset[str]) -> None:
        self._runsc_sha256 = runsc_sha256
        self._cpu_features = cpu_features
        self._hashes: dict[_FileState, str] = {}

    async def verify(self, build: Build) -> None:
        """Raises :class:`BuildDamaged` when the build must not be restored here."""
        manifest = build.manifest
        if manifest.runsc_sha256 != self._runsc_sha256:
            raise _damaged(build, "its snapshot was taken with another runsc than the one in use")
        missing = sorted(set(manifest.cpu_features) - self._cpu_features)
        if missing:
            raise _damaged(
                build, f"its snapshot needs CPU features this machine lacks ({', '.join(missing)})"
            )
        files = {build.snapshot_path / name: stored for name, stored in manifest.snapshot.items()}
        for path, stored in {build.root_path: manifest.root, **files}.items():
            await self._verify_file(build, path, stored)

    async def _verify_file(self, build: Build, path: Path, stored: StoredFile) -> None:
        try:
            status = await asyncio.to_thread(path.stat)
        except OSError as error:
            raise _damaged(build, f"{path} cannot be read ({error.strerror})") from error
        if status.st_size != stored.size:
            raise _damaged(build, f"{path} has {status.st_size} bytes instead of {stored.size}")
        state = _state(path, status)
        if state not in self._hashes:
            self._hashes[state] = await asyncio.to_thread(hash_file, path)
        if self._hashes[state] != stored.sha256:
            raise _damaged(build, f"the contents of {path} have changed")


def hash_file(path: Path) -> str:
    """SHA-256, lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _state(path: Path, status: os.stat_result) -> _FileState:
    return str(path), status.st_size, status.st_mtime_ns, status.st_ino


def _damaged(build: Build, what: str) -> BuildDamaged:
    name = build.manifest.name
    return BuildDamaged(
        f"template {name!r} cannot be used: {what}; make it anew with `./atoll setup --rebuild {name}`"
    )
