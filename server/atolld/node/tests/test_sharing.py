from __future__ import annotations

from pathlib import Path

import pytest

from atolld.config import read_config
from atolld.model.errors import InvalidRequest
from atolld.model.sandbox import Resources
from atolld.model.template import Build, Manifest, StoredFile
from atolld.node.runtime.protocol import Sharing
from atolld.node.runtime.runsc import copy_unit
from atolld.node.sharing import MOST_BASES, SharingRule, list_bases, should_flatten

BASE = StoredFile(5, "cd")


def build(directory: str, sha256: str = "ab", bases: tuple[StoredFile, ...] = ()) -> Build:
    manifest = Manifest(
        template_id="t",
        build_id="b",
        name="tiny",
        created_at="",
        resources=Resources(),
        root_image="r",
        root=StoredFile(0, ""),
        snapshot={"pages.img": StoredFile(1, sha256)},
        runsc_sha256="",
        cpu_features=(),
        envd_version="",
        bases=bases,
    )
    return Build(manifest, Path(directory), Path("r"))


def test_a_templates_sandboxes_share_by_the_hash_of_the_pages():
    assert SharingRule().decide(build("/h/templates/t/b"), able=True) == Sharing("ab")


def test_a_snapshots_clones_share_its_pages_and_those_of_its_bases():
    delta = build("/h/snapshots/s", bases=(BASE,))
    assert SharingRule().decide(delta, able=True) == Sharing("ab", {"cd": Path("/h/bases/cd.img")})
    assert list_bases(delta, SharingRule().decide(delta, able=True)) == (BASE, StoredFile(1, "ab"))


def test_a_delta_is_given_its_bases_even_where_nothing_is_to_be_shared():
    delta = build("/h/snapshots/s", bases=(BASE,))
    sharing = SharingRule(wanted=False).decide(delta, able=False)
    assert sharing == Sharing("", {"cd": Path("/h/bases/cd.img")})
    assert list_bases(delta, sharing) == (BASE,)


def test_a_snapshot_is_flattened_when_it_stands_on_many_bases():
    assert not should_flatten([BASE] * MOST_BASES, 0, 1024)
    assert should_flatten([BASE] * (MOST_BASES + 1), 0, 1024)


def test_it_is_not_flattened_when_the_copies_would_end_the_sandbox():
    large = StoredFile(200 << 20, "cd")
    assert not should_flatten([large] * 4, 300 << 20, 1024)


@pytest.mark.parametrize(
    ("rule", "made"),
    [
        (SharingRule(wanted=False), build("/h/templates/t/b")),
        (SharingRule(unshared=frozenset({"tiny"})), build("/h/templates/t/b")),
        (SharingRule(), build("/h/templates/t/b", sha256="")),
        (SharingRule(least=2), build("/h/templates/t/b")),
    ],
)
def test_all_others_load_their_pages(rule: SharingRule, made: Build):
    assert rule.decide(made, able=True) is None


def test_few_pages_of_a_delta_are_loaded_and_its_bases_shared():
    delta = build("/h/snapshots/s", bases=(BASE,))
    sharing = SharingRule(least=2).decide(delta, able=True)
    assert sharing == Sharing("", {"cd": Path("/h/bases/cd.img")})


def test_a_runtime_that_cannot_share_is_not_asked_to():
    assert SharingRule().decide(build("/h/templates/t/b"), able=False) is None


@pytest.mark.parametrize(
    ("text", "shared", "unshared"), [("", True, ""), ("off", False, ""), ("off:a, b", True, "ab")]
)
def test_sharing_is_a_setting(text: str, shared: bool, unshared: str):
    config = read_config({"ATOLL_SHARED_PAGES": text})
    assert (config.shared_pages, config.unshared_templates) == (shared, set(unshared))


def test_a_setting_that_says_nothing_is_refused():
    with pytest.raises(InvalidRequest, match="ATOLL_SHARED_PAGES"):
        read_config({"ATOLL_SHARED_PAGES": "off:"})


def test_copies_of_shared_pages_never_need_more_mappings_than_a_process_has():
    assert copy_unit(80 << 20) == 8 << 10
    assert (64 << 30) // copy_unit(64 << 30) < 32768
