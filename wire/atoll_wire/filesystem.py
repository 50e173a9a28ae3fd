"""Entries of ``filesystem.Filesystem``, the daemon's service for files (JSON codec)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from atoll_wire.values import (
    Object,
    WireError,
    as_object,
    encode,
    get_int,
    get_list,
    get_object,
    get_optional_text,
    get_text,
    get_texts,
    parse_object,
)

SERVICE = "/filesystem.Filesystem"


class FileType(StrEnum):
    UNSPECIFIED = "FILE_TYPE_UNSPECIFIED"
    FILE = "FILE_TYPE_FILE"
    DIRECTORY = "FILE_TYPE_DIRECTORY"
    SYMLINK = "FILE_TYPE_SYMLINK"


@dataclass(frozen=True, slots=True)
class Entry:
    """``type`` and ``mode`` are the target's when the entry is a link, ``size`` (bytes) is the link's own."""

    name: str
    path: str
    type: FileType
    size: int = 0
    mode: int = 0
    permissions: str = ""
    owner: str = ""
    group: str = ""
    modified_at: datetime | None = None
    symlink_target: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])


def encode_path(path: str) -> bytes:
    """Stat, MakeDir and Remove."""
    return encode({"path": path})


def encode_move(source: str, destination: str) -> bytes:
    return encode({"source": source, "destination": destination})


def encode_list_dir(path: str, depth: int = 1) -> bytes:
    return encode({"path": path, "depth": depth})


def parse_entry(body: bytes) -> Entry:
    """The answer of Stat, MakeDir and Move. Raises :class:`WireError`."""
    return _parse(get_object(parse_object(body, "the entry"), "entry") or {})


def parse_entries(body: bytes) -> list[Entry]:
    """The answer of ListDir. Raises :class:`WireError`."""
    items = get_list(parse_object(body, "the entries"), "entries")
    return [_parse(as_object(item, "an entry")) for item in items]


def _parse(item: Object) -> Entry:
    return Entry(
        name=get_text(item, "name"),
        path=get_text(item, "path"),
        type=_file_type(get_text(item, "type")),
        size=get_int(item, "size"),
        mode=get_int(item, "mode"),
        permissions=get_text(item, "permissions"),
        owner=get_text(item, "owner"),
        group=get_text(item, "group"),
        modified_at=_time(get_optional_text(item, "modifiedTime")),
        symlink_target=get_optional_text(item, "symlinkTarget"),
        metadata=get_texts(item, "metadata"),
    )


def _file_type(text: str) -> FileType:
    try:
        return FileType(text)
    except ValueError:
        return FileType.UNSPECIFIED


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise WireError(f"modifiedTime {text!r} is no RFC 3339 time") from error
