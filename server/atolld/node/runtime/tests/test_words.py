"""What is told of all that pid 1 said, and that a server which comes back finds it."""

from __future__ import annotations

import os

import pytest

from atolld.node.runtime.words import Words, choose_words


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("", ""),
        ("envd: all is well\n", "envd: all is well\n"),
        ("envd: well\npanic: no luck\n\ngoroutine 1", "panic: no luck\n\ngoroutine 1"),
        ("envd: well\nfatal error: all asleep\n" + "x" * 9000, "fatal error: all asleep\n" + "x" * 1976),
        ("x" * 9000, "x" * 2000),
    ],
    ids=["nothing", "no reason", "a panic", "a long one", "much"],
)
def test_the_reason_is_told_where_there_is_one(said: str, told: str) -> None:
    assert choose_words(said) == told


def test_the_end_is_kept_wherever_it_is_written_and_found_by_the_next_server() -> None:
    words, later = Words(), Words()
    try:
        file = words.open("one")
        os.pwrite(file, b"at the offset of another file", 1 << 30)
        assert os.fstat(file).st_size < 100
        later.find("one", os.getpid())
        assert later.read("one") == words.read("one") == "at the offset of another file"
        assert words.read("two") == ""
    finally:
        for it in (words, later):
            it.close("one")
            it.close("one")
