"""Language × behaviour as one table, each through the whole service with the real kernel.

A language whose kernel is not on this machine is skipped; in the template, all are there.
"""

import json
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from atoll_guest.interpreter import kernelspecs

from .conftest import Client


@dataclass(frozen=True)
class Row:
    """Code per behaviour; what is expected is the same for all languages but `error`."""

    language: str
    two: str
    hello: str
    both: str
    define: str
    use: str
    throw: str
    error: tuple[str, str]
    forever: str
    variable: str
    large: str
    slow: str


TABLE = [
    Row(
        "python",
        two="1+1",
        hello="print('hällo 🎈')",
        both="import sys\nprint('out')\nprint('err', file=sys.stderr)",
        define="x = 41",
        use="print(x + 1)",
        throw="raise ValueError('bad')",
        error=("ValueError", "bad"),
        forever="while True: pass",
        variable="import os; print(os.environ.get('V', 'gone'))",
        large="for _ in range(1000): print('x' * 9999)",
        slow="import time\nprint('one'); time.sleep(0.4); print('two')",
    ),
    Row(
        "javascript",
        two="1+1",
        hello="console.log('hällo 🎈')",
        both="console.log('out'); console.error('err')",
        define="const x = 41",
        use="console.log(x + 1)",
        throw="throw new RangeError('bad')",
        error=("RangeError", "bad"),
        forever="while (true) {}",
        variable="console.log(process.env.V ?? 'gone')",
        large="for (let i = 0; i < 1000; i++) console.log('x'.repeat(9999))",
        slow="console.log('one'); await new Promise(r => setTimeout(r, 400)); console.log('two')",
    ),
    Row(
        "typescript",
        two="(1+1) as number",
        hello="console.log('hällo 🎈' as string)",
        both="console.log('out'); console.error('err')",
        define="const x: number = 41",
        use="console.log(x + 1)",
        throw="throw new RangeError('bad')",
        error=("RangeError", "bad"),
        forever="while (true) {}",
        variable="console.log(process.env.V ?? 'gone')",
        large="for (let i: number = 0; i < 1000; i++) console.log('x'.repeat(9999))",
        slow="console.log('one'); await new Promise(r => setTimeout(r, 400)); console.log('two')",
    ),
    Row(
        "bash",
        two="",
        hello="echo 'hällo 🎈'",
        both="echo out; echo err >&2",
        define="x=41; f() { echo $((x + 1)); }; cd /",
        use="f",
        throw="no_such_command",
        error=("ExitStatus", "127"),
        forever="while :; do :; done",
        variable="echo ${V-gone}",
        large="for i in $(seq 1000); do printf '%09999d\\n' 0; done",
        slow="echo one; sleep 0.4; echo two",
    ),
    Row(
        "r",
        two="1+1",
        hello="cat('hällo 🎈\\n')",
        both="cat('out\\n'); message('err')",
        define="x <- 41",
        use="cat(x + 1, '\\n', sep='')",
        throw="stop('bad')",
        error=("ERROR", "bad"),
        forever="while (TRUE) {}",
        variable="cat(Sys.getenv('V', 'gone'), '\\n', sep='')",
        large="for (i in 1:1000) cat(strrep('x', 9999), '\\n', sep='')",
        slow="cat('one\\n'); flush.console(); Sys.sleep(0.4); cat('two\\n')",
    ),
    Row(
        "java",
        two="1+1",
        hello='System.out.println("hällo 🎈");',
        both='System.out.println("out"); System.err.println("err");',
        define="int x = 41;",
        use="System.out.println(x + 1);",
        throw='throw new IllegalStateException("bad");',
        error=("RuntimeException", "bad"),
        forever="while (true) {}",
        variable='System.out.println(System.getProperty("V", "gone"));',
        large='for (int i = 0; i < 1000; i++) System.out.println("x".repeat(9999));',
        slow='System.out.println("one"); Thread.sleep(400); System.out.println("two");',
    ),
]


@pytest.fixture(params=TABLE, ids=[row.language for row in TABLE], scope="module")
def row(request: pytest.FixtureRequest) -> Row:
    row: Row = request.param
    if row.language != "python":
        try:
            kernelspecs.find(row.language)
        except kernelspecs.NoKernel:
            pytest.skip(f"no kernel for {row.language} on this machine")
    return row


def printed(
    client: Client, row: Row, code: str, name: str = "stdout", env: Mapping[str, str] | None = None
) -> str:
    events = client.execute(code, language=row.language, env_vars=env)
    return "".join(event["text"] for event in events if event["type"] == name)


def test_an_expression_has_a_result(service: Client, row: Row) -> None:
    if row.two:
        assert service.main_text(row.two, language=row.language).removeprefix("[1] ") == "2"


def test_unicode_is_printed(service: Client, row: Row) -> None:
    assert printed(service, row, row.hello) == "hällo 🎈\n"


def test_both_streams_are_told_apart(service: Client, row: Row) -> None:
    assert printed(service, row, row.both) == "out\n"
    assert printed(service, row, row.both, "stderr") == "err\n"


def test_state_is_kept(service: Client, row: Row) -> None:
    service.execute(row.define, language=row.language)
    assert printed(service, row, row.use) == "42\n"


def test_an_error_has_its_name_and_value_and_no_colours(service: Client, row: Row) -> None:
    events = service.execute(row.throw, language=row.language)
    (error,) = (event for event in events if event["type"] == "error")
    assert error["name"] == row.error[0]
    assert row.error[1] in error["value"]
    assert "\x1b" not in error["traceback"]
    assert error["traceback"]


def test_a_variable_is_set_for_one_execution(service: Client, row: Row) -> None:
    value = "a'b\"c $HOME `x` é"
    assert printed(service, row, row.variable, env={"V": value}) == f"{value}\n"
    assert printed(service, row, row.variable) == "gone\n"


def test_ten_megabytes_arrive(service: Client, row: Row) -> None:
    assert len(printed(service, row, row.large)) == 10_000_000


def test_output_streams(service: Client, row: Row) -> None:
    connection = service.open_execute(row.slow, language=row.language)
    arrivals = {json.loads(line).get("text"): time.monotonic() for line in connection.getresponse()}
    connection.close()
    assert arrivals["two\n"] - arrivals["one\n"] > 0.3


def test_an_interrupt_ends_a_loop_and_keeps_the_state(service: Client, row: Row) -> None:
    service.execute(row.define, language=row.language)
    connection = service.open_execute(row.forever, language=row.language)
    connection.getresponse().readline()
    connection.close()
    start = time.monotonic()
    assert printed(service, row, row.use) == "42\n"
    assert time.monotonic() - start < 4


@pytest.mark.skipif(shutil.which("node") is None, reason="no node on this machine")
def test_the_module_rewriting_of_javascript() -> None:
    folder = Path(kernelspecs.__file__).parent / "node_kernel"
    done = subprocess.run(["node", "--test", str(folder)], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stdout.decode()
