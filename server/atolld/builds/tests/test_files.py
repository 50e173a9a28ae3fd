from __future__ import annotations

from pathlib import Path

import pytest

from atolld.builds.artefacts import Artefacts
from atolld.builds.files import remove_leftovers, replace_text, scratch, unfinished


def test_what_a_killed_run_left_is_gone_before_the_next_begins(tmp_path: Path):
    target = tmp_path / "tree"
    left = tmp_path / "tree.unfinished"
    left.mkdir()
    (left / "half").touch()
    with unfinished(target) as work:
        assert not any(work.iterdir())
        (work / "made").mkdir()
        (work / "made").rename(target)
    assert target.is_dir()
    assert not left.exists()


def test_a_failure_leaves_nothing(tmp_path: Path):
    def fail() -> None:
        with unfinished(tmp_path / "tree") as work:
            (work / "half").touch()
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert not any(tmp_path.iterdir())


def test_leftovers_of_every_kind_are_removed_and_nothing_else(tmp_path: Path):
    for name in ("making-x", "bin/envd-1.unfinished", "templates/t/b.unfinished", "templates/t/b", "logs"):
        (tmp_path / name).mkdir(parents=True)
    remove_leftovers(tmp_path)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert left == {"bin", "templates", "templates/t", "templates/t/b", "logs"}


def test_a_replaced_file_has_its_mode_from_the_start(tmp_path: Path):
    replace_text(tmp_path / "secret", "x", mode=0o600)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def test_an_artefact_is_kept_under_its_key_and_used_by_a_link(tmp_path: Path):
    artefacts = Artefacts(tmp_path)
    with scratch(tmp_path) as directory:
        (directory / "made").write_bytes(b"one")
        artefacts.keep("runsc", "aaaa", directory / "made")
    assert artefacts.current_key("runsc") is None
    artefacts.use("runsc", "aaaa")
    assert artefacts.current_key("runsc") == "aaaa"
    assert artefacts.runsc.read_bytes() == b"one"
    artefacts.forget("runsc")
    assert artefacts.current_key("runsc") is None
