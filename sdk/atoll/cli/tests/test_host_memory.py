import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from atoll.cli.host_memory import measure_memory, share_space

from .conftest import SANDBOX_ID


@pytest.fixture
def processes(tmp_path: Path) -> Path:
    """A sandbox of container 0a-1: sentry 10 with guest processes 12 and 14, which are one
    address space, and 15; gofer 11; 13 is another's."""
    record = tmp_path / "run/sandboxes/0a-1/record.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"name": "0a-1", "sandbox_id": SANDBOX_ID}))
    rows = [
        (10, 1, "runsc-sandbox --x 0a-1"),
        (11, 1, "runsc-gofer 0a-1"),
        (12, 10, ""),
        (13, 1, "runsc-sandbox 0b"),
        (14, 12, ""),
        (15, 12, ""),
    ]
    for pid, parent, command in rows:
        folder = tmp_path / "proc" / str(pid)
        folder.mkdir(parents=True)
        (folder / "cmdline").write_text(command.replace(" ", "\0"))
        (folder / "stat").write_text(f"{pid} (a) b) S {parent} 1")
        (folder / "smaps_rollup").write_text(f"head\nPss: {pid * 1024} kB\n")
    return tmp_path / "proc"


def test_memory_is_that_of_the_sandboxes_own_address_spaces(tmp_path: Path, processes: Path) -> None:
    def same(first: int, second: int) -> bool:
        return {first, second} == {12, 14}

    parts = measure_memory(tmp_path, SANDBOX_ID, processes, same)
    guest = parts.pop("guest processes")
    assert guest in (12 + 15, 14 + 15)  # whichever of the two comes first
    assert parts == {"kernel and guest memory (sandbox)": 10, "files (gofer)": 11}
    assert measure_memory(tmp_path, "another", processes, same) == {}


@pytest.mark.skipif(sys.platform != "linux", reason="address spaces are compared by a call of Linux")
def test_the_kernel_tells_address_spaces_apart() -> None:
    assert share_space(os.getpid(), os.getpid())
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert not share_space(os.getpid(), child.pid)
    finally:
        child.communicate(b"\n", timeout=20)
