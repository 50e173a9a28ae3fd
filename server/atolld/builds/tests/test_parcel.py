"""A parcel comes from anywhere: what is not exactly a snapshot is refused."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atolld.builds.parcel import Header, read_end, read_file, read_header, write_parcel
from atolld.builds.squeeze import squeezed, unsqueezed
from atolld.model.errors import InvalidRequest
from atolld.model.sandbox import Resources
from atolld.model.template import Manifest, StoredFile

CONTENTS = {name: name.encode() * 1000 for name in ("checkpoint.img", "pages_meta.img", "pages.img")}
ROOT = b"the root"


def stored(contents: bytes) -> StoredFile:
    return StoredFile(len(contents), hashlib.sha256(contents).hexdigest())


HEADER = Header(
    Manifest(
        template_id="t",
        build_id="b",
        name="kept",
        created_at="2026-01-01T00:00:00Z",
        resources=Resources(),
        root_image="base-0123456789abcdef.erofs",
        root=stored(ROOT),
        snapshot={name: stored(contents) for name, contents in CONTENTS.items()},
        runsc_sha256="0" * 64,
        cpu_features=("sse2",),
        envd_version="0.6.13",
    ),
    "kept:v1",
    bytes(32),
    with_root=True,
)


@pytest.fixture
def parcel(tmp_path: Path) -> bytes:
    files = {name: tmp_path / "from" / name for name in CONTENTS}
    (tmp_path / "from").mkdir()
    for name, path in files.items():
        path.write_bytes(CONTENTS[name])
    (tmp_path / "from/root").write_bytes(ROOT)
    out = io.BytesIO()
    write_parcel(out, HEADER, files, tmp_path / "from/root")
    return out.getvalue()


def unpack(parcel: bytes, directory: Path) -> Header:
    directory.mkdir()
    source = io.BytesIO(parcel)
    header = read_header(source)
    for name, entry in sorted(header.manifest.snapshot.items()):
        read_file(source, entry.size, entry.sha256, directory / name)
    read_file(source, header.manifest.root.size, header.manifest.root.sha256, directory / "root")
    read_end(source)
    return header


def test_what_was_packed_is_unpacked(parcel: bytes, tmp_path: Path) -> None:
    assert unpack(parcel, tmp_path / "to") == HEADER
    assert {path.name: path.read_bytes() for path in (tmp_path / "to").iterdir()} == {
        **CONTENTS,
        "root": ROOT,
    }


@pytest.mark.parametrize("length", [0, 7, 8, 100, 2000, -1])
def test_a_short_one_is_refused(parcel: bytes, tmp_path: Path, length: int) -> None:
    with pytest.raises(InvalidRequest, match="too early"):
        unpack(parcel[:length], tmp_path / "to")


def test_one_with_more_or_other_contents_is_refused(parcel: bytes, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="more in it"):
        unpack(parcel + b"x", tmp_path / "more")
    with pytest.raises(InvalidRequest, match="is not what its header says"):
        unpack(parcel[:-1] + b"?", tmp_path / "other")


def change(*path: str, to: object) -> Callable[[dict[str, Any]], None]:
    def act(header: dict[str, Any]) -> None:
        for name in path[:-1]:
            header = header[name]
        header[path[-1]] = to

    return act


@pytest.mark.parametrize(
    "act",
    [
        change("manifest", "snapshot", "../../etc/passwd", to={"size": 1, "sha256": "0" * 64}),
        change("manifest", "snapshot", to={}),
        change("manifest", "snapshot", "pages.img", to={"size": -1, "sha256": "0" * 64}),
        change("manifest", "snapshot", "pages.img", to={"size": 1 << 50, "sha256": "0" * 64}),
        change("manifest", "snapshot", "pages.img", to={"size": 1, "sha256": "x"}),
        change("manifest", "root_image", to="/etc/passwd"),
        change("manifest", "root_image", to=".."),
        change("manifest", "bases", to=[{"size": 1, "blake3": "0" * 64}]),
        change("manifest", "resources", to={"vcpu": 0, "memory_mib": 1, "disk_mib": 1}),
        change("manifest", "resources", to="none"),
        change("manifest", "envs", to={"A": ["b"]}),
        change("manifest", "format", to=99),
        change("manifest", to=None),
        change("host_key", to="AAAA"),
        change("host_key", to="no base64"),
        change("name", to="../x"),
    ],
)
def test_an_impossible_header_is_refused(parcel: bytes, act: Callable[[dict[str, Any]], None]) -> None:
    length = int.from_bytes(parcel[:8], "big")
    header = json.loads(parcel[8 : 8 + length])
    act(header)
    text = json.dumps(header).encode()
    with pytest.raises(InvalidRequest):
        read_header(io.BytesIO(len(text).to_bytes(8, "big") + text))


def test_a_header_without_end_is_not_read() -> None:
    with pytest.raises(InvalidRequest, match="too long"):
        read_header(io.BytesIO((1 << 40).to_bytes(8, "big")))


@pytest.mark.parametrize(("cut", "before", "after"), [(4, b"", b""), (0, b"", b"?"), (0, b"?", b"")])
def test_a_broken_stream_is_told_where_it_ends(tmp_path: Path, cut: int, before: bytes, after: bytes) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file, squeezed(file) as out:
        out.write(b"abc" * 100_000)
    whole = path.read_bytes()
    path.write_bytes(before + whole[: len(whole) - cut] + after)
    with (
        path.open("rb", buffering=0) as file,
        unsqueezed(file) as source,
        pytest.raises(InvalidRequest, match="damaged"),
    ):
        source.read(1 << 20)
