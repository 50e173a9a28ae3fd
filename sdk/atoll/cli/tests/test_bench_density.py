"""The rows of `bench density`; the measuring itself needs root and is tried by hand."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from atoll.cli.bench_density import plan_rows

from .conftest import Command

STOCK = {"fresh_mib": [110.0], "restore_ms": [200.0], "forks_mib": [11000.0], "source_mib": [600.0]}
SHARED = {
    "fresh_mib": [16.0],
    "restore_ms": [90.0, 100.0, 400.0],
    "forks_mib": [950.0],
    "source_mib": [600.0],
}


def test_a_row_speaks_of_the_value_or_of_stock() -> None:
    rows = {row.name: row for row in plan_rows(STOCK, SHARED, has_swap=False)}
    fresh = rows["fresh sandbox: memory of the host"]
    assert (fresh.value, fresh.baseline, fresh.ratio, fresh.kept) == (16.0, 110.0, 16.0, True)
    restore = rows["restore into a blank until it answers"]
    assert (restore.ratio, restore.kept) == (0.5, True)
    assert rows["all forks of one that holds 500 MB"].kept is False


@pytest.mark.parametrize(("has_swap", "kept"), [(False, True), (True, False)])
def test_more_are_promised_alive_where_there_is_swap(has_swap: bool, kept: bool) -> None:
    shared = {"alive": [700.0], "alive_idle_cpu_percent": [5.0], "alive_mib": [20.0], "alive_run_ms": [9.0]}
    assert plan_rows({}, shared, has_swap)[0].kept is kept


def test_the_command_prints_what_the_servers_program_measured(
    atoll: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"template": "x", "swap": "/dev/zram0", "stock": STOCK, "shared": SHARED, "notes": ["made"]}

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        assert command[-2:] == ["--forks=20", "--step=crowd"]
        return subprocess.CompletedProcess(command, 0, json.dumps(said).encode())

    monkeypatch.setattr(subprocess, "run", run)
    document = json.loads(atoll("bench", "density", "--step", "crowd", "--json").out)
    assert (document["swap"], document["notes"]) == ("/dev/zram0", ["made"])
    assert document["measures"][0]["kept"] is True
    assert "paged out to /dev/zram0" in atoll("bench", "density", "--step", "crowd").out
