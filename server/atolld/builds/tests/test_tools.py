from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from atolld.builds.tools import failure, run_tool
from atolld.model.errors import HostError


def ignore(line: str) -> None:
    pass


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for_end(pid: int) -> None:
    """A killed process is gone a moment after the signal."""
    limit = time.monotonic() + 20
    while is_alive(pid):
        assert time.monotonic() < limit
        time.sleep(0.01)


def wait_for(path: Path) -> str:
    """The file's text, once there is some."""
    limit = time.monotonic() + 20
    while not (path.exists() and path.read_text().strip()):
        assert time.monotonic() < limit
        time.sleep(0.01)
    return path.read_text().strip()


async def test_output_and_errors_are_reported_line_by_line():
    lines: list[str] = []
    output = await run_tool(["sh", "-c", "echo one; echo two >&2; printf three"], report=lines.append)
    assert output.splitlines() == ["one", "two", "three"]
    assert lines[1:] == ["one", "two", "three"]


async def test_a_line_longer_than_any_buffer_is_read_whole():
    output = await run_tool(["sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x"], report=ignore)
    assert output.count("x") == 300000


async def test_a_failure_tells_the_last_words():
    with pytest.raises(HostError, match=r"sh exited with 3\n    it broke"):
        await run_tool(["sh", "-c", "echo it broke; exit 3"], report=ignore)


async def test_a_missing_tool_is_named():
    with pytest.raises(HostError, match="no-such-tool"):
        await run_tool(["no-such-tool"], report=ignore)


def test_a_full_disk_is_called_so():
    error = failure(["mkfs.erofs"], 1, "write: No space left on device")
    assert error.message.startswith("the disk is full: mkfs.erofs exited with 1. Free some")


async def test_cancelling_ends_the_tool_and_its_children(tmp_path: Path):
    script = f"sleep 1000 & echo $! > {tmp_path}/pid; wait"
    task = asyncio.create_task(run_tool(["sh", "-c", script], report=ignore))
    pid = int(await asyncio.to_thread(wait_for, tmp_path / "pid"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(wait_for_end, pid)


@pytest.mark.parametrize("turns", range(1, 6))
async def test_cancelling_while_it_starts_leaves_nothing(turns: int):
    mark = f"1000.0{os.getpid()}{turns}"
    task = asyncio.create_task(run_tool(["sh", "-c", f"sleep {mark} & wait"], report=ignore))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    look = await asyncio.create_subprocess_exec("pgrep", "-f", f"sleep {mark}")
    assert await look.wait() == 1


def test_a_tool_dies_with_us_however_we_die(tmp_path: Path):
    """SIGKILL gives nobody a chance to clean up: the kernel has to."""
    code = (
        "import asyncio\nfrom atolld.builds.tools import run_tool\n"
        f"asyncio.run(run_tool(['sh', '-c', 'echo $$ > {tmp_path}/pid; exec sleep 1000'], report=print))\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code])
    tool = int(wait_for(tmp_path / "pid"))
    child.kill()
    child.wait()
    wait_for_end(tool)
