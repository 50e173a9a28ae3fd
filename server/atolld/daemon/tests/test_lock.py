from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from atolld.daemon.lock import Holder, find_holder, hold_machine, lock_path, stop_process
from atolld.model.errors import HostError

_HOLD = """
import signal, sys
from pathlib import Path
from atolld.daemon.lock import hold_machine
with hold_machine(Path(sys.argv[1]), "server", "http://here"):
    print("held", flush=True)
    signal.pause()
"""
_DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"


def _start(code: str, *arguments: str) -> subprocess.Popen[bytes]:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, env=environ)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_a_second_one_is_told_who_has_it(tmp_path: Path) -> None:
    with hold_machine(tmp_path, "server", "http://here"):
        assert find_holder(tmp_path) == Holder(os.getpid(), "server", "http://here")
        with pytest.raises(HostError, match=rf"process {os.getpid()}, http://here.*atoll down"):
            hold_machine(tmp_path, "server").__enter__()
    assert find_holder(tmp_path) is None
    with hold_machine(tmp_path, "down"), pytest.raises(HostError, match="down is at work"):
        hold_machine(tmp_path, "server").__enter__()


def test_the_lock_goes_with_a_killed_holder_whatever_the_file_says(tmp_path: Path) -> None:
    process = _start(_HOLD, str(tmp_path))
    holder = find_holder(tmp_path)
    assert holder is not None
    assert holder.pid == process.pid
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert str(process.pid) in lock_path(tmp_path).read_text()
    assert find_holder(tmp_path) is None
    with hold_machine(tmp_path, "server"):
        pass


def test_a_process_is_asked_first_and_then_made_to_end() -> None:
    polite = _start("import time; print('ready', flush=True); time.sleep(60)")
    assert stop_process(polite.pid, 10)
    assert polite.wait(10) == -signal.SIGTERM
    deaf = _start(_DEAF)
    began = time.monotonic()
    assert stop_process(deaf.pid, 0.2)
    assert deaf.wait(10) == -signal.SIGKILL
    assert time.monotonic() - began < 10
    assert not stop_process(deaf.pid, 0.2)
