"""A snapshot as one file: what is in it, how it is written, and how one from anywhere is read.

The format: the line :data:`MAGIC`, then one zstd stream of: the length of the header (8 bytes, big-endian),
the header (JSON), and the contents of its files, one after the other, each as long as the header says.
Nothing in it is a path: a file's name is one of those a snapshot has, so a hostile parcel points nowhere.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Protocol

import msgspec

from atolld.model.errors import HostError, InvalidRequest
from atolld.model.names import parse_template_reference
from atolld.model.template import MANIFEST_FORMAT, Manifest

MAGIC = b"atoll snapshot 1\n"
_LONGEST_HEADER = 1 << 20
_CHUNK = 1 << 20
_IMAGE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,80}-[0-9a-f]{1,64}\.erofs")
_FILES = frozenset({"checkpoint.img", "pages_meta.img", "pages.img", "surroundings"})
"""Those of a snapshot; all but the last must be there."""
_LARGEST_FILE = 1 << 42
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Header:
    manifest: Manifest
    name: str
    """As which it was known, with its tag; a suggestion."""
    host_key: bytes
    """Seed of the key that the daemon in this snapshot obeys, made for this parcel alone."""
    with_root: bool
    """The root image is in it, as the last file."""


class Source(Protocol):
    def read(self, size: int, /) -> bytes:
        """Shorter than ``size`` at the end only."""
        ...


def write_parcel(out: IO[bytes], header: Header, files: Mapping[str, Path], root: Path) -> None:
    """``files``: each of the manifest's, by name. What is written goes through zstd on its way, see
    :mod:`.squeeze`."""
    text = msgspec.json.encode(asdict(header))
    out.write(len(text).to_bytes(8, "big") + text)
    for name in sorted(header.manifest.snapshot):
        _copy_out(files[name], header.manifest.snapshot[name].size, out)
    if header.with_root:
        _copy_out(root, header.manifest.root.size, out)


def read_header(source: Source) -> Header:
    """Raises :class:`InvalidRequest` unless it is one that this version reads, with nothing impossible in
    it."""
    length = int.from_bytes(_read(source, 8), "big")
    if length > _LONGEST_HEADER:
        raise _spoilt("its header is too long")
    try:
        header = msgspec.json.decode(_read(source, length), type=Header)
    except msgspec.DecodeError as error:  # malformed, or of other types
        raise _spoilt(str(error)) from error
    _check(header)
    return header


def read_file(source: Source, size: int, sha256: str, target: Path) -> None:
    """The next file, into the new file ``target``. Raises :class:`InvalidRequest` unless it is what the
    header says; ``OSError`` where the disk cannot take it."""
    digest = hashlib.sha256()
    with target.open("xb") as file:
        left = size
        while left:
            chunk = _read(source, min(left, _CHUNK))
            digest.update(chunk)
            file.write(chunk)
            left -= len(chunk)
    if digest.hexdigest() != sha256:
        raise _spoilt(f"{target.name} is not what its header says")


def read_end(source: Source) -> None:
    if source.read(1):
        raise _spoilt("there is more in it than its header says")


def _check(header: Header) -> None:
    manifest = header.manifest
    if manifest.format != MANIFEST_FORMAT:
        raise _spoilt(f"its manifest has format {manifest.format}, this version reads {MANIFEST_FORMAT}")
    if manifest.bases:
        raise _spoilt("it does not stand alone")  # and would read what others have in memory
    names = manifest.snapshot.keys()
    if not _FILES - {"surroundings"} <= names <= _FILES:
        raise _spoilt(f"it holds {', '.join(sorted(names)) or 'nothing'}, which is no snapshot")
    if not _IMAGE_NAME.fullmatch(Path(manifest.root_image).name):
        raise _spoilt("its root image has an impossible name")
    for stored in (manifest.root, *manifest.snapshot.values()):
        if not 0 <= stored.size < _LARGEST_FILE or not _SHA256.fullmatch(stored.sha256):
            raise _spoilt("a file in it has an impossible size or hash")
    sizes = (manifest.resources.vcpu, manifest.resources.memory_mib, manifest.resources.disk_mib)
    if not all(0 < size < 1 << 24 for size in sizes):
        raise _spoilt("its sandboxes would have impossible resources")
    if len(header.host_key) != 32:
        raise _spoilt("its key is none")
    if header.name:
        parse_template_reference(header.name)


def _copy_out(path: Path, size: int, out: IO[bytes]) -> None:
    with path.open("rb") as file:
        left = size
        while left:
            chunk = file.read(min(left, _CHUNK))
            if not chunk:
                raise HostError(f"{path} is shorter than its manifest says: `./atoll doctor --deep`")
            out.write(chunk)
            left -= len(chunk)


def _read(source: Source, size: int) -> bytes:
    data = source.read(size)
    if len(data) < size:
        raise _spoilt("it ends too early")
    return data


def _spoilt(why: str) -> InvalidRequest:
    return InvalidRequest(f"the file is no snapshot that can be imported: {why}; export it again")
