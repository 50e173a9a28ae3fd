"""Keys: what a made thing is named by, so that whoever needs the same thing finds it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

_KEY_LENGTH = 16


def key_of(*parts: str | bytes) -> str:
    """16 hex digits that stand for ``parts``; where one part ends and the next begins counts."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:_KEY_LENGTH]


def key_of_files(root: Path, paths: Iterable[Path]) -> str:
    """Stands for the files' names below ``root`` and their contents."""
    parts: list[str | bytes] = []
    for path in sorted(paths):
        parts += [path.relative_to(root).as_posix(), path.read_bytes()]
    return key_of(*parts)


def hash_file(path: Path) -> str:
    """Lower-case hex SHA-256 of a file of any size."""
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
