"""cgroups on the real machine, v1 or v2."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from atolld.model.sandbox import Resources
from atolld.node.linux import cgroup

pytestmark = pytest.mark.machine


@pytest.fixture
async def group() -> AsyncIterator[str]:
    path = f"{cgroup.PARENT}/test-{secrets.token_hex(4)}"
    cgroup.create_group(path, Resources(1, 64, 64))
    yield path
    await cgroup.remove_group(path)
    cgroup.remove_parent()
    assert not [found for found in cgroup.list_groups() if found.endswith(path)]


async def test_removing_a_group_ends_what_is_in_it(group: str) -> None:
    process = await asyncio.create_subprocess_exec("sleep", "1000")
    for found in cgroup.list_groups():
        if found.endswith(group):
            (Path(found) / "cgroup.procs").write_text(str(process.pid))
    await cgroup.remove_group(group)
    assert await asyncio.wait_for(process.wait(), 5) == -9


async def test_a_command_that_enters_runs_in_the_group_of_every_hierarchy(group: str) -> None:
    if cgroup.is_unified():
        assert cgroup.joining(group) == ()
        return
    process = await asyncio.create_subprocess_exec(
        *cgroup.joining(group), "cat", "/proc/self/cgroup", stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    lines = [line.split(":", 2) for line in printed.decode().split()]
    assert {path for _, controllers, path in lines if controllers} == {group}


async def test_removing_is_idempotent_and_a_fresh_group_has_no_kills(group: str) -> None:
    assert cgroup.count_memory_kills(group) == 0
    cgroup.set_memory_limit(group, 128)
    await cgroup.remove_group(group)
    await cgroup.remove_group(group)
    assert cgroup.count_memory_kills(group) == 0
