"""Applies unified diffs, to the letter: every line of a hunk must be where the diff says it is.

The files they are for are pinned by a hash, so anything that does not fit is a mistake: there is no fuzz, no
offset and no need of a tool called ``patch`` on the machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_FILE = re.compile(r"\+\+\+ b/(.+)")
_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,(\d+))? @@")


class PatchError(Exception):
    """A diff that is none, or that does not fit the files."""


def apply_series(patches: Path, tree: Path) -> None:
    """Applies every ``*.patch`` of a directory in the order of their names. Raises :class:`PatchError`."""
    for patch in sorted(patches.glob("*.patch")):
        try:
            apply_patch(patch.read_text(), tree)
        except PatchError as error:
            raise PatchError(f"{patch.name}: {error}") from error


def apply_patch(text: str, tree: Path) -> None:
    """Changes the files below ``tree``; text before the first file's diff is the patch's description."""
    for name, hunks in _files(text):
        path = tree / name
        if path.is_file():
            path.write_text(_changed(name, path.read_text(), hunks))
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_changed(name, "", hunks))


def _files(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each file's name with the lines of its hunks."""
    parts = re.split(r"(?m)^diff --git .*\n", text)[1:]
    if not parts:
        raise PatchError("it changes no file")
    for part in parts:
        match = _FILE.search(part)
        if match is None or Path(match[1]).is_absolute() or ".." in Path(match[1]).parts:
            raise PatchError(f"no file is named in {part[:80]!r}")
        yield match[1], part[match.end() + 1 :].splitlines(keepends=True)


def _changed(name: str, before: str, diff: list[str]) -> str:
    old = before.splitlines(keepends=True)
    new: list[str] = []
    done = 0
    lines = iter(diff)
    for line in lines:
        match = _HUNK.match(line)
        if match is None:
            raise PatchError(f"{name}: not a hunk: {line.rstrip()!r}")
        start, length = int(match[1]), int(match[2] or 1)
        first = start - 1 if length else start
        taken, added = _read_hunk(name, lines, length, int(match[3] or 1))
        if first < done or old[first : first + length] != taken:
            raise PatchError(f"{name}: the lines from {start} on are not those of the patch")
        new += [*old[done:first], *added]
        done = first + length
    return "".join([*new, *old[done:]])


def _read_hunk(
    name: str, lines: Iterator[str], old_length: int, new_length: int
) -> tuple[list[str], list[str]]:
    """The lines a hunk replaces, and those it puts there."""
    old: list[str] = []
    new: list[str] = []
    while len(old) < old_length or len(new) < new_length:
        line = next(lines, "")
        if line[:1] not in (" ", "-", "+"):
            raise PatchError(f"{name}: a hunk ends early, at {line.rstrip()!r}")
        if line[0] != "+":
            old.append(line[1:])
        if line[0] != "-":
            new.append(line[1:])
    return old, new
