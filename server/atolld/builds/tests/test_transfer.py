"""What a machine must have in common with the one a snapshot comes from, told before anything is restored."""

from __future__ import annotations

import io
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from atolld.builds.keys import hash_file
from atolld.builds.parcel import Header, write_parcel
from atolld.builds.transfer import Transfer
from atolld.builds.workshop import load_host_key
from atolld.config import Config
from atolld.model.errors import InvalidRequest
from atolld.model.sandbox import Resources
from atolld.model.template import Manifest, StoredFile
from atolld.node import GuestClient, Node

NAMES = ("checkpoint.img", "pages_meta.img", "pages.img")
RUNSC = "#!/bin/sh\necho sse2, avx\n"


def never(config: Config, guest: GuestClient) -> AbstractAsyncContextManager[Node]:
    raise AssertionError("it was restored")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A machine with a runsc, and no root image."""
    home = tmp_path / "home"
    (home / "bin").mkdir(parents=True)
    (home / "bin/runsc").write_text(RUNSC)
    (home / "bin/runsc").chmod(0o755)
    return Config(home=home)


@pytest.fixture
def manifest(config: Config) -> Manifest:
    """Of a snapshot that fits it, but for its root image."""
    key = load_host_key(config.home / "host-key")
    return Manifest(
        template_id="t",
        build_id="b",
        name="kept",
        created_at="2026-01-01T00:00:00Z",
        resources=Resources(),
        root_image="base-0123456789abcdef.erofs",
        root=StoredFile(4, sha256(b"root").hexdigest()),
        snapshot={name: StoredFile(4, sha256(b"some").hexdigest()) for name in NAMES},
        runsc_sha256=hash_file(config.home / "bin/runsc"),
        cpu_features=("sse2",),
        envd_version="0.6.13",
        fingerprint=GuestClient(key).snapshot_fingerprint,
    )


async def refusal(config: Config, manifest: Manifest, tmp_path: Path) -> str:
    """What importing it is answered with; nothing of it is left."""
    files = {name: tmp_path / name for name in NAMES}
    for path in files.values():
        path.write_bytes(b"some")
    parcel = io.BytesIO()
    write_parcel(parcel, Header(manifest, "kept", bytes(32), with_root=False), files, tmp_path / "root")
    parcel.seek(0)
    with pytest.raises(InvalidRequest) as refused:
        await Transfer(config, never).receive(parcel, "new", "t", None)
    assert not list(config.home.glob("snapshots/*"))
    assert not list(config.home.glob("roots/imported-*"))
    return refused.value.message


async def test_one_of_another_runsc_is_refused(config: Config, manifest: Manifest, tmp_path: Path) -> None:
    said = await refusal(config, replace(manifest, runsc_sha256="ab" * 32), tmp_path)
    assert "another runsc (abababababababab)" in said


async def test_one_of_another_version_is_refused(config: Config, manifest: Manifest, tmp_path: Path) -> None:
    said = await refusal(config, replace(manifest, fingerprint="0" * 64), tmp_path)
    assert "another version of Atoll" in said


async def test_one_of_a_processor_with_more_features_is_refused_by_their_names(
    config: Config, manifest: Manifest, tmp_path: Path
) -> None:
    said = await refusal(config, replace(manifest, cpu_features=("amx", "sse2", "vaes")), tmp_path)
    assert "amx, vaes" in said


async def test_one_whose_root_image_is_not_here_is_refused(
    config: Config, manifest: Manifest, tmp_path: Path
) -> None:
    said = await refusal(config, manifest, tmp_path)
    assert "base-0123456789abcdef.erofs" in said
    assert "--with-root" in said


async def test_a_root_image_of_that_name_with_other_contents_is_none(
    config: Config, manifest: Manifest, tmp_path: Path
) -> None:
    image = config.home / "roots" / manifest.root_image
    image.parent.mkdir()
    image.write_bytes(b"toor")
    said = await refusal(config, manifest, tmp_path)
    assert "not the same" in said
