"""Language × behaviour as one table, each through the whole service with the real kernel.

Those whose kernel is on this machine; tests/e2e runs all of them in the template.
"""

import json
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from atoll_guest.interpreter import kernelspecs

from .conftest import Client
from .table import RICH, TABLE, Row

pytestmark = pytest.mark.slow


def _is_here(language: str) -> bool:
    try:
        return language == "python" or bool(kernelspecs.find(language))
    except kernelspecs.NoKernel:
        return False


HERE = [row for row in TABLE if _is_here(row.language)]


@pytest.fixture(params=HERE, ids=[row.language for row in HERE], scope="module")
def row(request: pytest.FixtureRequest) -> Row:
    return request.param


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


def test_a_variable_is_undone_after_an_error(service: Client, row: Row) -> None:
    service.execute(row.throw, language=row.language, env_vars={"V": "1"})
    assert printed(service, row, row.variable) == "gone\n"


def test_rich_results_have_their_fields(service: Client, row: Row) -> None:
    for name, code in row.rich.items():
        events = service.execute(code, language=row.language)
        (result,) = (event for event in events if event["type"] == "result")
        wanted = RICH[name]
        assert result[name] == wanted or result[name].startswith(wanted), name


def test_a_dead_kernel_is_told_and_replaced(service: Client, row: Row) -> None:
    events = service.execute(row.die, language=row.language)
    assert [event["name"] for event in events if event["type"] == "error"] == ["KernelDied"]
    assert printed(service, row, row.hello) == "hällo 🎈\n"


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
