import json

from atoll.cli.bench_interpreter import (
    FIRST,
    IMPORT,
    JUPYTER,
    JUPYTER_PRINTS,
    LIVING,
    PRINTS,
    TENTH,
    UNREADY,
    Findings,
    promises,
)
from atoll_wire.executions import Failure, Stdout
from atoll_wire.process import Ended, Output, Started

from .conftest import Command, Double


def test_it_measures_everything_and_prints_what_is_promised(server: Double, atoll: Command) -> None:
    server.says(Stdout("12.5"))
    server.create_headers = {"Server-Timing": "warm;dur=1"}
    server.process_says(Started(7), Output("stdout", b'{"ms": [4]}'), Ended(0, True, "exit status 0"))
    document = json.loads(atoll("bench", "interpreter", "--n", "2", "--json").out)
    counts = {name: summary["n"] for name, summary in document["measures"].items()}
    assert counts[FIRST] == counts[TENTH] == counts[IMPORT] == 2
    assert counts[UNREADY] == 1
    assert counts[LIVING] == 20
    assert document["measures"][IMPORT]["p50"] == 12.5
    assert document["measures"][JUPYTER]["p50"] == 4
    assert set(document["languages"]) == {"bash", "javascript", "typescript", "r", "java"}
    assert document["languages"]["r"]["kernelStart"] == 4
    assert any(line.startswith("memory") for line in document["missing"])
    assert not any(line.startswith("first") for line in document["missing"])


def test_code_that_fails_is_told(server: Double, atoll: Command) -> None:
    server.process_says(Ended(1, True, "exit status 1"))
    server.says(Failure("NameError", "no", ""))
    ended = atoll("bench", "interpreter", "--n", "1")
    assert ended.code == 1
    assert "NameError" in ended.err


def test_the_promises_are_differences_and_ratios() -> None:
    findings = Findings(languages={"r": (300.0, 200.0)}, memory_mib={"a": 60.0, "b": 5.0})
    for name, value in (
        (LIVING, 5),
        (JUPYTER, 3),
        (FIRST, 6),
        (TENTH, 4),
        (PRINTS, 400),
        (JUPYTER_PRINTS, 300),
    ):
        findings.add(name, float(value))
    findings.add(IMPORT, 4.0)
    assert list(promises(findings).values()) == [2, 0.75, 1.5, 4, 1.5, 65]
