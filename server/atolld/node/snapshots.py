"""Snapshots of sandboxes on disk: ``snapshots/<snapshot_id>/{manifest.json, snapshot/…}``, like a build.

One is written under another name and renamed when all of it is on the disk and its manifest vouches for
every file: a directory with that name is whole, whenever the server died. The pages lie among the bases, see
:mod:`.bases`, where there is a link to them: a sandbox that is restored from them may outlive the snapshot.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from atolld.model.errors import BuildDamaged, HostError
from atolld.model.template import (
    MEMORY_FILE,
    Build,
    Manifest,
    StoredFile,
    encode_manifest,
    parse_manifest,
)
from atolld.node.bases import Bases
from atolld.node.records import list_used_images
from atolld.node.sharing import PAGES_FILE
from atolld.node.verify import vouch

MANIFEST_FILE = "manifest.json"
_ID = re.compile(r"[a-z0-9-]{1,64}")
_UNFINISHED = ".unfinished"
_BETWEEN_FLUSHES = 0.01
"""Seconds."""


class SnapshotFiles:
    """Those of one state directory. Every method blocks; the disk may take its time."""

    def __init__(self, home: Path, bases: Bases) -> None:
        self._bases = bases
        self._roots = home / "roots"
        self._directory = home / "snapshots"

    def ids(self) -> frozenset[str]:
        """All that are whole."""
        return frozenset(
            path.name for path in _list(self._directory) if (path / MANIFEST_FILE).is_file() and _is_id(path)
        )

    def path(self, snapshot_id: str) -> Path:
        return self._directory / snapshot_id

    def load(self, snapshot_id: str) -> Build:
        """Raises :class:`BuildDamaged` when there is none that can be read."""
        directory = self._directory / snapshot_id
        try:
            manifest = parse_manifest((directory / MANIFEST_FILE).read_text())
        except (OSError, ValueError) as error:
            raise BuildDamaged(
                f"snapshot {snapshot_id} cannot be read ({error}): its state is lost, start from another"
            ) from error
        return Build(manifest, directory, self._roots / manifest.root_image)

    def begin(self, snapshot_id: str) -> Path:
        """A new directory for the snapshot's files; :meth:`seal` or :meth:`discard` follows."""
        files = self.unfinished(snapshot_id)
        shutil.rmtree(files.parent, ignore_errors=True)
        files.mkdir(parents=True, mode=0o700)
        return files

    def unfinished(self, snapshot_id: str) -> Path:
        """Where the files lie until the snapshot is sealed."""
        return self._directory / f"{snapshot_id}{_UNFINISHED}" / "snapshot"

    def seal(
        self,
        snapshot_id: str,
        source: Manifest,
        template_id: str,
        name: str,
        *,
        bases: tuple[StoredFile, ...] = (),
        safe: bool = True,
    ) -> Build:
        """Flushes and hashes what :meth:`begin`'s directory holds, and gives it its name.

        ``source``: of the build the sandbox was made of; ``bases``: where else its pages are. ``safe`` is
        false for one that this server restores at once: it is not flushed, and of its files only the pages
        are hashed, which its clones share. Raises :class:`HostError`; nothing is left then.
        """
        work, final = self._directory / f"{snapshot_id}{_UNFINISHED}", self._directory / snapshot_id
        try:
            files = work / "snapshot"
            with ThreadPoolExecutor(1) as disk:
                # Beside each other: one waits for the disk, the other for the processor.
                flushing = disk.submit(flush, files) if safe else None
                vouched = {path.name: _vouch(path, safe=safe) for path in sorted(files.iterdir())}
            if flushing is not None:
                flushing.result()
            shared = [base.digest for base in bases]
            if MEMORY_FILE in vouched:
                own = vouched[PAGES_FILE].digest
                self._bases.hold(snapshot_id, [*shared, own])
                self._bases.take_in(files / PAGES_FILE, own)
                if safe:
                    self._bases.flush(shared)  # that of a fork was not, until now
            if safe:
                _flush_directory(files)
            manifest = replace(
                source,
                template_id=template_id,
                build_id=snapshot_id,
                name=name,
                warmup=None,  # a user's kernel is no place for the template's cell
                created_at=datetime.now(UTC).isoformat(),
                snapshot=vouched,
                bases=bases,
            )
            (work / MANIFEST_FILE).write_text(encode_manifest(manifest))
            if safe:
                flush(work)
            work.rename(final)
            if safe:
                _flush_directory(self._directory)
        except OSError as error:
            shutil.rmtree(work, ignore_errors=True)
            self._bases.release(snapshot_id)
            raise HostError(
                f"the snapshot cannot be written ({error}): free some space, try again"
            ) from error
        return Build(manifest, final, self._roots / manifest.root_image)

    def discard(self, snapshot_id: str) -> None:
        """Idempotent. A sandbox that is still loading it has the files open, and is not disturbed."""
        final = self._directory / snapshot_id
        root_image = _read_root_image(final)
        try:
            # In one step, so that no half of it passes for a whole one.
            final.rename(final.with_name(f"{snapshot_id}{_UNFINISHED}"))
        except FileNotFoundError:
            pass
        except OSError:  # a full disk may refuse even that
            (final / MANIFEST_FILE).unlink(missing_ok=True)
            shutil.rmtree(final, ignore_errors=True)
        shutil.rmtree(final.with_name(f"{snapshot_id}{_UNFINISHED}"), ignore_errors=True)
        self._bases.release(snapshot_id)
        # One that came with an import is nobody else's business, and lies in a folder of its own.
        if Path(root_image).parent.name and root_image not in list_used_images(self._roots.parent):
            shutil.rmtree((self._roots / root_image).parent, ignore_errors=True)

    def hold_bases(self) -> None:
        """After a start: of all that are whole."""
        for snapshot_id in self.ids():
            with contextlib.suppress(BuildDamaged):
                manifest = self.load(snapshot_id).manifest
                digests = {base.digest for base in manifest.bases}
                if MEMORY_FILE in manifest.snapshot:
                    digests.add(manifest.snapshot[PAGES_FILE].digest)
                self._bases.hold(snapshot_id, digests - {""})

    def discard_unfinished(self) -> None:
        """What a dead server was just writing or removing."""
        for path in _list(self._directory):
            if path.name.endswith(_UNFINISHED):
                shutil.rmtree(path, ignore_errors=True)


class EarlyFlush:
    """Sends a file to the disk while somebody else still writes it, so that less is left to wait for at the
    end. It is no substitute for that: what it found is an error of the file, told once, by :meth:`finish`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._done = threading.Event()
        self._flushing: asyncio.Future[None] | None = None

    def start(self) -> None:
        self._flushing = asyncio.get_running_loop().run_in_executor(None, self._flush)
        # Nobody asks for it where something else failed first.
        self._flushing.add_done_callback(lambda done: done.cancelled() or done.exception())

    def stop(self) -> None:
        """It ends in a moment. Idempotent."""
        self._done.set()

    async def finish(self) -> None:
        """Raises ``OSError`` when the disk did not take what was written."""
        self.stop()
        if self._flushing is not None:
            await self._flushing

    def _flush(self) -> None:
        while not self._done.wait(_BETWEEN_FLUSHES):
            with contextlib.suppress(FileNotFoundError), _opened(self._path, os.O_RDONLY) as descriptor:
                while not self._done.wait(_BETWEEN_FLUSHES):
                    os.fdatasync(descriptor)


def flush(directory: Path) -> None:
    """Every file of the directory, and the directory, onto the disk."""
    for path in directory.iterdir():
        if path.is_file():
            with _opened(path, os.O_RDONLY) as descriptor:
                os.fsync(descriptor)
    _flush_directory(directory)


def _flush_directory(directory: Path) -> None:
    with _opened(directory, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        os.fsync(descriptor)


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Generator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _vouch(path: Path, *, safe: bool) -> StoredFile:
    return vouch(path) if safe or path.name == PAGES_FILE else StoredFile(path.stat().st_size)


def _read_root_image(directory: Path) -> str:
    """Empty when there is no manifest that can be read."""
    try:
        return parse_manifest((directory / MANIFEST_FILE).read_text()).root_image
    except (OSError, ValueError):
        return ""


def _is_id(path: Path) -> bool:
    return _ID.fullmatch(path.name) is not None


def _list(directory: Path) -> Iterator[Path]:
    return directory.iterdir() if directory.is_dir() else iter(())
