"""A build whose files are not what its manifest says is never restored.

Sizes are compared at every start; hashes once for each state of a file (size, times, inode), because hashing
a root image takes seconds. Hashes are remembered over restarts. What is found broken names the command that
makes the build anew. The same goes for every base that the memory of a snapshot is partly in.

Files of snapshots are hashed with BLAKE3, on all processors: a pause waits for it. Read, not mapped: a file
that another shortens meanwhile would end the server.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from blake3 import blake3

from atolld.model.errors import BuildDamaged
from atolld.model.template import Build, StoredFile

_CHUNK = 4 << 20
"""Bytes hashed at a time: enough for every processor."""


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
        await self._verify_file(build, build.root_path, manifest.root)
        for base in manifest.bases:
            await self._verify_file(build, build.base_path(base.digest), base)
        for name, stored in manifest.snapshot.items():
            await self._verify_file(build, build.snapshot_path / name, stored)

    def remember(self, build: Build) -> None:
        """``build`` was hashed as it was written, a moment ago."""
        for name, stored in build.manifest.snapshot.items():
            path = build.snapshot_path / name
            self._hashes[_state(stored, os.stat(path))] = _Hashed(stored.digest, str(path))

    def forget(self, directory: Path) -> None:
        """What lay there is gone."""
        for state in [it for it, known in self._hashes.items() if known.path.startswith(f"{directory}/")]:
            del self._hashes[state]

    async def _verify_file(self, build: Build, path: Path, stored: StoredFile) -> None:
        try:
            status = os.stat(path)
        except OSError as error:
            raise damaged(build, f"{path} cannot be read ({error.strerror})") from error
        if status.st_size != stored.size:
            raise damaged(build, f"{path} has {status.st_size} bytes instead of {stored.size}")
        if await self._hash(path, stored, _state(stored, status)) != stored.digest:
            raise damaged(build, f"the contents of {path} have changed")

    async def _hash(self, path: Path, stored: StoredFile, state: str) -> str:
        known = self._hashes.get(state)
        if known is not None:
            return known.digest
        async with self._hashing:  # one at a time: it is the disk that is slow
            if state not in self._hashes:
                digest = await asyncio.to_thread(hash_as, stored, path)
                self._hashes[state] = _Hashed(digest, str(path))
                await asyncio.to_thread(_write_memory, self._memory, dict(self._hashes))
            return self._hashes[state].digest


@dataclass(frozen=True, slots=True)
class _Hashed:
    digest: str
    path: str
    """Where it was, or lay when it was hashed: a file is known by its inode, whatever it is called."""


def hash_file(path: Path) -> str:
    """SHA-256, lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_fast(path: Path) -> str:
    """BLAKE3, lower-case hex."""
    digest = blake3(max_threads=blake3.AUTO)
    buffer = bytearray(_CHUNK)
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(buffer):
            digest.update(memoryview(buffer)[:size])
    return digest.hexdigest()


def hash_as(stored: StoredFile, path: Path) -> str:
    """The hash to be compared with that of ``stored``."""
    return hash_fast(path) if stored.blake3 else hash_file(path)


def vouch(path: Path) -> StoredFile:
    """What a manifest says of a file of a snapshot."""
    return StoredFile(path.stat().st_size, blake3=hash_fast(path))


def _state(stored: StoredFile, status: os.stat_result) -> str:
    """Changes whenever somebody writes the file; the time of the inode's change cannot be set back."""
    kind = "blake3" if stored.blake3 else "sha256"
    times = f"{status.st_mtime_ns} {status.st_ctime_ns}"
    return f"{kind} {status.st_dev} {status.st_ino} {status.st_size} {times}"


def _read_memory(path: Path) -> dict[str, _Hashed]:
    """What was remembered; nothing when it cannot be read, and everything is hashed again."""
    try:
        raw: Any = json.loads(path.read_text())
        return {str(state): _Hashed(**known) for state, known in cast(dict[Any, Any], raw).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write_memory(path: Path, hashes: dict[str, _Hashed]) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps({state: asdict(known) for state, known in hashes.items()}, indent=1))
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
