"""A build whose files are not what its manifest says is never restored.

Sizes are compared at every start; hashes once for each state of a file (size, times, inode), because hashing
a root image takes seconds. Hashes are remembered over restarts. What is found broken names the command that
makes the build anew.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from pathlib import Path
from typing import Any, cast

from atolld.model.errors import BuildDamaged
from atolld.model.template import Build, StoredFile


class BuildVerifier:
    """``memory`` is the file that hashes are remembered in."""

    def __init__(self, runsc_sha256: str, cpu_features: frozenset[str], host_key: str, memory: Path) -> None:
        self._runsc_sha256 = runsc_sha256
        self._host_key = host_key
        self._cpu_features = cpu_features
        self._memory = memory
        self._hashes = _read_memory(memory)
        self._hashing = asyncio.Lock()

    async def verify(self, build: Build) -> None:
        """Raises :class:`BuildDamaged` when the build must not be restored here."""
        manifest = build.manifest
        if manifest.runsc_sha256 != self._runsc_sha256:
            raise damaged(build, "its snapshot was taken with another runsc than the one in use")
        if manifest.host_key not in ("", self._host_key):
            raise damaged(build, "the daemon in its snapshot obeys another host")
        missing = sorted(set(manifest.cpu_features) - self._cpu_features)
        if missing:
            raise damaged(build, f"its snapshot needs CPU features this machine lacks ({', '.join(missing)})")
        files = {build.snapshot_path / name: stored for name, stored in manifest.snapshot.items()}
        for path, stored in {build.root_path: manifest.root, **files}.items():
            await self._verify_file(build, path, stored)

    def remember(self, build: Build) -> None:
        """``build`` was hashed as it was written, a moment ago."""
        for name, stored in build.manifest.snapshot.items():
            path = build.snapshot_path / name
            self._hashes[_state(path, os.stat(path))] = stored.sha256

    def forget(self, directory: Path) -> None:
        """What lay there is gone."""
        for state in [state for state in self._hashes if state.startswith(f"{directory}/")]:
            del self._hashes[state]

    async def _verify_file(self, build: Build, path: Path, stored: StoredFile) -> None:
        try:
            status = os.stat(path)
        except OSError as error:
            raise damaged(build, f"{path} cannot be read ({error.strerror})") from error
        if status.st_size != stored.size:
            raise damaged(build, f"{path} has {status.st_size} bytes instead of {stored.size}")
        if await self._hash(path, _state(path, status)) != stored.sha256:
            raise damaged(build, f"the contents of {path} have changed")

    async def _hash(self, path: Path, state: str) -> str:
        known = self._hashes.get(state)
        if known is not None:
            return known
        async with self._hashing:  # one at a time: it is the disk that is slow
            if state not in self._hashes:
                self._hashes[state] = await asyncio.to_thread(hash_file, path)
                await asyncio.to_thread(_write_memory, self._memory, dict(self._hashes))
            return self._hashes[state]


def hash_file(path: Path) -> str:
    """SHA-256, lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _state(path: Path, status: os.stat_result) -> str:
    """Changes whenever somebody writes the file; the time of the inode's change cannot be set back."""
    times = f"{status.st_mtime_ns} {status.st_ctime_ns}"
    return f"{path} {status.st_dev} {status.st_ino} {status.st_size} {times}"


def _read_memory(path: Path) -> dict[str, str]:
    """What was remembered; nothing when it cannot be read, and everything is hashed again."""
    try:
        raw: Any = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(raw, dict):
        return {}
    return {str(state): str(known) for state, known in cast(dict[Any, Any], raw).items()}


def _write_memory(path: Path, hashes: dict[str, str]) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(hashes, indent=1))
    os.replace(temporary, path)


def damaged(build: Build, what: str) -> BuildDamaged:
    name = build.manifest.name
    if build.directory.parent.name == "snapshots":
        return BuildDamaged(
            f"snapshot {build.manifest.build_id} of {name!r} cannot be restored: {what}; delete it, and "
            "start from another (`./atoll doctor --deep` names all that is damaged)"
        )
    return BuildDamaged(
        f"template {name!r} cannot be used: {what}; make it anew with `./atoll setup --rebuild {name}`"
    )
