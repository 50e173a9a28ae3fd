"""The published `e2b` and `e2b-code-interpreter`, unmodified, over the promises of the README."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import httpx
import pytest
from e2b import (
    AuthenticationException,
    CommandExitException,
    FileNotFoundException,
    NotFoundException,
    SandboxException,
    SandboxQuery,
    TimeoutException,
)
from e2b import Sandbox as BaseSandbox
from e2b_code_interpreter import Sandbox
from e2b_code_interpreter.charts import BarChart

from server_process import ServerProcess

pytestmark = pytest.mark.machine

BAR_CHART = """
import matplotlib.pyplot as plt
plt.bar(["a", "b", "c"], [1, 2, 5])
plt.title("Sizes"); plt.xlabel("name"); plt.ylabel("size (m)")
plt.show()
"""


@pytest.fixture(scope="module")
def sandbox(atoll: ServerProcess) -> Iterator[Sandbox]:
    with atoll.serves_sdks():
        it = Sandbox.create(timeout=300, envs={"GREETING": "hello"})
    yield it
    it.kill()


def test_run_code_streams_to_callbacks_and_returns_the_result(sandbox: Sandbox) -> None:
    out: list[str] = []
    execution = sandbox.run_code("print('one'); print('two')\n40 + 2", on_stdout=lambda m: out.append(m.line))
    assert "".join(out) == "one\ntwo\n"
    assert "".join(execution.logs.stdout) == "one\ntwo\n"
    assert execution.text == "42"
    assert execution.error is None


def test_variables_live_from_one_execution_to_the_next(sandbox: Sandbox) -> None:
    sandbox.run_code("kept = 7")
    assert sandbox.run_code("kept * 6").text == "42"


def test_an_exception_in_the_code_is_an_error_with_name_value_and_traceback(sandbox: Sandbox) -> None:
    execution = sandbox.run_code("1/0")
    assert execution.error is not None
    assert execution.error.name == "ZeroDivisionError"
    assert execution.error.value == "division by zero"
    assert "1/0" in execution.error.traceback
    assert "\x1b[" not in execution.error.traceback


def test_a_bar_chart_comes_back_as_picture_and_as_data(sandbox: Sandbox) -> None:
    result = sandbox.run_code(BAR_CHART).results[0]
    assert result.png is not None
    assert result.png.startswith("iVBOR")
    chart = result.chart
    assert isinstance(chart, BarChart)
    assert chart.type.value == "bar"
    assert (chart.title, chart.x_label, chart.y_label, chart.y_unit) == ("Sizes", "name", "size (m)", "m")
    assert [(e.label, e.value) for e in chart.elements] == [("a", 1), ("b", 2), ("c", 5)]


def test_variables_of_create_reach_code_and_commands(sandbox: Sandbox) -> None:
    assert sandbox.run_code("import os; os.environ['GREETING']").text == "hello"
    assert sandbox.commands.run("echo $GREETING").stdout == "hello\n"


def test_files_are_written_read_and_listed(sandbox: Sandbox) -> None:
    sandbox.files.write("notes/today.txt", "grüße")
    assert sandbox.files.read("notes/today.txt") == "grüße"
    assert [entry.name for entry in sandbox.files.list("notes")] == ["today.txt"]
    assert sandbox.files.get_info("notes/today.txt").owner == "user"
    with pytest.raises(FileNotFoundException):
        sandbox.files.read("notes/yesterday.txt")


def test_commands_run_as_the_default_user_and_report_their_exit_code(sandbox: Sandbox) -> None:
    result = sandbox.commands.run("whoami; pwd; echo oops >&2")
    assert (result.stdout, result.stderr, result.exit_code) == ("user\n/home/user\n", "oops\n", 0)
    assert sandbox.commands.run("whoami", user="root").stdout == "root\n"
    assert sandbox.commands.run("sudo whoami").stdout == "root\n"
    with pytest.raises(CommandExitException) as caught:
        sandbox.commands.run("exit 3")
    assert caught.value.exit_code == 3


def test_a_background_command_is_listed_and_killed(sandbox: Sandbox) -> None:
    handle = sandbox.commands.run("sleep 300", background=True)
    assert handle.pid in [process.pid for process in sandbox.commands.list()]
    assert handle.kill()
    assert handle.pid not in [process.pid for process in sandbox.commands.list()]


def test_a_command_that_outlives_its_timeout_is_killed(sandbox: Sandbox) -> None:
    with pytest.raises(TimeoutException):
        sandbox.commands.run("sleep 301", timeout=1)
    assert "sleep 301" not in sandbox.commands.run("ps -eo args").stdout.replace("ps -eo args", "")


def test_get_host_is_answered_by_a_server_inside(sandbox: Sandbox) -> None:
    sandbox.files.write("site/index.html", "from inside")
    sandbox.commands.run("python3 -m http.server 3000 --directory site", background=True)
    host = sandbox.get_host(3000)
    assert host.startswith(f"3000-{sandbox.sandbox_id}.")
    deadline = time.monotonic() + 10
    while True:
        answer = httpx.get(os.environ["E2B_SANDBOX_URL"], headers={"Host": host}, timeout=10)
        if answer.status_code == 200 or time.monotonic() > deadline:
            break
        assert answer.status_code == 502
        assert "port is not open" in answer.text
    assert answer.text == "from inside"


def test_a_sandbox_is_listed_with_its_metadata_and_found_again() -> None:
    created = BaseSandbox.create(metadata={"purpose": "list & find"}, timeout=60)
    try:
        assert created.is_running()
        pages = BaseSandbox.list(query=SandboxQuery(metadata={"purpose": "list & find"}))
        assert [entry.sandbox_id for entry in pages.next_items()] == [created.sandbox_id]
        again = BaseSandbox.connect(created.sandbox_id)
        assert again.commands.run("echo found").stdout == "found\n"
        info = again.get_info()
        assert info.template_id
        assert info.name == "base"
        assert info.metadata == {"purpose": "list & find"}
        assert (info.cpu_count, info.memory_mb) == (2, 1024)
    finally:
        assert created.kill()
    assert not created.is_running()
    assert not created.kill()
    with pytest.raises(NotFoundException):
        BaseSandbox.connect(created.sandbox_id)


def test_a_sandbox_ends_at_its_timeout_and_not_before() -> None:
    created = BaseSandbox.create(timeout=60)
    started = time.monotonic()
    created.set_timeout(3)
    while created.is_running():
        assert time.monotonic() - started < 10
        time.sleep(0.1)
    assert 2.5 <= time.monotonic() - started <= 5


def test_limits_inside_are_those_of_the_template() -> None:
    with BaseSandbox.create(timeout=60) as it:
        assert it.commands.run("nproc").stdout == "2\n"
        total_mib = int(it.commands.run("awk '/MemTotal/ {print $2}' /proc/meminfo").stdout) / 1024
        assert 900 <= total_mib <= 1024


def test_two_clones_share_neither_identity_nor_random_numbers() -> None:
    code = "import random, uuid, numpy; (random.random(), str(uuid.uuid4()), numpy.random.rand())"
    with Sandbox.create(timeout=60) as first, Sandbox.create(timeout=60) as second:
        assert first.run_code(code).text != second.run_code(code).text
        names = {it.commands.run("hostname").stdout for it in (first, second)}
        assert len(names) == 2
        assert first.commands.run("echo $E2B_SANDBOX_ID").stdout.strip() == first.sandbox_id


def test_pip_install_works_inside(sandbox: Sandbox) -> None:
    installed = sandbox.run_code("!pip install -q cowsay\nimport cowsay; cowsay.char_names[0]")
    assert installed.error is None, installed.error
    assert installed.text


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"template": "no-such-template"}, SandboxException, "no-such-template"),
        ({"timeout": -1}, SandboxException, "Timeout must be greater than 0"),
        ({"timeout": 10**8}, SandboxException, "Timeout cannot be greater than"),
        ({"api_key": "e2b_" + "0" * 40}, AuthenticationException, "key"),
    ],
)
def test_bad_input_is_told_what_is_wrong(
    arguments: dict[str, object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        BaseSandbox.create(**arguments)  # type: ignore[arg-type]
