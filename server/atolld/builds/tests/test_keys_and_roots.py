from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from atolld.builds.keys import hash_file, key_of, key_of_files
from atolld.builds.registries import read_registries
from atolld.builds.roots import BASE, CODE_INTERPRETER, LANGUAGES, Roots, lineage
from atolld.builds.sources import Clone
from atolld.model.template import StoredFile


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    package = tmp_path / "clone/guest/interpreter/atoll_guest"
    package.mkdir(parents=True)
    (package / "server.py").write_text("pass\n")
    for name in ("requirements.lock", "package.json", "package-lock.json"):
        (package.parent / name).write_text("numpy==2\n")
    return Clone(tmp_path / "clone")


@pytest.fixture
def envd(tmp_path: Path) -> Path:
    path = tmp_path / "home/bin/envd-0123/envd"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"daemon")
    return path


def open_roots(tmp_path: Path, clone: Clone) -> Roots:
    return Roots(tmp_path / "home", clone, read_registries({"HOME": str(tmp_path)}, tmp_path), Path("/uv"))


def test_where_a_part_ends_counts():
    assert key_of("ab", "c") != key_of("a", "bc")


def test_a_files_name_counts_as_well_as_its_contents(tmp_path: Path):
    (tmp_path / "a").write_text("x")
    before = key_of_files(tmp_path, [tmp_path / "a"])
    (tmp_path / "a").rename(tmp_path / "b")
    assert key_of_files(tmp_path, [tmp_path / "b"]) != before


def test_a_change_of_the_interpreter_costs_an_image_and_no_tree(tmp_path: Path, clone: Clone, envd: Path):
    before = open_roots(tmp_path, clone)
    (clone.interpreter / "atoll_guest/server.py").write_text("changed\n")
    after = open_roots(tmp_path, clone)
    assert after.tree_path(CODE_INTERPRETER) == before.tree_path(CODE_INTERPRETER)
    assert after.image_path(CODE_INTERPRETER, envd) != before.image_path(CODE_INTERPRETER, envd)
    assert after.image_path(BASE, envd) == before.image_path(BASE, envd)


def test_a_change_of_the_locked_packages_costs_the_layer_and_not_its_base(tmp_path: Path, clone: Clone):
    before = open_roots(tmp_path, clone)
    clone.interpreter_lock.write_text("numpy==3\n")
    after = open_roots(tmp_path, clone)
    assert after.tree_path(CODE_INTERPRETER) != before.tree_path(CODE_INTERPRETER)
    assert after.tree_path(BASE) == before.tree_path(BASE)


def test_the_languages_lie_over_the_interpreter_and_change_with_it(tmp_path: Path, clone: Clone):
    assert lineage(LANGUAGES) == [LANGUAGES, CODE_INTERPRETER, BASE]
    before = open_roots(tmp_path, clone)
    (clone.interpreter / "package-lock.json").write_text("{}")
    after = open_roots(tmp_path, clone)
    assert after.tree_path(LANGUAGES) != before.tree_path(LANGUAGES)
    assert after.tree_path(BASE) == before.tree_path(BASE)


def test_something_made_before_is_noticed_whatever_its_key(tmp_path: Path, clone: Clone):
    roots = open_roots(tmp_path, clone)
    assert not roots.has_any(LANGUAGES)
    (tmp_path / "home/cache/trees/languages-0123").mkdir(parents=True)
    assert roots.has_any(LANGUAGES)


def test_tests_and_bytecode_are_no_part_of_the_interpreter(tmp_path: Path, clone: Clone, envd: Path):
    before = open_roots(tmp_path, clone).image_path(CODE_INTERPRETER, envd)
    for name in ("tests/test_it.py", "__pycache__/server.pyc"):
        path = clone.interpreter / "atoll_guest" / name
        path.parent.mkdir()
        path.write_text("x")
    assert open_roots(tmp_path, clone).image_path(CODE_INTERPRETER, envd) == before


def test_an_image_counts_only_with_what_vouches_for_it_and_its_whole_size(
    tmp_path: Path, clone: Clone, envd: Path
):
    roots = open_roots(tmp_path, clone)
    image = roots.image_path(BASE, envd)
    image.parent.mkdir(parents=True)
    image.write_bytes(b"1234")
    assert roots.find(BASE, envd) is None
    file = StoredFile(4, hash_file(image))
    image.with_suffix(".json").write_text(json.dumps({"file": asdict(file)}))
    found = roots.find(BASE, envd)
    assert found is not None
    assert found.file == file
    image.write_bytes(b"123")
    assert roots.find(BASE, envd) is None


def test_pruning_keeps_what_is_used_and_what_is_fresh(tmp_path: Path, clone: Clone):
    roots = open_roots(tmp_path, clone)
    folder = tmp_path / "home/roots"
    folder.mkdir(parents=True)
    for name, age in (("base-used.erofs", 9999), ("base-old.erofs", 9999), ("base-fresh.erofs", 0)):
        (folder / name).write_bytes(b"")
        changed = time.time() - age
        os.utime(folder / name, (changed, changed))
    roots.prune({"base-used.erofs"})
    assert sorted(path.name for path in folder.iterdir()) == ["base-fresh.erofs", "base-used.erofs"]
