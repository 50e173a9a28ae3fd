import os
import shutil
import subprocess

import pytest

from atoll_guest.interpreter import languages
from atoll_guest.interpreter.languages import Assignment

NASTY = "a'b\"c $HOME `x` \\ \n é"


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (None, "python"),
        ("", "python"),
        (" Python ", "python"),
        ("JS", "javascript"),
        ("ts", "typescript"),
        ("R", "r"),
        ("Bash", "bash"),
        ("klingon", "klingon"),
    ],
)
def test_names_are_normalised(given: str | None, name: str) -> None:
    assert languages.normalise(given) == name


def test_undoing_restores_what_was_there_and_removes_the_rest() -> None:
    plan = languages.plan_undo({"A": "1", "B": "2"}, {"A": "0", "C": "3"})
    assert plan == Assignment({"A": "0"}, ("B",))


def test_bash_gets_any_value_unchanged() -> None:
    code = languages.environment_code("bash", Assignment({"X": NASTY}))
    done = subprocess.run(["bash", "-c", code + '\nprintf %s "$X"'], capture_output=True, check=True)
    assert done.stdout.decode() == NASTY


def test_bash_removes_a_variable() -> None:
    code = languages.environment_code("bash", Assignment({}, ("X",)))
    done = subprocess.run(
        ["bash", "-c", code + "\necho ${X-gone}"],
        capture_output=True,
        check=True,
        env={**os.environ, "X": "1"},
    )
    assert done.stdout == b"gone\n"


@pytest.mark.skipif(shutil.which("node") is None, reason="no node on this machine")
def test_javascript_gets_any_value_unchanged() -> None:
    code = languages.environment_code("javascript", Assignment({"X": NASTY}, ("Y",)))
    done = subprocess.run(
        ["node", "-e", code + "\nprocess.stdout.write(process.env.X)"], capture_output=True, check=True
    )
    assert done.stdout.decode() == NASTY


def test_a_language_without_a_known_way_gets_no_code() -> None:
    assert languages.environment_code("ruby", Assignment({"X": "1"})) == ""


@pytest.mark.parametrize(
    ("language", "told"), [("python", "onetwo\nthree"), ("r", "one\ntwo\nthree"), ("java", "one\ntwo\nthree")]
)
def test_lines_of_a_traceback_that_lack_their_ends_get_them(language: str, told: str) -> None:
    assert languages.read_traceback(language, ["one", "two\n", "three"]) == told
