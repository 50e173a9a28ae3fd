from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from atolld.model.errors import BuildDamaged
from atolld.model.sandbox import Resources, SandboxId
from atolld.model.template import Build
from atolld.node.doubles import fake_build
from atolld.node.records import Record, read_records, write_record
from atolld.node.verify import BuildVerifier

ANYTHING = frozenset({"sse2", "avx"})
RUNSC = "0" * 64
HOST_KEY = "of this host"


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "verified.json"


async def test_a_build_that_is_as_its_manifest_says_is_good(build: Build, memory: Path) -> None:
    verifier = BuildVerifier(RUNSC, ANYTHING, HOST_KEY, memory)
    await verifier.verify(build)
    await verifier.verify(build)


async def test_a_truncated_file_is_found_without_hashing(build: Build, memory: Path) -> None:
    verifier = BuildVerifier(RUNSC, ANYTHING, HOST_KEY, memory)
    await verifier.verify(build)
    os.truncate(build.root_path, 10)
    with pytest.raises(BuildDamaged, match="10 bytes instead of"):
        await verifier.verify(build)


async def test_a_file_changed_after_it_was_good_is_hashed_again(build: Build, memory: Path) -> None:
    verifier = BuildVerifier(RUNSC, ANYTHING, HOST_KEY, memory)
    await verifier.verify(build)
    path = build.snapshot_path / "checkpoint.img"
    path.write_bytes(b"evil\n")
    os.utime(path, ns=(1, 1))
    with pytest.raises(BuildDamaged, match="contents"):
        await verifier.verify(build)


async def test_a_missing_file_is_found(build: Build, memory: Path) -> None:
    (build.snapshot_path / "pages.img").unlink()
    with pytest.raises(BuildDamaged, match="setup --rebuild base"):
        await BuildVerifier(RUNSC, ANYTHING, HOST_KEY, memory).verify(build)


@pytest.mark.parametrize(("runsc", "features", "why"), [("1", ANYTHING, "another runsc"), ("0", (), "sse2")])
async def test_a_build_for_another_runsc_or_processor_is_refused(
    build: Build, memory: Path, runsc: str, features: tuple[str, ...], why: str
) -> None:
    with pytest.raises(BuildDamaged, match=why):
        await BuildVerifier(runsc * 64, frozenset(features), HOST_KEY, memory).verify(build)


async def test_a_build_whose_daemon_obeys_another_host_is_refused(build: Build, memory: Path) -> None:
    other = replace(build, manifest=replace(build.manifest, host_key="of another host"))
    with pytest.raises(BuildDamaged, match="another host"):
        await BuildVerifier(RUNSC, ANYTHING, HOST_KEY, memory).verify(other)


async def test_a_restarted_server_hashes_nothing_again(
    build: Build, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await BuildVerifier(RUNSC, ANYTHING, HOST_KEY, memory).verify(build)

    def hash_nothing(path: Path) -> str:
        raise AssertionError(f"{path} was hashed again")

    monkeypatch.setattr("atolld.node.verify.hash_file", hash_nothing)
    await BuildVerifier(RUNSC, ANYTHING, HOST_KEY, memory).verify(build)


@pytest.mark.parametrize("text", ["", "[]", "{", "7"])
async def test_a_broken_memory_is_none(build: Build, memory: Path, text: str) -> None:
    await asyncio.to_thread(memory.write_text, text)
    await BuildVerifier(RUNSC, ANYTHING, HOST_KEY, memory).verify(build)


async def test_a_build_of_more_cpu_features_is_refused_by_name(tmp_path: Path, memory: Path) -> None:
    build = fake_build(tmp_path)
    build = replace(build, manifest=replace(build.manifest, cpu_features=("amx_tile", "sse2")))
    with pytest.raises(BuildDamaged, match="amx_tile"):
        await BuildVerifier(RUNSC, ANYTHING, HOST_KEY, memory).verify(build)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    directory = tmp_path / "s1"
    directory.mkdir()
    record = Record("s1", 7, SandboxId("i1"), Resources(1, 2, 3), allow_internet=False)
    write_record(directory, record)
    assert read_records(tmp_path) == {directory: record}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "name": "x"}', "\0"])
def test_a_directory_with_a_broken_record_is_still_found(tmp_path: Path, text: str) -> None:
    (tmp_path / "s1").mkdir()
    (tmp_path / "s1" / "record.json").write_text(text)
    assert read_records(tmp_path) == {tmp_path / "s1": None}


def test_no_directory_means_no_records(tmp_path: Path) -> None:
    assert read_records(tmp_path / "nothing") == {}
