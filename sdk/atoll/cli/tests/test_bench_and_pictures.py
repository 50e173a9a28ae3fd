import base64
import json
import stat
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.cli import pictures
from atoll.cli.bench import parse_baselines, summarise
from atoll_wire.executions import Count, Result
from atoll_wire.values import WireError

from .conftest import Command, Double


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200))
def test_percentiles_are_measured_values_in_order(values: list[float]) -> None:
    summary = summarise(values)
    assert summary.n == len(values)
    assert {summary.min, summary.p50, summary.p95} <= set(values)
    assert summary.min <= summary.p50 <= summary.p95


def test_percentiles_are_by_nearest_rank() -> None:
    summary = summarise([float(value) for value in range(1, 101)])
    assert (summary.min, summary.p50, summary.p95) == (1, 50, 95)
    assert summarise([7.0]).p95 == 7


@pytest.mark.parametrize(
    "output", [b"", b"{}", b'{"restore_ms":[]}', b'{"restore_ms":["fast"]}', b'{"restore_ms":[0]}']
)
def test_a_baseline_that_makes_no_sense_is_none(output: bytes) -> None:
    with pytest.raises(WireError):
        parse_baselines(output)


def write_baseline(directory: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    program = directory / "python"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(program))


def test_bench_measures_every_step_beside_the_baseline(
    server: Double, atoll: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.says(Count(1), Result({"text": "2"}, True))
    write_baseline(tmp_path, monkeypatch, """echo '{"restore_ms": [10, 20, 30]}'""")
    document = json.loads(atoll("bench", "create", "--n", "3", "--json").out)
    counts = {name: summary["n"] for name, summary in document["measures"].items()}
    assert counts == {
        "cold create": 3,
        "warm create": 3,
        "first run_code": 6,
        "run_code 1+1": 6,
        "kill": 6,
        "bare runsc restore": 3,
    }
    assert document["coldToRestoreP50"] == pytest.approx(
        document["measures"]["cold create"]["p50"] / 20, abs=0.001
    )
    creates = [r.headers.get("atoll-start") for r in server.seen if r.path == "/v2/sandboxes"]
    assert creates == ["cold"] * 3 + [None] * 3


def test_bench_believes_what_the_server_says_of_a_create(
    server: Double, atoll: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.create_headers = {"Server-Timing": "restore;dur=90"}
    server.says()
    write_baseline(tmp_path, monkeypatch, "echo 'runsc is missing' >&2; exit 1")
    ended = atoll("bench", "create", "--n", "1")
    assert ended.code == 0
    assert "warm create" not in ended.out
    assert "no create was warm" in ended.err
    assert "runsc is missing" in ended.err


PNG = b"\x89PNG" + bytes(5000)
RESULT = Result({"text": "t", "png": base64.b64encode(PNG).decode(), "chart": {}, "json": {"a": 1}})


def test_files_of_a_result() -> None:
    assert set(pictures.plan_files(RESULT, 2)) == {"result-2.png", "result-2.json"}


def test_a_damaged_picture_is_no_file_and_never_reaches_the_terminal() -> None:
    evil = Result({"png": "\033]0;owned\a"})
    assert pictures.plan_files(evil, 1) == {}
    assert pictures.draw(evil, "kitty") is None
    assert pictures.draw(evil, "iterm") is None


def test_kitty_gets_chunks_that_make_the_picture() -> None:
    drawn = pictures.draw(RESULT, "kitty")
    assert drawn is not None
    commands = [part for part in drawn.split("\033\\") if part.startswith("\033_G")]
    assert commands[0].startswith("\033_Ga=T,f=100,q=2,m=1;")
    assert commands[-1].startswith("\033_Gm=0;")
    payload = "".join(command.split(";", 1)[1] for command in commands)
    assert base64.b64decode(payload) == PNG


def test_iterm_gets_the_picture_in_one_sequence() -> None:
    drawn = pictures.draw(RESULT, "iterm")
    assert drawn is not None
    assert drawn.startswith(f"\033]1337;File=inline=1;size={len(PNG)};")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM_PROGRAM": "iTerm.app"}, "iterm"),
        ({"TERM_PROGRAM": "WezTerm"}, "iterm"),
        ({"LC_TERMINAL": "iTerm2"}, "iterm"),
        ({"TERM": "xterm-256color"}, None),
        ({"KITTY_WINDOW_ID": "1", "TMUX": "x"}, None),
        ({}, None),
    ],
)
def test_terminals_that_draw(environ: dict[str, str], expected: str | None) -> None:
    assert pictures.terminal_protocol(environ) == expected
