"""Language × behaviour, through the published SDK, with the kernels of the template. Needs `setup --all`."""

from __future__ import annotations

import json
import time

import pytest
from e2b import SandboxException, TimeoutException
from e2b_code_interpreter import Sandbox

from atoll_guest.interpreter.tests.table import RICH, TABLE, Row

pytestmark = [pytest.mark.machine, pytest.mark.timeout(180)]

ODD_VALUE = "a'b\"c $HOME `x` é"


@pytest.fixture(params=TABLE, ids=[row.language for row in TABLE])
def row(request: pytest.FixtureRequest) -> Row:
    return request.param


def printed(interpreter: Sandbox, row: Row, code: str, envs: dict[str, str] | None = None) -> str:
    execution = interpreter.run_code(code, language=row.language, envs=envs, timeout=100)
    assert execution.error is None, execution.error
    return "".join(execution.logs.stdout)


def test_an_expression_has_a_result(interpreter: Sandbox, row: Row) -> None:
    if row.two:
        execution = interpreter.run_code(row.two, language=row.language, timeout=100)
        assert execution.error is None, execution.error
        assert execution.text is not None
        assert execution.text.removeprefix("[1] ") == "2"


def test_unicode_is_printed(interpreter: Sandbox, row: Row) -> None:
    assert printed(interpreter, row, row.hello) == "hällo 🎈\n"


def test_both_streams_are_told_apart(interpreter: Sandbox, row: Row) -> None:
    logs = interpreter.run_code(row.both, language=row.language).logs
    # IRkernel ends a message twice.
    assert ("".join(logs.stdout), "".join(logs.stderr).rstrip("\n")) == ("out\n", "err")


def test_state_is_kept_and_a_context_has_its_own(interpreter: Sandbox, row: Row) -> None:
    interpreter.run_code(row.define, language=row.language)
    assert printed(interpreter, row, row.use) == "42\n"
    other = interpreter.create_code_context(language=row.language, cwd="/tmp")
    try:
        execution = interpreter.run_code(row.use, context=other)
        assert execution.error is not None
        assert "".join(execution.logs.stdout) != "42\n"
        assert interpreter.run_code(row.hello, context=other).error is None
    finally:
        interpreter.remove_code_context(other)


def test_an_error_has_its_name_value_and_traceback(interpreter: Sandbox, row: Row) -> None:
    error = interpreter.run_code(row.throw, language=row.language).error
    assert error is not None
    assert error.name == row.error[0]
    assert row.error[1] in error.value
    assert row.error[1] in error.traceback
    assert "\x1b" not in error.traceback


def test_a_variable_is_set_for_one_execution(interpreter: Sandbox, row: Row) -> None:
    assert printed(interpreter, row, row.variable, {"V": ODD_VALUE}) == f"{ODD_VALUE}\n"
    assert printed(interpreter, row, row.variable) == "gone\n"


def test_a_variable_is_undone_after_an_error(interpreter: Sandbox, row: Row) -> None:
    execution = interpreter.run_code(row.throw, language=row.language, envs={"V": "1"})
    assert execution.error is not None
    assert printed(interpreter, row, row.variable) == "gone\n"


def test_a_variable_of_create_gets_its_value_back(interpreter: Sandbox, row: Row) -> None:
    code = row.variable.replace("V", "OF_CREATE", 1)
    assert printed(interpreter, row, code, {"OF_CREATE": "mine"}) == "mine\n"
    assert printed(interpreter, row, code) == "here\n"


def test_pictures_html_and_json_have_their_fields(interpreter: Sandbox, row: Row) -> None:
    for name, code in row.rich.items():
        execution = interpreter.run_code(code, language=row.language)
        assert execution.error is None, execution.error
        (result,) = execution.results
        found, wanted = result[name], RICH[name]
        assert found == wanted or str(found).startswith(str(wanted)), name


def test_a_kernel_that_dies_is_told_and_the_next_execution_works(interpreter: Sandbox, row: Row) -> None:
    error = interpreter.run_code(row.die, language=row.language).error
    assert error is not None
    assert error.name == "KernelDied"
    assert printed(interpreter, row, row.hello) == "hällo 🎈\n"


@pytest.mark.parametrize(("language", "code"), [("python", "input()"), ("r", "readline('name? ')")])
def test_input_is_refused(interpreter: Sandbox, language: str, code: str) -> None:
    error = interpreter.run_code(code, language=language, timeout=30).error
    assert error is not None
    assert "input" in error.value


def test_variables_of_create_are_there(interpreter: Sandbox, row: Row) -> None:
    assert printed(interpreter, row, row.variable.replace("V", "OF_CREATE", 1)) == "here\n"


def test_ten_megabytes_arrive(interpreter: Sandbox, row: Row) -> None:
    assert len(printed(interpreter, row, row.large)) == 10_000_000


def test_output_streams(interpreter: Sandbox, row: Row) -> None:
    arrivals: dict[str, float] = {}
    interpreter.run_code(
        row.slow,
        language=row.language,
        on_stdout=lambda message: arrivals.update({message.line.strip(): time.monotonic()}),
    )
    assert arrivals["two"] - arrivals["one"] > 0.3


def test_the_sdks_timeout_interrupts_a_loop_and_keeps_the_state(interpreter: Sandbox, row: Row) -> None:
    interpreter.run_code(row.define, language=row.language)
    with pytest.raises(TimeoutException):
        interpreter.run_code(row.forever, language=row.language, timeout=1)
    assert printed(interpreter, row, row.use) == "42\n"


def test_a_kernel_spec_adds_a_language(interpreter: Sandbox) -> None:
    """Any kernel by Jupyter's own rule; here ours for Bash under another name, over TCP and signed."""
    spec = {
        "language": "shell",
        "argv": ["python", "-m", "atoll_guest.interpreter.bash_kernel", "-f", "{connection_file}"],
        "env": {"PYTHONPATH": "/opt/atoll/interpreter"},
    }
    interpreter.files.write(".local/share/jupyter/kernels/shell/kernel.json", json.dumps(spec))
    execution = interpreter.run_code("echo $((40 + 2))", language="shell")
    assert execution.error is None, execution.error
    assert execution.logs.stdout == ["42\n"]


def test_an_unknown_language_is_an_error(interpreter: Sandbox) -> None:
    with pytest.raises(SandboxException, match="500"):
        interpreter.run_code("1", language="klingon")
