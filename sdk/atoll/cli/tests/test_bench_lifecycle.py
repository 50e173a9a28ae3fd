from __future__ import annotations

import json
from pathlib import Path

import pytest

from atoll.cli.bench import parse_baselines
from atoll.cli.bench_lifecycle import against, draw_trace, within
from atoll.cli.guest import Guest
from atoll_wire.values import WireError

from .conftest import Command, Double


def test_a_fixed_promise_speaks_of_the_median_and_the_slow_ones() -> None:
    p50, p95 = within("create", [5.0, 10.0, 50.0], 12, p95=40)
    assert (p50.held, p95.held) == (True, False)
    assert within("create", [], 12) == []


def test_a_ratio_needs_a_baseline() -> None:
    (row,) = against("fork", [50.0], 0.5, 100.0, "ten restores")
    assert (row.judged, row.held) == (0.5, True)
    assert against("fork", [50.0], 0.5, None, "ten restores") == []
    assert against("fork", [50.0], 0.5, 0.0, "ten restores") == []


def test_a_trace_adds_up_to_what_the_client_saw() -> None:
    lines = draw_trace("create", 20.0, {"thaw": 1.0, "guest": 5.0, "warm": 1.0, "server": 10.0})
    assert lines[0] == "create: 20.0 ms"
    spans = {line[2:22].strip(): float(line[22:30]) for line in lines[1:]}
    assert spans == {"thaw": 1.0, "guest": 5.0, "else in the server": 4.0, "client, door, API": 10.0}


def test_baselines_beyond_the_restore_may_be_absent() -> None:
    baselines = parse_baselines(b'{"restore_ms": [1], "dd_ms": [2.5], "bytes": 7}')
    assert (baselines.restore_ms, baselines.answers_ms, baselines.dd_ms) == ([1.0], [], [2.5])
    with pytest.raises(WireError):
        parse_baselines(b'{"restore_ms": [1], "dd_ms": ["x"]}')


def test_bench_create_leaves_the_code_out_where_there_is_no_interpreter(
    server: Double, atoll: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no(guest: Guest) -> bool:
        return False

    monkeypatch.setattr(Guest, "has_interpreter", no)
    document = json.loads(atoll("bench", "create", "--template", "base", "--n", "1", "--json").out)
    assert "kill" in document["measures"]
    assert "run_code 1+1" not in document["measures"]
