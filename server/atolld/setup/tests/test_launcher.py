"""The launcher and set-up as programs: from a fresh copy of the clone, killed, twice at once, by nobody."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from atolld.builds.sources import CLONE

pytestmark = [pytest.mark.machine, pytest.mark.timeout(600)]

MACHINE_HOME = Path(os.environ.get("ATOLL_HOME", "/var/lib/atoll"))
OVERHEAD = 0.3
"""Seconds the launcher may take when nothing is missing."""
_LEFT_OUT = shutil.ignore_patterns(".venv", ".git", "__pycache__", "node_modules", "*.pyc")


def copy_clone(target: Path) -> Path:
    shutil.copytree(CLONE, target, ignore=_LEFT_OUT)
    return target


def find_processes(word: str) -> list[str]:
    """Command lines of living processes that name ``word``."""
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if word in line:
            found.append(line)
    return found


def test_a_fresh_clone_uses_what_the_machine_has_and_its_second_start_is_fast(tmp_path: Path):
    clone = copy_clone(tmp_path / "clone")
    environ = {**os.environ, "ATOLL_HOME": str(MACHINE_HOME)}
    command = [str(clone / "atoll"), "env"]
    at_once = [
        subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in at_once:
        out, said = process.communicate(timeout=500)
        assert process.returncode == 0, said
        assert "E2B_API_KEY=e2b_" in out
    # The launcher alone: what it would become is replaced by a program that does nothing.
    launcher = clone / "atoll"
    launcher.write_text(launcher.read_text().replace('exec "$python" -m atoll "$@"', "exec true"))
    took: list[float] = []
    for _ in range(5):
        begin = time.perf_counter()
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=True)
        took.append(time.perf_counter() - begin)
        assert done.stderr == ""
    assert min(took) <= OVERHEAD


def test_without_root_and_sudo_it_says_why_root_is_needed():
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    with tempfile.TemporaryDirectory() as directory:
        # Where nobody can read, with nothing on PATH but what it takes to get that far.
        Path(directory).chmod(0o755)
        shutil.copy(CLONE / "atoll", directory)
        for name in ("sh", "readlink", "dirname", "id"):
            Path(directory, name).symlink_to(shutil.which(name) or name)
        done = subprocess.run(
            [*nobody, f"{directory}/sh", f"{directory}/atoll", "run", "1"],
            env={"PATH": directory},
            executable=shutil.which("setpriv"),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert "network namespace" in done.stderr
    assert "run the same as root" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_set_up_that_is_killed_leaves_no_process_and_no_mount(tmp_path: Path, number: signal.Signals):
    home = tmp_path / "home"
    environ = {**os.environ, "ATOLL_HOME": str(home), "PATH": f"{MACHINE_HOME}/bin:{os.environ['PATH']}"}
    setup = subprocess.Popen(
        [sys.executable, "-m", "atolld", "setup"],
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    limit = time.monotonic() + 120
    while not list(home.glob("cache/trees/base-*.unfinished/tree/usr")):
        assert time.monotonic() < limit
        assert setup.poll() is None
        time.sleep(0.05)
    setup.send_signal(number)
    setup.wait(timeout=30)
    while find_processes(str(home)) and time.monotonic() < limit:
        time.sleep(0.05)
    assert find_processes(str(home)) == []
    assert str(home) not in Path("/proc/self/mounts").read_text()
