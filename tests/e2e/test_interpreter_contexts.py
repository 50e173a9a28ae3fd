"""Contexts: their routes and refusals, queues, memory, interrupts and deaths; through the published SDK."""

from __future__ import annotations

import json
import os
import shlex
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from e2b import NotFoundException, SandboxException, TimeoutException
from e2b_code_interpreter import Context, Sandbox

pytestmark = [pytest.mark.machine, pytest.mark.timeout(300)]

TIMES = int(os.environ.get("ATOLL_INTERRUPTS", "10"))
"""Of interrupts and of deaths."""


def text(sandbox: Sandbox, code: str, **options: object) -> str | None:
    execution = sandbox.run_code(code, **options)  # type: ignore[arg-type]
    assert execution.error is None, execution.error
    return execution.text


def answer(sandbox: Sandbox, method: str, path: str, body: object = None) -> tuple[int, str]:
    """What a route of the interpreter says, as only a plain client sees it."""
    line = ["curl", "-s", "-X", method, "-w", "\n%{http_code}", f"localhost:49999{path}"]
    if body is not None:
        line += ["-d", json.dumps(body)]
    said, _, status = sandbox.commands.run(shlex.join(line)).stdout.rpartition("\n")
    return int(status), said


def free_mib(sandbox: Sandbox) -> int:
    """By sysinfo, which is exact; what `free` shows lags behind."""
    return int(sandbox.commands.run("getconf _AVPHYS_PAGES").stdout) * 4096 >> 20


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


def test_the_list_has_the_default_contexts_and_counters_are_each_contexts_own(interpreter: Sandbox) -> None:
    languages = [context.language for context in interpreter.list_code_contexts()]
    assert {"python", "javascript"} <= set(languages)
    one, two = (interpreter.create_code_context() for _ in range(2))
    counts = [interpreter.run_code("1", context=context).execution_count for context in (one, one, two)]
    assert counts == [1, 2, 1]
    interpreter.remove_code_context(one)
    interpreter.remove_code_context(two)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "text"),
    [
        ("POST", "/execute", {"code": "1", "context_id": "nope"}, 404, "Context nope not found"),
        (
            *("POST", "/execute", {"code": "1", "context_id": "a", "language": "python"}, 400),
            "Only one of context_id or language can be provided",
        ),
        ("POST", "/contexts/nope/restart", None, 404, "Context nope not found"),
        ("DELETE", "/contexts/nope", None, 404, "Context nope not found"),
    ],
)
def test_refusals_have_their_exact_texts(
    interpreter: Sandbox, method: str, path: str, body: object, status: int, text: str
) -> None:
    assert answer(interpreter, method, path, body) == (status, text)


def test_a_context_that_is_gone_is_not_found_by_the_sdk(interpreter: Sandbox) -> None:
    gone = Context("nope", "python", "/")
    for call in (interpreter.remove_code_context, interpreter.restart_code_context):
        with pytest.raises(NotFoundException, match="Context nope not found"):
            call(gone)
    with pytest.raises(NotFoundException, match="Context nope not found"):
        interpreter.run_code("1", context=gone)


def test_one_contexts_executions_queue_and_two_contexts_run_side_by_side(interpreter: Sandbox) -> None:
    """Side by side: each waits for the other. In a queue: the second begins when the first has ended."""
    other = interpreter.create_code_context()
    meet = (
        "import os, time\nopen('/tmp/{0}', 'w').close()\n"
        "while not os.path.exists('/tmp/{1}'): time.sleep(0.01)"
    )
    with ThreadPoolExecutor() as pool:
        one = pool.submit(interpreter.run_code, meet.format("one", "two"), timeout=60)
        two = pool.submit(interpreter.run_code, meet.format("two", "one"), context=other, timeout=60)
        assert (one.result().error, two.result().error) == (None, None)
        begun = threading.Event()
        slow = (
            "order = ['first begins']; print('up'); import time; time.sleep(0.5); order.append('first ends')"
        )
        first = pool.submit(interpreter.run_code, slow, context=other, on_stdout=lambda _: begun.set())
        assert begun.wait(30)
        second = pool.submit(interpreter.run_code, "order.append('second'); order", context=other)
        assert first.result().error is None
        assert second.result().text == "['first begins', 'first ends', 'second']"
    interpreter.remove_code_context(other)


def test_a_removed_contexts_memory_is_free_soon(interpreter: Sandbox) -> None:
    context = interpreter.create_code_context()
    before = free_mib(interpreter)
    text(interpreter, "x = bytearray(b'x') * (400 << 20)", context=context)
    assert free_mib(interpreter) < before - 350
    interpreter.remove_code_context(context)
    deadline = time.monotonic() + 5  # gVisor takes a dead process' memory apart after telling its end
    while free_mib(interpreter) < before - 20:
        assert time.monotonic() < deadline


def test_fifty_contexts_fit_and_the_one_that_does_not_is_refused(interpreter: Sandbox) -> None:
    """In the template's 2048 MiB."""
    with Sandbox.create(timeout=600) as sandbox:
        contexts = [sandbox.create_code_context(request_timeout=120) for _ in range(50)]
        for context in (*contexts, None):
            assert text(sandbox, "40 + 2", context=context) == "42"
        text(sandbox, "import os" + HOLD)
        status, said = answer(sandbox, "POST", "/contexts", {})
        assert status == 500
        assert said.startswith("Failed to create context: memory: a new kernel needs about ")
        assert "remove a context first" in said
        with pytest.raises(SandboxException, match="500"):
            sandbox.create_code_context(request_timeout=120)
        for context in (*contexts, None):
            assert text(sandbox, "40 + 2", context=context) == "42"
        for context in contexts[:5]:
            sandbox.remove_code_context(context)
        assert text(sandbox, "1 + 1", context=sandbox.create_code_context()) == "2"


HOLD = """
free = os.sysconf('SC_AVPHYS_PAGES') * 4096 >> 20
held = bytearray(b'x') * (max(free - 100, 0) << 20)
"""
"""Takes the memory that is left, but for what envd keeps free and half of what a kernel needs."""


# --- interrupts and deaths


def test_interrupts_by_the_number_and_the_state_is_kept(interpreter: Sandbox) -> None:
    context = interpreter.create_code_context()
    interpreter.run_code("kept = 5", context=context)
    loops = ("while True: pass", "import time; time.sleep(600)", "import asyncio; await asyncio.sleep(600)")
    for number in range(TIMES):
        with pytest.raises(TimeoutException):
            interpreter.run_code(loops[number % 3], context=context, timeout=0.1)
    assert text(interpreter, "kept", context=context) == "5"
    interpreter.remove_code_context(context)


def test_a_kernel_that_ignores_an_interrupt_is_killed_and_the_next_execution_told(
    interpreter: Sandbox,
) -> None:
    context = interpreter.create_code_context()
    code = "while True:\n  try:\n    while True: pass\n  except KeyboardInterrupt: pass"
    with pytest.raises(TimeoutException):
        interpreter.run_code(code, context=context, timeout=1)
    execution = interpreter.run_code("1 + 1", context=context, timeout=60)
    assert execution.text == "2"
    assert "did not stop within 5 s after an interrupt and was restarted" in "".join(execution.logs.stderr)
    interpreter.remove_code_context(context)


def test_deaths_by_the_number_and_each_is_told_and_healed(interpreter: Sandbox) -> None:
    context = interpreter.create_code_context()
    text(interpreter, "other = 3")
    deaths = (
        "import os; os._exit(3)",
        "import os; os.kill(os.getpid(), 11)",
        "import ctypes; ctypes.string_at(0)",
    )
    for number in range(TIMES):
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
