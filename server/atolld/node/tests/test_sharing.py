from __future__ import annotations

from pathlib import Path

import pytest

from atolld.config import read_config
from atolld.model.errors import InvalidRequest
from atolld.model.sandbox import Resources
from atolld.model.template import Build, Manifest, StoredFile
from atolld.node.runtime.protocol import Sharing
from atolld.node.runtime.runsc import copy_unit
from atolld.node.sharing import SharingRule


def build(directory: str, sha256: str = "ab") -> Build:
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
    )
    return Build(manifest, Path(directory), Path("r"))


def test_a_templates_sandboxes_share_by_the_hash_of_the_pages():
    assert SharingRule().decide(build("/h/templates/t/b")) == Sharing("ab")


@pytest.mark.parametrize(
    ("rule", "made"),
    [
        (SharingRule(wanted=False), build("/h/templates/t/b")),
        (SharingRule(unshared=frozenset({"tiny"})), build("/h/templates/t/b")),
        (SharingRule(), build("/h/templates/t/b", sha256="")),
        (SharingRule(), build("/h/snapshots/s")),
    ],
)
def test_all_others_load_their_pages(rule: SharingRule, made: Build):
    assert rule.decide(made) is None


@pytest.mark.parametrize(
    ("text", "shared", "unshared"), [("", True, set()), ("off", False, set()), ("off:a, b", True, {"a", "b"})]
)
def test_sharing_is_a_setting(text: str, shared: bool, unshared: set[str]):
    config = read_config({"ATOLL_SHARED_PAGES": text})
    assert (config.shared_pages, config.unshared_templates) == (shared, unshared)


def test_a_setting_that_says_nothing_is_refused():
    with pytest.raises(InvalidRequest, match="ATOLL_SHARED_PAGES"):
        read_config({"ATOLL_SHARED_PAGES": "off:"})


def test_copies_of_shared_pages_never_need_more_mappings_than_a_process_has():
    assert copy_unit(80 << 20) == 16 << 10
    assert (64 << 30) // copy_unit(64 << 30) < 32768
