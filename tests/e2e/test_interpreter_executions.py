"""An execution as a notebook has it, through the published SDK, in sandboxes restored from the snapshot."""

from __future__ import annotations

import json
import os
import shlex
import time
from datetime import UTC, datetime

import pytest
from e2b import TimeoutException
from e2b_code_interpreter import OutputMessage, Sandbox

from server_process import ServerProcess

pytestmark = [pytest.mark.machine, pytest.mark.timeout(300)]

LARGE = int(os.environ.get("ATOLL_PRINTED_MB", "150"))
"""Megabytes that a program prints."""


def text(sandbox: Sandbox, code: str, **options: object) -> str | None:
    execution = sandbox.run_code(code, **options)  # type: ignore[arg-type]
    assert execution.error is None, execution.error
    return execution.text


def test_what_the_template_holds_is_counted_no_more(interpreter: Sandbox) -> None:
    """So that a clone writes no page for using it; what a cell makes is freed as ever."""
    held = "(pandas, pandas.DataFrame, pandas.DataFrame.groupby, None)"
    code = f"import sys, weakref, pandas\nlen({{sys.getrefcount(one) for one in {held}}})"
    assert text(interpreter, code) == "1"
    code = "class Thing: pass\nmade = Thing(); gone = weakref.ref(made); del made\ngone() is None"
    assert text(interpreter, code) == "True"


# --- streaming


def test_each_print_reaches_the_callback_as_it_happens(interpreter: Sandbox) -> None:
    """The time it was written travels along: both clocks are this machine's."""
    delays: list[float] = []
    code = "import time\nfor _ in range(40):\n    print(f'{time.time()}\\n', end=''); time.sleep(0.02)"
    interpreter.run_code(code, on_stdout=lambda message: delays.append(time.time() - float(message.line)))
    assert len(delays) == 40
    # 5 ms are promised, on an idle machine.
    assert sorted(delays)[20] < 0.025


def test_streams_keep_order_and_carriage_returns_and_have_their_times(interpreter: Sandbox) -> None:
    seen: list[OutputMessage] = []
    code = (
        "import sys, time\nfor i in range(3):\n"
        "    print(f'o{i}', end='\\r', flush=True)\n    print(f'e{i}', file=sys.stderr)\n    time.sleep(0.05)"
    )
    begin = time.time()
    interpreter.run_code(code, on_stdout=seen.append, on_stderr=seen.append)
    assert "".join(message.line for message in seen) == "o0\re0\no1\re1\no2\re2\n"
    assert "".join(message.line for message in seen if message.error) == "e0\ne1\ne2\n"
    # Both clocks are this machine's.
    times = [datetime.fromisoformat(str(message.timestamp)).timestamp() for message in seen]
    assert times == sorted(times)
    assert begin - 0.1 < times[0] < times[-1] - 0.05 < time.time()


def test_a_progress_bar_arrives_untouched(interpreter: Sandbox) -> None:
    code = "from tqdm import tqdm\nfor _ in tqdm(range(3)): pass"
    bar = "".join(interpreter.run_code(code).logs.stderr)
    assert bar.startswith("\r  0%|")
    assert "\r100%|" in bar
    assert "3/3" in bar


def test_much_output_grows_neither_the_service_nor_the_server(
    interpreter: Sandbox, atoll: ServerProcess
) -> None:
    size, sizes = 0, [grown(interpreter, atoll)]

    def count(message: OutputMessage) -> None:
        """Looks at the sizes at times, and is slow then, so that output waits."""
        nonlocal size
        size += len(message.line)
        if size // (LARGE * 200_000) >= len(sizes):
            sizes.append(grown(interpreter, atoll))

    code = f"line = 'x' * 999_999\nfor _ in range({LARGE}): print(line)"
    execution = interpreter.run_code(code, on_stdout=count, timeout=280)
    assert execution.error is None
    assert size == LARGE * 10**6
    assert len(sizes) == 6
    for at_first, at_most in zip(sizes[0], map(max, zip(*sizes, strict=True)), strict=True):
        assert at_most < at_first + 60


def grown(sandbox: Sandbox, atoll: ServerProcess) -> tuple[int, int]:
    """MiB of the service inside and of the server."""
    line = "grep -h VmRSS /proc/$(pgrep -of 'atoll_guest.interpreter$')/status"
    assert atoll.process is not None
    with open(f"/proc/{atoll.process.pid}/status") as status:
        server = next(line for line in status if line.startswith("VmRSS"))
    return tuple(int(it.split()[1]) // 1024 for it in (sandbox.commands.run(line).stdout, server))  # type: ignore[return-value]


def test_what_comes_faster_than_a_limit_is_dropped_and_told(interpreter: Sandbox) -> None:
    """The limit is the template's; a second service beside the first has one here."""
    start = "ATOLL_INTERPRETER_PORT=50001 ATOLL_MAX_OUTPUT_MIB_PER_SECOND=0.01 ATOLL_PRELOAD= "
    start += "PYTHONPATH=/opt/atoll/interpreter python -m atoll_guest.interpreter"
    service = interpreter.commands.run(start, background=True)
    try:
        url = "http://localhost:50001"
        interpreter.commands.run(f"until curl -sf {url}/health; do sleep 0.1; done", timeout=60)
        body = json.dumps({"code": "for _ in range(100): print('x' * 999)"})
        lines = interpreter.commands.run(f"curl -s {url}/execute -d {shlex.quote(body)}").stdout.splitlines()
        events = [json.loads(line) for line in lines]
        told = "".join(event["text"] for event in events if event["type"] == "stderr")
        passed = sum(len(event["text"]) for event in events if event["type"] == "stdout")
        assert f"{100_000 - passed} characters of output were dropped" in told
        assert events[-1]["type"] == "end_of_execution"
    finally:
        service.kill()


# --- displays


def test_displays_come_at_once_and_the_last_expression_is_main(interpreter: Sandbox) -> None:
    times: list[float] = []
    execution = interpreter.run_code(
        "from IPython.display import display\nimport time\ndisplay(1); time.sleep(0.5); display(2)\n3",
        on_result=lambda _: times.append(time.monotonic()),
    )
    assert [result.is_main_result for result in execution.results] == [False, False, True]
    assert times[1] - times[0] > 0.4


def test_a_display_is_updated_and_cleared(interpreter: Sandbox) -> None:
    code = (
        "import IPython.display as d\nh = d.display(1, display_id='one')\nh.update(2)\n"
        "print('kept'); d.clear_output(wait=True); d.display(3)"
    )
    execution = interpreter.run_code(code)
    assert execution.error is None
    assert [(r.text, r.is_main_result) for r in execution.results] == [
        ("1", False),
        ("2", False),
        ("3", False),
    ]
    assert execution.logs.stdout == ["kept\n"]


# --- code


RUNS: list[tuple[str, str]] = [
    ("import asyncio\nawait asyncio.sleep(0.01)\nprint('awaited')", "awaited\n"),
    ("!echo shell", "shell\r\n"),
    ("%cd -q /tmp\nimport os; print(os.getcwd())", "/tmp\n"),
    ("%%bash\necho cell", "cell\n"),
    ("if 1:\n    print('indented')", "indented\n"),
    ("    print('all of it indented')", "all of it indented\n"),
    (
        "import threading\nt = threading.Thread(target=print, args=('thread',)); t.start(); t.join()",
        "thread\n",
    ),
    ("import subprocess; subprocess.run(['echo', 'child']); None", "child\n"),
    ("%pip install -q colorama\nimport colorama; print(colorama.__name__)", "colorama\n"),
]


@pytest.mark.parametrize(("code", "printed"), RUNS, ids=[code[:24] for code, _ in RUNS])
def test_code_runs_as_in_a_notebook(interpreter: Sandbox, code: str, printed: str) -> None:
    execution = interpreter.run_code(code, envs={"V": "1"}, timeout=120)
    assert execution.error is None, execution.error
    said = "".join(execution.logs.stdout)
    assert said.removeprefix("Note: you may need to restart the kernel to use updated packages.\n") == printed


def test_what_a_thread_prints_after_the_end_is_not_the_next_executions(interpreter: Sandbox) -> None:
    code = (
        "import threading, time\ngo, done = threading.Event(), threading.Event()\n"
        "def late(): go.wait(); print('late', flush=True); done.set()\nthreading.Thread(target=late).start()"
    )
    assert interpreter.run_code(code).error is None
    execution = interpreter.run_code("go.set(); done.wait(10); print('mine')")
    assert "".join(execution.logs.stdout) == "mine\n"


@pytest.mark.parametrize("code", ["input()", "import getpass; getpass.getpass()"])
def test_input_is_refused(interpreter: Sandbox, code: str) -> None:
    error = interpreter.run_code(code).error
    assert error is not None
    assert error.name == "StdinNotImplementedError"


# --- environment and packages


def test_variables_of_an_execution_are_undone_also_after_an_error(interpreter: Sandbox) -> None:
    code = "import os\nos.environ.get('OF_CREATE'), os.environ.get('V')"
    assert text(interpreter, code, envs={"V": "1", "OF_CREATE": "mine"}) == "('mine', '1')"
    assert interpreter.run_code("1/0", envs={"V": "1"}).error is not None
    assert text(interpreter, code) == "('here', None)"


def test_a_package_of_pip_is_there_without_a_restart(interpreter: Sandbox) -> None:
    interpreter.run_code("kept = 1")
    interpreter.commands.run("pip install -q iniconfig", timeout=120)
    assert text(interpreter, "import iniconfig; (kept, iniconfig.__name__)") == "(1, 'iniconfig')"


def test_a_package_of_npm_is_there_without_a_restart(interpreter: Sandbox) -> None:
    interpreter.run_code("1", language="js")
    interpreter.commands.run("npm install --silent --no-audit --no-fund left-pad", timeout=120)
    code = "const pad = require('left-pad'); pad('x', 3)"
    assert text(interpreter, code, language="js") == "  x"


# --- the SDK's timeout


def test_the_sdks_timeout_interrupts_and_none_is_no_timeout(interpreter: Sandbox) -> None:
    interpreter.run_code("kept = 7")
    code = "import time\ntry: time.sleep(600)\nexcept KeyboardInterrupt: ended = 'by interrupt'; raise"
    begin = time.monotonic()
    with pytest.raises(TimeoutException, match="timeout"):
        interpreter.run_code(code, timeout=1)
    assert time.monotonic() - begin < 3
    assert text(interpreter, "(kept, ended)") == "(7, 'by interrupt')"
    assert text(interpreter, "time.sleep(6); 'quiet for longer than a keepalive'", timeout=0) is not None


# --- restored from the snapshot


def test_a_fresh_sandbox_knows_the_time_and_draws_its_own_numbers(interpreter: Sandbox) -> None:
    code = (
        "import random, uuid, numpy, time\n"
        "(random.random(), uuid.uuid4().hex, uuid.uuid1().hex, numpy.random.rand())"
    )
    drawn: set[str | None] = set()
    for _ in range(3):
        with Sandbox.create(timeout=60) as sandbox:
            drawn.add(text(sandbox, code))
            inside = float(text(sandbox, "time.time()") or 0)
            assert abs(datetime.now(UTC).timestamp() - inside) < 2
    assert len(drawn) == 3


def test_the_first_execution_after_a_restore_is_as_fast_as_the_tenth(interpreter: Sandbox) -> None:
    ratios: list[float] = []
    for _ in range(5):
        with Sandbox.create(timeout=60) as sandbox:
            times: list[float] = []
            for _ in range(10):
                begin = time.perf_counter()
                sandbox.run_code("1+1")
                times.append(time.perf_counter() - begin)
            ratios.append(times[0] / sorted(times[1:])[4])
    # The SDK opens its connection with the first; `./atoll bench interpreter` measures the 1.5 promised.
    assert min(ratios) < 4
