"""The clock by which the daemon looks after memory: it stands still while a sandbox is idle, so that nothing
wakes an idle one, and goes on while anything runs, also in what was paused (gvisor/patches/0011)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from e2b_code_interpreter import Sandbox

pytestmark = [pytest.mark.machine, pytest.mark.timeout(120)]

_SLEEPER = """
import ctypes, threading, time
class Span(ctypes.Structure): _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]
woken, answers, CLOCK_NANOSLEEP = threading.Event(), [], 230
def sleep_active():
    span = ctypes.byref(Span(1, 0))
    answers.append(ctypes.CDLL(None, use_errno=True).syscall(CLOCK_NANOSLEEP, 0x61746f6c, 0, span, None))
    woken.set()
threading.Thread(target=sleep_active, daemon=True).start()
"""
_BUSY = """
end = time.monotonic() + 30
while not woken.is_set() and time.monotonic() < end: pass
answers
"""


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    made = Sandbox.create(timeout=300)
    if made.run_code(_SLEEPER + "time.sleep(0.2); answers").text != "[]":
        pytest.skip("this runsc is not ours: it has no such clock")
    yield made
    made.kill()


def test_no_time_passes_while_nothing_runs(sandbox: Sandbox) -> None:
    assert sandbox.run_code("time.sleep(3); answers").text == "[]"
    assert sandbox.run_code(_BUSY).text == "[0]"


def test_the_clock_goes_on_after_a_pause(sandbox: Sandbox) -> None:
    assert sandbox.pause()
    resumed = Sandbox.connect(sandbox.sandbox_id, timeout=300)
    assert isinstance(resumed, Sandbox)
    assert resumed.run_code("time.sleep(0.1); answers").text == "[]"
    assert resumed.run_code(_BUSY).text == "[0]"


def test_who_sleeps_by_it_ends_when_told(sandbox: Sandbox) -> None:
    sandbox.files.write("/tmp/sleeper.py", _SLEEPER + "woken.wait()")
    done = sandbox.commands.run("timeout --signal=KILL 1 python3 /tmp/sleeper.py; echo $?")
    assert done.stdout.strip() == "137"
