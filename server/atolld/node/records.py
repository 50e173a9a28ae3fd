"""``record.json`` in a slot's directory: what a restarted server must know to adopt or remove what it finds.

Written before the first kernel object that outlives the server exists, so that nothing is ever without one.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from atolld.model.sandbox import Resources, SandboxId
from atolld.model.template import Build, StoredFile, encode_manifest, parse_manifest

RECORD_FILE = "record.json"
BUILD_FILE = "build.json"
"""Beside it: the manifest of the build that the sandbox was restored from."""
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Record:
    name: str
    """Of the slot, its container and its directory."""
    index: int
    sandbox_id: SandboxId | None
    """``None``: nobody's yet (starting, warm, a template's build), not adopted."""
    resources: Resources
    allow_internet: bool = True
    frozen: bool = False
    """Its vCPUs may stand still: a snapshot was being written."""
    bases: tuple[StoredFile, ...] = ()
    """What its pages may be in, beside its own memory; the node's :mod:`.bases` keep them."""


def write_record(directory: Path, record: Record) -> None:
    """Replaces the record in one step."""
    temporary = directory / f".{RECORD_FILE}"
    temporary.write_text(json.dumps({"format": _FORMAT, **asdict(record)}))
    os.replace(temporary, directory / RECORD_FILE)


def read_records(sandboxes: Path) -> dict[Path, Record | None]:
    """Each directory below ``sandboxes`` with its record; ``None`` where none can be read."""
    if not sandboxes.is_dir():
        return {}
    return {directory: _read(directory) for directory in sorted(sandboxes.iterdir()) if directory.is_dir()}


def write_build(directory: Path, build: Build) -> None:
    (directory / BUILD_FILE).write_text(encode_manifest(build.manifest))


def read_build(directory: Path, roots: Path) -> Build | None:
    """What :func:`write_build` wrote; its own files may be gone by now, its root image is not."""
    try:
        manifest = parse_manifest((directory / BUILD_FILE).read_text())
    except (OSError, ValueError):
        return None
    return Build(manifest, directory, roots / manifest.root_image)


def list_used_images(home: Path) -> frozenset[str]:
    """File names of the root images that sandboxes stand on, running or asleep, and snapshots of them."""
    manifests = [
        *(home / "run" / "sandboxes").glob(f"*/{BUILD_FILE}"),
        *home.glob("snapshots/*/manifest.json"),
    ]
    used: set[str] = set()
    for path in manifests:
        with contextlib.suppress(OSError, ValueError):
            used.add(parse_manifest(path.read_text()).root_image)
    return frozenset(used)


def _read(directory: Path) -> Record | None:
    try:
        raw: Any = json.loads((directory / RECORD_FILE).read_text())
        if raw.pop("format") != _FORMAT:
            return None
        raw["resources"] = Resources(**raw["resources"])
        raw["bases"] = tuple(StoredFile(**base) for base in raw.get("bases", ()))
        return Record(**raw)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
