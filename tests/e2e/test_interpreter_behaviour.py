"""An execution as a notebook has it, through the published SDK, in sandboxes restored from the snapshot."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from datetime import UTC, datetime

import pytest
from e2b import SandboxException, TimeoutException
from e2b_code_interpreter import AsyncSandbox, Context, Sandbox
from e2b_code_interpreter.charts import BarChart, LineChart, SuperChart

pytestmark = [pytest.mark.machine, pytest.mark.timeout(300)]


def text(sandbox: Sandbox, code: str, **options: object) -> str | None:
    execution = sandbox.run_code(code, **options)  # type: ignore[arg-type]
    assert execution.error is None, execution.error
    return execution.text


# --- streaming


def test_each_print_reaches_the_callback_as_it_happens(interpreter: Sandbox) -> None:
    """The time it was written travels along: both clocks are this machine's."""
    delays: list[float] = []
    code = "import time\nfor _ in range(40):\n    print(time.time()); time.sleep(0.02)"
    interpreter.run_code(code, on_stdout=lambda message: delays.append(time.time() - float(message.line)))
    assert len(delays) == 40
    # 5 ms are promised, on an idle machine.
    assert sorted(delays)[20] < 0.025


def test_streams_keep_their_order_and_carriage_returns(interpreter: Sandbox) -> None:
    seen: list[str] = []
    code = (
        "import sys\nfor i in range(3):\n"
        "    print(f'o{i}', end='\\r', flush=True)\n    print(f'e{i}', file=sys.stderr)"
    )
    interpreter.run_code(
        code, on_stdout=lambda m: seen.append(m.line), on_stderr=lambda m: seen.append(m.line)
    )
    assert "".join(seen) == "o0\re0\no1\re1\no2\re2\n"


def test_a_gigabyte_of_output_does_not_grow_the_service(interpreter: Sandbox) -> None:
    size, sizes = 0, [service_mib(interpreter)]

    def count(message: object) -> None:
        """Slow at times, so that output waits."""
        nonlocal size
        size += len(message.line)  # type: ignore[attr-defined]
        if size // 200_000_000 >= len(sizes):
            sizes.append(service_mib(interpreter))

    code = "line = 'x' * 999_999\nfor _ in range(1000): print(line)"
    execution = interpreter.run_code(code, on_stdout=count, timeout=280)
    assert execution.error is None
    assert size == 10**9
    assert len(sizes) == 6
    assert max(sizes) < sizes[0] + 60


def service_mib(sandbox: Sandbox) -> int:
    line = "grep -h VmRSS /proc/$(pgrep -of 'atoll_guest.interpreter$')/status"
    return int(sandbox.commands.run(line).stdout.split()[1]) // 1024


def test_displays_come_at_once_and_the_last_expression_is_main(interpreter: Sandbox) -> None:
    times: list[float] = []
    execution = interpreter.run_code(
        "from IPython.display import display\nimport time\ndisplay(1); time.sleep(0.5); display(2)\n3",
        on_result=lambda _: times.append(time.monotonic()),
    )
    assert [result.is_main_result for result in execution.results] == [False, False, True]
    assert times[1] - times[0] > 0.4


# --- results


def test_a_result_of_a_hundred_megabytes_streams_through(interpreter: Sandbox) -> None:
    code = "from IPython.display import HTML\nHTML('x' * 100_000_000)"
    (result,) = interpreter.run_code(code, timeout=200).results
    assert len(result.html or "") == 100_000_000


def test_a_result_over_the_limit_is_refused_with_size_and_limit(interpreter: Sandbox) -> None:
    code = "from IPython.display import HTML\nkept = 7\nHTML('x' * 150_000_000)"
    error = interpreter.run_code(code, timeout=200).error
    assert error is not None
    assert error.name == "ResultTooLarge"
    assert "143.1 MiB" in error.value
    assert "128 MiB" in error.value
    assert text(interpreter, "kept") == "7"


def test_plotly_figures_are_charts(interpreter: Sandbox) -> None:
    code = (
        "import plotly.express as px\n"
        "px.bar(x=['a', 'b'], y=[1, 2.5], title='T', labels={'x': 'name', 'y': 'n (kg)'})"
    )
    result = interpreter.run_code(code).results[-1]
    assert isinstance(result.chart, BarChart)
    assert (result.chart.title, result.chart.y_unit) == ("T", "kg")
    assert [(e.label, e.value) for e in result.chart.elements] == [("a", 1), ("b", 2.5)]
    code = (
        "import plotly.graph_objects as go, numpy\n"
        "go.Figure(go.Scatter(x=numpy.arange(3), y=numpy.arange(3) / 2)).show()"
    )
    result = interpreter.run_code(code).results[-1]
    assert isinstance(result.chart, LineChart)
    assert result.chart.elements[0].points == [(0, 0), (1, 0.5), (2, 1)]
    assert "application/vnd.plotly.v1+json" in (result.extra or {})


def test_altair_charts_are_charts(interpreter: Sandbox) -> None:
    code = (
        "!pip install -q altair\nimport altair, pandas\n"
        "altair.Chart(pandas.DataFrame({'c': ['a', 'b'], 'n': [1, 2]})).mark_bar().encode(x='c', y='n')"
    )
    execution = interpreter.run_code(code, timeout=200)
    assert execution.error is None, execution.error
    chart = execution.results[-1].chart
    assert isinstance(chart, BarChart)
    assert [(e.label, e.value) for e in chart.elements] == [("a", 1), ("b", 2)]


def test_seaborn_bokeh_images_and_figures_left_open_are_shown(interpreter: Sandbox) -> None:
    code = "import seaborn as sns, matplotlib.pyplot as plt\nax = sns.lineplot(x=[1, 2], y=[3, 4])"
    (result,) = [r for r in interpreter.run_code(code).results if r.png]
    assert result.chart.type.value == "line"  # type: ignore[union-attr]
    code = "fig, (a, b) = plt.subplots(1, 2); a.plot([1, 2]); b.bar(['x', 'y'], [1, 2]); plt.show()"
    (result,) = interpreter.run_code(code).results
    assert isinstance(result.chart, SuperChart)
    code = "from PIL import Image\nImage.new('RGB', (2, 2))"
    png = interpreter.run_code(code).results[0].png
    assert base64.b64decode(png or "").startswith(b"\x89PNG")
    code = (
        "from bokeh.plotting import figure\nfrom bokeh.embed import file_html\n"
        "from IPython.display import HTML\np = figure(); p.line([1, 2], [3, 4]); HTML(file_html(p))"
    )
    assert "bokeh" in (interpreter.run_code(code).results[-1].html or "")


def test_a_data_frame_is_data_and_nan_is_null(interpreter: Sandbox) -> None:
    code = "import pandas as pd\npd.DataFrame({'t': pd.to_datetime(['2024-01-02']), 'n': [float('nan')]})"
    (result,) = interpreter.run_code(code).results
    assert result.data == {"t": ["2024-01-02T00:00:00"], "n": [None]}
    assert result.html
    assert json.loads(json.dumps(interpreter.run_code("{'a': float('inf')}").results[0].json)) == {"a": None}


# --- environment and packages


def test_variables_of_an_execution_are_undone_also_after_an_error(interpreter: Sandbox) -> None:
    code = "import os\nos.environ.get('OF_CREATE'), os.environ.get('V')"
    assert text(interpreter, code, envs={"V": "1", "OF_CREATE": "mine"}) == "('mine', '1')"
    assert interpreter.run_code("1/0", envs={"V": "1"}).error is not None
    assert text(interpreter, code) == "('here', None)"


def test_a_package_of_npm_is_there_without_a_restart(interpreter: Sandbox) -> None:
    interpreter.run_code("1", language="js")
    interpreter.commands.run("npm install --silent --no-audit --no-fund left-pad", timeout=120)
    code = "const pad = require('left-pad'); pad('x', 3)"
    assert text(interpreter, code, language="js") == "  x"


@pytest.mark.parametrize("code", ["input()", "import getpass; getpass.getpass()"])
def test_input_is_refused(interpreter: Sandbox, code: str) -> None:
    error = interpreter.run_code(code).error
    assert error is not None
    assert error.name == "StdinNotImplementedError"


# --- contexts


def test_contexts_by_their_routes(interpreter: Sandbox) -> None:
    context = interpreter.create_code_context(cwd="/tmp", language="python")
    assert text(interpreter, "import os; os.getcwd()", context=context) == "/tmp"
    assert context.id in [it.id for it in interpreter.list_code_contexts()]
    interpreter.run_code("x = 1", context=context)
    interpreter.restart_code_context(context)
    assert interpreter.run_code("x", context=context).error.name == "NameError"  # type: ignore[union-attr]
    interpreter.remove_code_context(context)
    with pytest.raises(SandboxException, match="not found"):
        interpreter.run_code("1", context=context)


def fill(sandbox: Sandbox, contexts: list[Context]) -> None:
    while len(contexts) < 100:
        contexts.append(sandbox.create_code_context(request_timeout=120))


def test_contexts_until_the_memory_is_used_and_the_next_is_refused(interpreter: Sandbox) -> None:
    with Sandbox.create(timeout=600) as sandbox:
        contexts: list[Context] = []
        with pytest.raises(SandboxException, match="500"):
            fill(sandbox, contexts)
        answer = sandbox.commands.run(
            "curl -s -X POST -H 'Content-Type: application/json' -d '{}' localhost:49999/contexts"
        ).stdout
        assert answer.startswith("Failed to create context: memory: a new kernel needs")
        assert len(contexts) >= 25
        for context in (contexts[0], contexts[-1], None):
            assert text(sandbox, "40 + 2", context=context) == "42"
        sandbox.remove_code_context(contexts[0])
        sandbox.remove_code_context(contexts[1])
        sandbox.create_code_context(request_timeout=120)


# --- interrupts and deaths


def test_a_hundred_interrupts_and_the_state_is_kept(interpreter: Sandbox) -> None:
    context = interpreter.create_code_context()
    interpreter.run_code("kept = 5", context=context)
    loops = ("while True: pass", "import time; time.sleep(600)", "import asyncio; await asyncio.sleep(600)")
    for number in range(100):
        with pytest.raises(TimeoutException):
            interpreter.run_code(loops[number % 3], context=context, timeout=0.1)
    assert text(interpreter, "kept", context=context) == "5"
    interpreter.remove_code_context(context)


def test_a_hundred_deaths_and_each_is_told_and_healed(interpreter: Sandbox) -> None:
    context = interpreter.create_code_context()
    text(interpreter, "other = 3")
    deaths = (
        "import os; os._exit(3)",
        "import os; os.kill(os.getpid(), 11)",
        "import ctypes; ctypes.string_at(0)",
    )
    for number in range(100):
        error = interpreter.run_code(deaths[number % 3], context=context, timeout=60).error
        assert error is not None
        assert error.name == "KernelDied"
    assert text(interpreter, "1 + 1", context=context) == "2"
    assert text(interpreter, "other") == "3"
    interpreter.remove_code_context(context)


def test_a_kernel_over_the_memory_limit_is_told_so_and_others_live(interpreter: Sandbox) -> None:
    context = interpreter.create_code_context()
    text(interpreter, "alive = 1")
    for _ in range(3):
        error = interpreter.run_code("x = bytearray(3 << 30)", context=context, timeout=100).error
        assert error is not None
        assert error.name == "KernelDied"
        assert "memory limit exceeded (used " in error.value
        assert "of 2048 MiB" in error.value
    assert text(interpreter, "1 + 1", context=context) == "2"
    assert text(interpreter, "alive") == "1"
    interpreter.remove_code_context(context)


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


# --- the asynchronous SDK


async def test_the_asynchronous_sdk_works_the_same(interpreter: Sandbox) -> None:
    sandbox = await AsyncSandbox.create(timeout=120, envs={"OF_CREATE": "here"})
    try:
        lines: list[str] = []
        execution = await sandbox.run_code(
            "import os\nprint('one'); print('two')\nos.environ['OF_CREATE']",
            on_stdout=lambda message: lines.append(message.line),
        )
        assert ("".join(lines), execution.text) == ("one\ntwo\n", "here")
        error = (await sandbox.run_code("1/0")).error
        assert error is not None
        assert error.name == "ZeroDivisionError"
        first, second = await asyncio.gather(*(sandbox.create_code_context() for _ in range(2)))
        begin = time.monotonic()
        await asyncio.gather(
            *(sandbox.run_code("import time; time.sleep(1)", context=c) for c in (first, second))
        )
        assert time.monotonic() - begin < 1.9
        with pytest.raises(TimeoutException):
            await sandbox.run_code("while True: pass", context=first, timeout=1)
        assert (await sandbox.run_code("40 + 2", context=first)).text == "42"
        chart = (
            await sandbox.run_code("import matplotlib.pyplot as plt\nplt.bar(['a'], [1]); plt.show()")
        ).results[0]
        assert chart.chart.type.value == "bar"  # type: ignore[union-attr]
    finally:
        await sandbox.kill()
