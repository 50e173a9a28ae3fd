"""Paging out on the real machine, cgroup v1 or v2, with a swap of the test's own."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from atolld.model.sandbox import Resources
from atolld.node.linux import cgroup, paging
from atolld.setup import zram

pytestmark = pytest.mark.machine

MIB = 1 << 20
HOLDER = """import hashlib
block = bytes(range(256)) * (4096 * 64)
print(hashlib.sha256(block).hexdigest(), flush=True)
sys.stdin.readline()
print(hashlib.sha256(block).hexdigest(), flush=True)
sys.stdin.readline()
"""
"""Holds 64 MiB that compress well."""


@pytest.fixture
def swap() -> Iterator[None]:
    if not zram.can_make():
        pytest.skip("this kernel has no zram")
    device = zram.make(256)
    yield
    zram.remove(device)


@pytest.fixture
def group() -> Iterator[str]:
    path = f"{cgroup.PARENT}/test-{secrets.token_hex(4)}"
    cgroup.create_group(path, Resources(1, 512, 512))
    paging.never_swap(path)
    yield path
    asyncio.run(cgroup.remove_group(path))
    cgroup.remove_parent()


def enter(group: str, pid: int) -> None:
    for found in cgroup.list_groups():
        if found.endswith(group):
            (Path(found) / "cgroup.procs").write_text(str(pid))


def test_what_is_paged_out_comes_back_as_it_was(swap: None, group: str):
    wait_then_hold = f"import sys; sys.stdin.readline(); {HOLDER}"
    with subprocess.Popen(
        [sys.executable, "-c", wait_then_hold],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        assert process.stdin
        assert process.stdout
        enter(group, process.pid)
        process.stdin.write("\n")
        before = process.stdout.readline()
        held = paging.usage(group)
        assert held > 60 * MIB
        assert paging.page_out(group) < held // 2
        assert 0 < paging.compression() < 1
        process.stdin.write("\n")
        assert process.stdout.readline() == before
        process.stdin.write("\n")


def test_a_running_one_is_never_swapped(swap: None, group: str):
    """At its limit it is ended, though there is room in the swap."""
    cgroup.set_memory_limit(group, 64)
    hog = "import sys; sys.stdin.readline(); x = bytearray(400 << 20)"
    process = subprocess.Popen([sys.executable, "-c", hog], stdin=subprocess.PIPE)
    enter(group, process.pid)
    paging.page_out(group)
    process.communicate(b"\n", timeout=60)
    assert process.returncode == -9


def test_a_swap_on_a_disk_takes_no_memory(tmp_path: Path):
    swaps, blocks = tmp_path / "swaps", tmp_path / "block"
    swaps.write_text("Filename Type Size Used Priority\n/dev/zram1 partition 1024 12 100\n")
    (blocks / "zram1").mkdir(parents=True)
    (blocks / "zram1" / "mm_stat").write_text("4000 900 1000 0 1000 0 0 0 0\n")
    assert paging.compression(swaps, blocks) == 0.25
    swaps.write_text("Filename Type Size Used Priority\n/swapfile file 1024 12 -2\n")
    assert paging.compression(swaps, blocks) == 0.0
    assert paging.has_swap(swaps)
    assert not paging.has_swap(tmp_path / "absent")


def test_without_a_group_it_says_so(group: str):
    with pytest.raises(Exception, match="could not leave memory"):
        paging.page_out(f"{group}-absent")
