"""The whole service over HTTP, with real Python kernels."""

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from .conftest import Client, start_service, stop_service


@pytest.fixture
def context(service: Client) -> Iterator[str]:
    """A context of its own, gone afterwards."""
    status, body = service.call("POST", "/contexts", {})
    assert status == 200, body
    context_id = json.loads(body)["id"]
    yield context_id
    service.call("DELETE", f"/contexts/{context_id}")


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


def error(events: list[dict[str, Any]]) -> dict[str, Any]:
    return next(event for event in events if event["type"] == "error")


# --- one execution


def test_an_execution_is_counted_streamed_and_ended(service: Client, context: str) -> None:
    events = service.execute(
        "import sys\nprint('a')\nprint('b', file=sys.stderr)\nprint('c')\n1+1", context_id=context
    )
    assert kinds(events) == [
        "number_of_executions",
        *("stdout", "stderr", "stdout", "result", "end_of_execution"),
    ]
    assert [event.get("text") for event in events[1:5]] == ["a\n", "b\n", "c\n", "2"]
    assert events[0]["execution_count"] == 1
    assert events[4]["is_main_result"] is True
    assert events[1]["timestamp"].startswith("20")
    assert service.execute("1", context_id=context)[0]["execution_count"] == 2


def test_a_help_page_is_shown_once(service: Client, context: str) -> None:
    events = service.execute("len?", context_id=context)
    assert ["Return the number of items" in event["text"] for event in events if "text" in event] == [True]


def test_a_line_without_an_end_comes_soon(service: Client) -> None:
    connection = service.open_execute("import time\nprint('one', end='')\ntime.sleep(60)")
    lines = (json.loads(line) for line in connection.getresponse())
    assert next(line["text"] for line in lines if line["type"] == "stdout") == "one"
    connection.close()


def test_an_interrupt_amid_much_output_leaves_whole_messages(service: Client, context: str) -> None:
    for _ in range(5):
        connection = service.open_execute("while True: print('x' * 5000)", context_id=context)
        response = connection.getresponse()
        for _ in range(20):
            response.readline()
        connection.close()
        assert service.main_text("1+1", context_id=context) == "2"


# --- rehearsal


def test_a_rehearsal_leaves_no_trace(tmp_path: Any) -> None:
    process, client = start_service(ATOLL_INTERPRETER_CWD=str(tmp_path))
    try:
        status, events = client.call("POST", "/warm-up")
        assert status == 200
        assert "1\n" in [json.loads(line).get("text") for line in events.splitlines()]
        events = client.execute("'_' in globals() and _, len(Out), len(In)")
        assert events[0]["execution_count"] == 1
        assert client.call("POST", "/warm-up", {"code": "kept = 7"})[0] == 200
        assert client.main_text("kept") == "7"
        status, body = client.call("POST", "/warm-up", {"code": "1/0"})
        assert (status, body) == (500, b"Failed to warm up: ZeroDivisionError: division by zero")
        assert client.call("POST", "/warm-up", {"code": 1})[0] == 400
        assert client.call("GET", "/warm-up")[0] == 405
    finally:
        stop_service(process)


def test_output_comes_as_it_happens(service: Client) -> None:
    connection = service.open_execute("import time\nprint('one')\ntime.sleep(0.5)\nprint('two')")
    response = connection.getresponse()
    arrivals: dict[str, float] = {}
    for line in response:
        arrivals[json.loads(line).get("text", "")] = time.monotonic()
    connection.close()
    assert arrivals["two\n"] - arrivals["one\n"] > 0.4


def test_an_exception_is_one_error_without_colours(service: Client) -> None:
    events = service.execute("print('before')\n1/0\nprint('after')")
    found = error(events)
    assert (found["name"], found["value"]) == ("ZeroDivisionError", "division by zero")
    assert "1/0" in found["traceback"]
    assert "\x1b" not in found["traceback"]
    assert kinds(events).count("error") == 1
    assert service.main_text("'alive'") == "alive"


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("input()", "StdinNotImplementedError"),
        ("x = = 1", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit"),
        ("import no_such_module", "ModuleNotFoundError"),
    ],
)
def test_errors_have_their_names(service: Client, code: str, name: str) -> None:
    assert error(service.execute(code))["name"] == name


PRINTS = [
    ("import os; os.system('echo from a shell')", "from a shell\n"),
    ("!echo magic", "magic\r\n"),
    ("import os; os.write(1, b'raw\\n')", "raw\n"),
    ("print('\\u2028 Ünïcödé 🎈')", "\u2028 Ünïcödé 🎈\n"),
    ("print('10%', end='\\r'); print('20%', end='\\r')", "10%\r20%\r"),
    ("import asyncio\nawait asyncio.sleep(0)\nprint('awaited')", "awaited\n"),
    ("if 1:\n    print('indented')", "indented\n"),
    (
        "import threading\nt = threading.Thread(target=print, args=('thread',)); t.start(); t.join()",
        "thread\n",
    ),
    (
        "from multiprocessing import get_context\n"
        "p = get_context('fork').Process(target=print, args=('child',)); p.start(); p.join()",
        "child\n",
    ),
]


@pytest.mark.parametrize(("code", "printed"), PRINTS, ids=[code[:20] for code, _ in PRINTS])
def test_everything_printed_arrives(service: Client, code: str, printed: str) -> None:
    assert service.stdout(code) == printed


@pytest.mark.slow
def test_ten_megabytes_arrive_whole(service: Client) -> None:
    assert len(service.stdout("for i in range(100):\n    print('x' * 99_999)")) == 10_000_000


@pytest.mark.slow
def test_many_short_prints_keep_their_order(service: Client) -> None:
    printed = service.stdout("for i in range(20000): print(i)").split()
    assert printed == [str(number) for number in range(20000)]


def test_displays_are_results_and_only_the_last_expression_is_main(service: Client) -> None:
    events = service.execute(
        "from IPython.display import display, Markdown\ndisplay(1)\ndisplay(Markdown('*x*'))\n3"
    )
    results = [event for event in events if event["type"] == "result"]
    assert [result["is_main_result"] for result in results] == [False, False, True]
    assert results[1]["markdown"] == "*x*"
    assert all("extra" in result for result in results)


def test_update_display_and_clear_output_pass_through(service: Client) -> None:
    code = "import IPython.display as d\nh = d.display(1, display_id='d')\nh.update(2)\nd.clear_output()"
    events = service.execute(code)
    assert [e["text"] for e in events if e["type"] == "result"] == ["1", "2"]
    assert [e["display_id"] for e in events if e["type"] == "result"] == ["d", "d"]
    assert "clear_output" in kinds(events)


FORMATS: list[tuple[str, dict[str, Any]]] = [
    ("{'a': [1, float('nan'), None], 2: (1,)}", {"json": {"a": [1, None, None], "2": [1]}}),
    ("[1, 'x']", {"json": [1, "x"], "text": "[1, 'x']"}),
    ("'text'", {"text": "text"}),
    ("import IPython.display as d; d.HTML('<b>')", {"html": "<b>"}),
    ("d.Latex('$x$')", {"latex": "$x$"}),
    (
        "d.SVG('<svg xmlns=\"http://www.w3.org/2000/svg\"/>')",
        {"svg": '<svg xmlns="http://www.w3.org/2000/svg"/>'},
    ),
    ("d.Javascript('1')", {"javascript": "1"}),
    ("d.JSON({'a': 1})", {"json": {"a": 1}}),
    ("d.display({'x/y': {'a': 1}}, raw=True)", {"extra": {"x/y": {"a": 1}}}),
    ("d.display({'application/pdf': 'aGk='}, raw=True)", {"pdf": "aGk="}),
    (
        "import pandas as p\n"
        "p.DataFrame({'t': p.to_datetime(['2024-01-02', None]), 'n': [1.5, float('inf')]})",
        {"data": {"t": ["2024-01-02T00:00:00", None], "n": [1.5, None]}},
    ),
]


@pytest.mark.slow
def test_each_format_has_its_field(service: Client, context: str) -> None:
    for code, wanted in FORMATS:
        result = next(e for e in service.execute(code, context_id=context) if e["type"] == "result")
        assert {name: result.get(name) for name in wanted} == wanted, code


@pytest.mark.slow
def test_an_image_saved_or_shown_is_displayed(service: Client, tmp_path: Any) -> None:
    code = f"from PIL import Image\nim = Image.new('RGB', (2, 2))\nim.save('{tmp_path}/a.png')\nim.show()"
    results = [event for event in service.execute(code) if event["type"] == "result"]
    assert [bool(result["png"]) for result in results] == [True, True]
    assert (tmp_path / "a.png").exists()


@pytest.mark.slow
def test_a_figure_is_a_png_and_a_chart(service: Client) -> None:
    code = (
        "import matplotlib.pyplot as plt\nplt.plot([1, 2], [3, 4])\nplt.show()\nplt.bar(['a', 'b'], [1, 2])"
    )
    results = [e for e in service.execute(code) if e["type"] == "result" and "png" in e]
    assert [result["chart"]["type"] for result in results] == ["line", "bar"]


# --- environment


def test_variables_are_set_for_one_execution_only(service: Client) -> None:
    code = "import os\nprint(os.environ.get('V'))"
    assert service.stdout(code, env_vars={"V": "1"}) == "1\n"
    assert service.stdout(code) == "None\n"
    service.execute("1/0", env_vars={"V": "1"})
    assert service.stdout(code) == "None\n"


def test_a_variable_that_was_there_gets_its_value_back(service: Client) -> None:
    path = service.stdout("import os; print(os.environ['PATH'])")
    assert service.stdout("import os; print(os.environ['PATH'])", env_vars={"PATH": "/x"}) == "/x\n"
    assert service.stdout("import os; print(os.environ['PATH'])") == path


def test_the_kernel_shows_nothing_of_the_service(service: Client) -> None:
    code = "import os, sys\nprint([n for n in os.environ if 'ATOLL' in n], sys.path[0] in ('', os.getcwd()))"
    assert service.stdout(code) == "[] True\n"


# --- contexts


@pytest.mark.slow
def test_contexts_keep_their_state_apart(service: Client, context: str, tmp_path: Any) -> None:
    _, body = service.call("POST", "/contexts", {"language": "Python", "cwd": str(tmp_path)})
    other = json.loads(body)
    assert other["language"] == "python"
    assert other["cwd"] == str(tmp_path)
    service.execute("x = 1", context_id=context)
    assert error(service.execute("x", context_id=other["id"]))["name"] == "NameError"
    assert service.main_text("import os; os.getcwd()", context_id=other["id"]) == str(tmp_path)
    listed = json.loads(service.call("GET", "/contexts")[1])
    assert {context, other["id"]} <= {entry["id"] for entry in listed}
    assert service.call("DELETE", f"/contexts/{other['id']}") == (200, b"null")
    assert service.call("DELETE", f"/contexts/{other['id']}")[0] == 404


@pytest.mark.slow
def test_a_restarted_context_has_forgotten(service: Client, context: str) -> None:
    service.execute("x = 1", context_id=context)
    assert service.call("POST", f"/contexts/{context}/restart") == (200, b"null")
    events = service.execute("x", context_id=context)
    assert error(events)["name"] == "NameError"
    assert events[0]["execution_count"] == 1


@pytest.mark.slow
def test_restarting_ends_what_runs_and_what_waits_runs_afterwards(service: Client, context: str) -> None:
    with ThreadPoolExecutor() as pool:
        running = pool.submit(service.execute, "import time; print('up'); time.sleep(60)", context_id=context)
        waiting = pool.submit(service.execute, "'later'", context_id=context)
        time.sleep(0.3)
        service.call("POST", f"/contexts/{context}/restart")
        found = error(running.result(20))
        assert (found["name"], found["value"]) == ("ContextRestarting", "Context was restarted")
        assert "result" in kinds(waiting.result(20))


@pytest.mark.slow
def test_executions_of_one_context_queue_and_of_two_run_side_by_side(service: Client, context: str) -> None:
    sleep = "import time; time.sleep(1)"
    with ThreadPoolExecutor() as pool:
        start = time.monotonic()
        for future in [pool.submit(service.execute, sleep, context_id=context) for _ in range(2)]:
            future.result()
        one_context = time.monotonic() - start
        start = time.monotonic()
        done = [pool.submit(service.execute, sleep, context_id=context), pool.submit(service.execute, sleep)]
        for future in done:
            future.result()
        two_contexts = time.monotonic() - start
    assert one_context >= 2.0
    assert two_contexts < 1.9


REFUSALS: list[tuple[str, str, Any, int, str]] = [
    ("POST", "/execute", {"code": "1", "context_id": "nope"}, 404, "Context nope not found"),
    (
        *("POST", "/execute", {"code": "1", "context_id": "a", "language": "b"}),
        *(400, "Only one of context_id or language can be provided"),
    ),
    ("POST", "/execute", {"code": 1}, 400, "code"),
    ("POST", "/execute", b"{", 400, "no JSON"),
    ("POST", "/execute", [], 400, "object"),
    ("POST", "/execute", {"code": "1", "env_vars": {"A=B": "1"}}, 400, "A=B"),
    ("POST", "/execute", {"code": "1", "language": "klingon"}, 500, "Failed to create context: no kernel"),
    ("POST", "/contexts", {"cwd": "/no/such"}, 500, "Failed to create context: the working directory"),
    ("POST", "/contexts/nope/restart", None, 404, "Context nope not found"),
    ("DELETE", "/contexts/nope", None, 404, "Context nope not found"),
    ("GET", "/execute", None, 405, "not allowed"),
    ("GET", "/nothing", None, 404, "No such route"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "text"), REFUSALS, ids=[r[4] for r in REFUSALS])
def test_refusals_are_plain_text(
    service: Client, method: str, path: str, body: object, status: int, text: str
) -> None:
    found, answer = service.call(method, path, body)
    assert found == status
    assert text in answer.decode()


# --- interrupt and death


@pytest.mark.slow
def test_a_client_that_leaves_interrupts_its_code(service: Client, context: str) -> None:
    service.execute("x = 5", context_id=context)
    for code in (
        "while True: pass",
        "import time; time.sleep(60)",
        "import asyncio; await asyncio.sleep(60)",
    ):
        connection = service.open_execute(f"print('up')\n{code}", context_id=context)
        response = connection.getresponse()
        while b"up" not in response.readline():
            pass
        connection.sock.close()
        response.close()
        start = time.monotonic()
        assert service.main_text("x", context_id=context) == "5"
        assert time.monotonic() - start < 3


@pytest.mark.slow
def test_a_client_that_leaves_at_once_interrupts_as_well(service: Client, context: str) -> None:
    for _ in range(5):
        service.open_execute("import time; time.sleep(60)", context_id=context).close()
    start = time.monotonic()
    assert service.main_text("1+1", context_id=context) == "2"
    assert time.monotonic() - start < 30, "it waited for a sleep of 60 s"


@pytest.mark.slow
def test_a_kernel_that_ignores_an_interrupt_is_replaced_and_says_so(service: Client, context: str) -> None:
    code = "import time\nwhile True:\n  try: print('up'); time.sleep(60)\n  except KeyboardInterrupt: pass"
    connection = service.open_execute(code, context_id=context)
    response = connection.getresponse()
    while b"up" not in response.readline():
        pass
    response.close()
    connection.close()
    events = service.execute("1+1", context_id=context)
    assert any(
        "did not stop within" in event.get("text", "") for event in events if event["type"] == "stderr"
    )
    assert "result" in kinds(events)


DEATHS = [
    ("import os; print('last'); os._exit(3)", "exit code 3"),
    ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
    ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
    ("import os, time\nif os.fork() == 0: time.sleep(1)\nelse: os._exit(1)", "exit code 1"),
]


@pytest.mark.parametrize(("code", "reason"), DEATHS, ids=[row[0][-20:] for row in DEATHS])
@pytest.mark.slow
def test_a_dying_kernel_is_told_and_replaced(service: Client, context: str, code: str, reason: str) -> None:
    start = time.monotonic()
    events = service.execute(code, context_id=context)
    assert time.monotonic() - start < 3
    found = error(events)
    assert found["name"] == "KernelDied"
    assert reason in found["value"]
    assert kinds(events)[-1] == "end_of_execution"
    assert service.main_text("1+1", context_id=context) == "2"


@pytest.mark.slow
def test_a_kernel_killed_while_idle_is_replaced_and_the_next_execution_told(
    service: Client, context: str
) -> None:
    pid = int(service.main_text("import os; os.getpid()", context_id=context))
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    events = service.execute("1+1", context_id=context)
    assert any("killed by SIGKILL" in event.get("text", "") for event in events)
    assert "result" in kinds(events)


@pytest.mark.slow
def test_a_removed_context_takes_its_kernel_and_its_children_with_it(service: Client, context: str) -> None:
    code = "import os, subprocess\nprint(os.getpid(), subprocess.Popen(['sleep', '60']).pid)"
    pids = [int(pid) for pid in service.stdout(code, context_id=context).split()]
    service.call("DELETE", f"/contexts/{context}")
    for pid in pids:
        assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


# --- the service itself


@pytest.mark.slow
def test_a_slow_reader_makes_the_program_wait(service: Client, context: str) -> None:
    code = "import time\nfor i in range(150):\n    print('x' * 999_999)\nprint('done')"
    connection = service.open_execute(code, context_id=context)
    time.sleep(1.5)
    resident = _resident_mib(service.pid)
    response = connection.getresponse()
    size = sum(len(json.loads(line).get("text", "")) for line in response)
    connection.close()
    assert size == 150 * 1_000_000 + len("done\n")
    assert resident < 60


def _resident_mib(pid: int) -> int:
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) // 1024 for line in file if line.startswith("VmRSS"))


@pytest.mark.slow
def test_a_service_that_ends_leaves_nothing(tmp_path: Any) -> None:
    process, client = start_service(TMPDIR=str(tmp_path), ATOLL_INTERPRETER_CWD=str(tmp_path))
    pid = int(client.main_text("import os; os.getpid()"))
    stop_service(process)
    assert process.returncode == 0
    assert not _runs(pid)
    assert list(tmp_path.glob("atoll-kernel-*")) == []


@pytest.mark.slow
def test_kernels_end_with_a_service_that_is_killed(tmp_path: Any) -> None:
    process, client = start_service(TMPDIR=str(tmp_path), ATOLL_INTERPRETER_CWD=str(tmp_path))
    pids = [
        int(client.stdout("import os; print(os.getpid())")),
        int(client.stdout("echo $PPID", language="bash")),
    ]
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while any(map(_runs, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_a_result_over_the_limit_is_refused_and_the_context_lives(tmp_path: Any) -> None:
    process, client = start_service(ATOLL_MAX_RESULT_MIB="1", ATOLL_INTERPRETER_CWD=str(tmp_path))
    try:
        found = error(client.execute("from IPython.display import HTML\nkept = 1\nHTML('x' * 3_000_000)"))
        assert found["name"] == "ResultTooLarge"
        assert "2.9 MiB" in found["value"]
        assert "limit of 1 MiB" in found["value"]
        assert client.main_text("kept") == "1"
    finally:
        stop_service(process)
