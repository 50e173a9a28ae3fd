"""``record.json`` in a slot's directory: what a restarted server must know to adopt or remove what it finds.

Written before the first kernel object that outlives the server exists, so that nothing is ever without one.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from atolld.model.sandbox import Resources, SandboxId

RECORD_FILE = "record.json"
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


def _read(directory: Path) -> Record | None:
    try:
        raw: Any = json.loads((directory / RECORD_FILE).read_text())
        if raw.pop("format") != _FORMAT:
            return None
        raw["resources"] = Resources(**raw["resources"])
        return Record(**raw)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
