"""What `doctor --deep` calls wrong: one disagreement at a time."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from atolld.model.records import Deadline, SandboxRecord
from atolld.model.sandbox import Resources, SandboxId, State
from atolld.model.team import TeamId
from atolld.model.template import Manifest, StoredFile, encode_manifest
from atolld.node.inventory import Survey
from atolld.node.records import Record
from atolld.setup.checks.agreement import Base, Disk, Rows, find_disagreements
from atolld.setup.checks.deep import examine_files
from atolld.setup.checks.finding import Verdict

SLOT, OTHER = "0ad70006-aaaaaa", "0ad7000a-bbbbbb"


def row(sandbox_id: str, state: State = State.RUNNING, snapshot_id: str | None = None) -> SandboxRecord:
    now = datetime.now(UTC)
    return SandboxRecord(
        SandboxId(sandbox_id),
        TeamId("team"),
        "tbase",
        "bbase",
        "base",
        state,
        1,
        now,
        Deadline(now, 0, "boot"),
        Resources(),
        "0.6.13",
        None,
        snapshot_id=snapshot_id,
    )


def record(name: str, sandbox_id: str | None) -> Record:
    return Record(name, 1, None if sandbox_id is None else SandboxId(sandbox_id), Resources())


ROWS = Rows((row("ione"),), (row("itwo", State.PAUSED, "snap"),), frozenset({"kept"}), {"bbase": "tbase"})
DISK = Disk(frozenset({"snap", "kept"}), frozenset(), frozenset({"bbase"}))
MACHINE = Survey(
    {SLOT: record(SLOT, "ione")},
    {SLOT: frozenset({7})},
    frozenset({"0ad70006"}),
    frozenset({SLOT}),
    frozenset(),
)
BASE = StoredFile(1, blake3="cafe")
SHARING = replace(
    MACHINE,
    records={SLOT: replace(record(SLOT, "ione"), bases=(BASE,))},
    files={SLOT: frozenset({(1, 5)})},
)
BASED = replace(
    DISK,
    bases={"cafe": Base((1, 5), has_other_names=False)},
    needed={"cafe": ("snapshot kept (it)",)},
)
WARM = replace(
    MACHINE,
    records={**MACHINE.records, OTHER: record(OTHER, None)},
    namespaces={**MACHINE.namespaces, OTHER: frozenset({8})},
    links=frozenset({"0ad70006", "0ad7000a", "0ad7000e"}),
    cgroups=frozenset({SLOT, OTHER}),
)


def test_bases_that_are_mapped_needed_or_a_templates_are_right() -> None:
    assert list(find_disagreements(ROWS, BASED, SHARING, serving=True)) == []
    template = replace(DISK, bases={"cafe": Base((1, 5), has_other_names=True)})
    assert list(find_disagreements(ROWS, template, MACHINE, serving=True)) == []


@pytest.mark.parametrize("machine", [MACHINE, WARM], ids=["as the rows say", "and what a server keeps ready"])
def test_nothing_is_wrong_when_all_agree(machine: Survey) -> None:
    assert list(find_disagreements(ROWS, DISK, machine, serving=True)) == []


@pytest.mark.parametrize(
    ("rows", "disk", "machine", "said"),
    [
        (replace(ROWS, moving=(row("ione"), row("ix"))), DISK, MACHINE, "ix is running by its row"),
        (replace(ROWS, moving=()), DISK, MACHINE, "ione runs, and no row"),
        (ROWS, replace(BASED, bases={}), MACHINE, "cafe.img is not there; on it stand: snapshot kept"),
        (ROWS, DISK, SHARING, f"the sandbox in {SLOT} maps it"),
        (ROWS, BASED, replace(SHARING, files={SLOT: frozenset({(1, 6)})}), "maps another file than"),
        (ROWS, replace(BASED, needed={}), MACHINE, "cafe.img takes room"),
        (
            ROWS,
            DISK,
            replace(WARM, records={SLOT: record(SLOT, "ione"), OTHER: record(OTHER, "ione")}),
            "ione runs 2 times",
        ),
        (
            ROWS,
            replace(DISK, snapshots=frozenset({"kept"})),
            MACHINE,
            "itwo is paused, and its snapshot snap",
        ),
        (ROWS, replace(DISK, snapshots=frozenset({"snap"})), MACHINE, "kept has a row and no files"),
        (ROWS, replace(DISK, snapshots=frozenset({"snap", "kept", "x"})), MACHINE, "x takes room"),
        (ROWS, replace(DISK, unfinished=frozenset({"y.unfinished"})), MACHINE, "half-written"),
        (ROWS, replace(DISK, builds=frozenset()), MACHINE, "bbase of template tbase"),
        (ROWS, DISK, replace(MACHINE, links=frozenset()), "no link"),
        (ROWS, DISK, replace(MACHINE, cgroups=frozenset()), "no limits"),
        (ROWS, DISK, replace(MACHINE, cgroups=frozenset({SLOT, OTHER})), f"cgroup {OTHER}"),
        (ROWS, DISK, replace(WARM, records=MACHINE.records), f"{OTHER} runs, and has no directory"),
        (ROWS, DISK, replace(WARM, namespaces=MACHINE.namespaces), "nothing runs in it"),
        (ROWS, DISK, replace(WARM, records={**WARM.records, OTHER: None}), "no record"),
        (
            ROWS,
            DISK,
            replace(WARM, namespaces=dict.fromkeys((SLOT, OTHER), frozenset({7}))),
            "shares its network",
        ),
        (ROWS, DISK, replace(MACHINE, mounts=frozenset({"/x/run/m"})), "umount /x/run/m"),
    ],
)
def test_each_disagreement_is_named(rows: Rows, disk: Disk, machine: Survey, said: str) -> None:
    found = list(find_disagreements(rows, disk, machine, serving=True))
    assert any(said in f"{it.detail} {it.mend}" for it in found), found
    assert all(it.mend for it in found)


def test_without_a_server_nothing_may_wait_for_one() -> None:
    found = {it.name for it in find_disagreements(ROWS, DISK, WARM, serving=False)}
    assert found == {"directories", "links"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Two snapshots on one root."""
    (tmp_path / "roots").mkdir()
    (tmp_path / "roots/base-1.erofs").write_bytes(b"root")
    for name in ("one", "two"):
        directory = tmp_path / "snapshots" / name
        (directory / "snapshot").mkdir(parents=True)
        (directory / "snapshot/pages.img").write_bytes(name.encode())
        manifest = Manifest(
            template_id="t",
            build_id=name,
            name=f"name of {name}",
            created_at="",
            resources=Resources(),
            root_image="base-1.erofs",
            root=stored(b"root"),
            snapshot={"pages.img": stored(name.encode())},
            runsc_sha256="",
            cpu_features=(),
            envd_version="",
        )
        (directory / "manifest.json").write_text(encode_manifest(manifest))
    return tmp_path


def stored(contents: bytes) -> StoredFile:
    return StoredFile(len(contents), hashlib.sha256(contents).hexdigest())


def test_files_that_are_as_they_were_written_are_good(home: Path) -> None:
    (found,) = examine_files(home)
    assert found.verdict is Verdict.OK
    assert found.detail.startswith("3 files")


@pytest.mark.parametrize(
    ("file", "contents", "said"),
    [
        ("snapshots/one/snapshot/pages.img", "onE", "other contents"),
        ("snapshots/one/snapshot/pages.img", "o", "1 bytes instead of 3"),
        ("snapshots/one/snapshot/pages.img", None, "No such file"),
        ("snapshots/one/manifest.json", "{", "cannot be read"),
        ("roots/base-1.erofs", "rOot", "snapshot two (name of two)"),
    ],
)
def test_a_damaged_file_and_all_that_stands_on_it_are_named(
    home: Path, file: str, contents: str | None, said: str
) -> None:
    if contents is None:
        (home / file).unlink()
    else:
        (home / file).write_text(contents)
    (found,) = examine_files(home)
    assert found.verdict is Verdict.FAILED
    assert said in found.detail
    assert found.mend
