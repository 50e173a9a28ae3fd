"""``doctor --deep``: looks at what is there, instead of trying what could be.

Database, files and kernel objects are compared (:mod:`.agreement`), twice, a moment apart: what a server that
is at work has in its hands is wrong once at most. Then every file that a manifest vouches for is hashed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from atolld.config import Config
from atolld.model.template import BASES, StoredFile, parse_manifest
from atolld.node.inventory import take_survey
from atolld.node.sharing import PAGES_FILE
from atolld.node.verify import hash_as
from atolld.setup.checks.agreement import LOST, Base, Disk, Rows, count, find_disagreements
from atolld.setup.checks.finding import Finding, Verdict, fail, ok
from atolld.store import Store

_BETWEEN_LOOKS = 1.5
"""Seconds; longer than a create, a pause's last step or a removal takes."""
_MANIFESTS = ("templates/*/*/manifest.json", "snapshots/*/manifest.json")


async def examine_deep(config: Config, *, serving: Callable[[Path], bool], hashes: bool) -> list[Finding]:
    """Raises ``HostError`` when the database cannot be read by this version."""
    if not (config.home / "atoll.db").is_file():
        return [fail("database", f"there is none in {config.home}", "./atoll setup")]
    store = await Store.open(config.home / "atoll.db")
    try:
        if problem := await store.find_damage():
            return [
                fail("database", problem, "restore a backup, or remove it: ./atoll setup makes a new one")
            ]
        before, _ = await _look(config, store, serving(config.home))
        if before:
            await asyncio.sleep(_BETWEEN_LOOKS)
        after, counted = await _look(config, store, serving(config.home))
    finally:
        await store.close()
    lasting = [finding for finding in after if finding in before]
    files = await asyncio.to_thread(examine_files, config.home) if hashes else []
    agreed = [] if any(it.verdict is Verdict.FAILED for it in lasting) else [ok("agreement", counted)]
    return [*agreed, *lasting, *files]


async def _look(config: Config, store: Store, serving: bool) -> tuple[list[Finding], str]:
    # Files first, rows last: what is being made is on the disk before its row says so.
    disk = await asyncio.to_thread(_list_disk, config.home)
    machine = await take_survey(config.home, config.network)
    rows = Rows(
        moving=tuple(await store.sandboxes.unsettled()),
        paused=tuple(await store.sandboxes.asleep()),
        snapshots=await store.snapshots.ids(),
        builds={row.build_id: row.template_id for row in await store.templates.default_builds()},
    )
    return list(find_disagreements(rows, disk, machine, serving=serving)), count(rows, disk, machine)


def _list_disk(home: Path) -> Disk:
    found = {path.parent.name for path in home.glob("snapshots/*/manifest.json")}
    half = {name for name in found if name.endswith(".unfinished")}
    half |= {path.name for path in home.glob("snapshots/*.unfinished")}
    built = {path.parent.name for path in home.glob("templates/*/*/manifest.json")}
    bases: dict[str, Base] = {}
    for path in home.glob(f"{BASES}/*.img"):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            bases[path.stem] = Base((status.st_dev, status.st_ino), status.st_nlink > 1)
    needed = _list_needed(home, found - half)
    return Disk(frozenset(found - half), frozenset(half), frozenset(built), bases, needed)


def _list_needed(home: Path, snapshots: Iterable[str]) -> dict[str, tuple[str, ...]]:
    needed: dict[str, tuple[str, ...]] = {}
    for name in sorted(snapshots):
        directory = home / "snapshots" / name
        try:
            manifest = parse_manifest((directory / "manifest.json").read_text())
        except (OSError, ValueError):
            continue  # removed meanwhile; or :func:`examine_files` tells it
        pages = directory / "snapshot" / PAGES_FILE
        own = [pages.readlink().stem] if pages.is_symlink() else []
        for digest in [*own, *(base.digest for base in manifest.bases)]:
            needed[digest] = (*needed.get(digest, ()), f"snapshot {name} ({manifest.name})")
    return needed


def examine_files(home: Path) -> list[Finding]:
    """Hashes all that manifests vouch for, each file once; of a bad one all that stand on it are named."""
    claims: dict[Path, dict[StoredFile, list[str]]] = defaultdict(lambda: defaultdict(list))
    findings: list[Finding] = []
    for path in sorted(found for pattern in _MANIFESTS for found in home.glob(pattern)):
        kind = "snapshot" if path.parts[-3] == "snapshots" else "template build"
        try:
            manifest = parse_manifest(path.read_text())
        except FileNotFoundError:
            continue  # removed meanwhile
        except (OSError, ValueError) as error:
            findings.append(fail("files", f"{path} cannot be read: {error}", _mend(kind)))
            continue
        who = f"{kind} {path.parent.name} ({manifest.name})"
        claims[home / "roots" / manifest.root_image][manifest.root].append(who)
        for base in manifest.bases:
            claims[home / BASES / f"{base.digest}.img"][base].append(who)
        for name, stored in manifest.snapshot.items():
            claims[_where(path.parent / "snapshot" / name)][stored].append(who)
    checked = 0
    for path, wanted in claims.items():
        for stored, dependants in wanted.items():
            checked += stored.size
            if (problem := _examine(path, stored, dependants)) is not None:
                findings.append(problem)
    if findings:
        return findings
    return [ok("files", f"{len(claims)} files, {checked >> 20} MiB, are as their manifests say")]


def _where(path: Path) -> Path:
    """Of what lies among the bases, its place there: it is one file for all that stand on it."""
    return Path(os.path.normpath(path.parent / path.readlink())) if path.is_symlink() else path


def _examine(path: Path, stored: StoredFile, dependants: list[str]) -> Finding | None:
    try:
        size = path.stat().st_size
        problem = f"has {size} bytes instead of {stored.size}" if size != stored.size else ""
        if not problem and stored.digest and hash_as(stored, path) != stored.digest:
            problem = "has other contents than its manifest says"
    except OSError as error:
        if not path.parent.is_dir():
            return None  # its snapshot was removed meanwhile
        if path.parent.name == BASES and isinstance(error, FileNotFoundError):
            return None  # as well; or it is missing, which the comparison tells
        problem = f"cannot be read ({error.strerror})"
    if not problem:
        return None
    mend = _mend("template build" if dependants[0].startswith("template") else "snapshot")
    return fail("files", f"{path} {problem}; on it stand: {', '.join(dependants)}", mend)


def _mend(kind: str) -> str:
    if kind == "snapshot":
        return LOST
    return "./atoll setup --rebuild of what the file's name says"
