"""Whatever happened, `down` leaves the machine as it was."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from e2b import Sandbox, SandboxException

from atolld.control.templates import register_build
from atolld.model.template import Manifest, StoredFile, encode_manifest, parse_manifest
from atolld.node.inventory import take_inventory
from atolld.store import Store
from server_process import MACHINE_HOME, ServerProcess, own_network, server

pytestmark = pytest.mark.machine

NETWORK = own_network(1)
CREATES, FAILURES = 40, 10
BROKEN = "broken-inside"


def break_a_copy(home: Path) -> Manifest:
    """A build whose files are what its manifest says, and which runsc still cannot restore: its start fails
    after everything for it was acquired."""
    newest = max(
        (MACHINE_HOME / "templates" / "atollbase00000000001").glob("*/manifest.json"),
        key=lambda path: path.stat().st_mtime,
    )
    manifest = parse_manifest(newest.read_text())
    copy = replace(manifest, template_id="brokentemplate", build_id="brokenbuild", name=BROKEN)
    folder = home / "templates" / copy.template_id / copy.build_id
    shutil.copytree(newest.parent / "snapshot", folder / "snapshot")
    state = folder / "snapshot" / "checkpoint.img"
    damaged = bytearray(state.read_bytes())
    for place in range(len(damaged) // 2, len(damaged), 97):
        damaged[place] ^= 0xFF
    state.write_bytes(damaged)
    vouched = StoredFile(len(damaged), hashlib.sha256(damaged).hexdigest())
    copy = replace(copy, snapshot={**copy.snapshot, "checkpoint.img": vouched})
    (folder / "manifest.json").write_text(encode_manifest(copy))
    return copy


async def register(home: Path, manifest: Manifest) -> None:
    store = await Store.open(home / "atoll.db")
    try:
        await register_build(store, manifest)
    finally:
        await store.close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    templates = tmp_path / "templates"
    templates.mkdir()
    for folder in (MACHINE_HOME / "templates").iterdir():
        (templates / folder.name).symlink_to(folder)
    return tmp_path


@pytest.fixture
def broken_server(home: Path) -> Iterator[ServerProcess]:
    manifest = break_a_copy(home)
    asyncio.run(register(home, manifest))
    with (
        server(home, {"ATOLL_NETWORK": NETWORK, "ATOLL_TLS": "off", "ATOLL_POOL": "0"}) as it,
        it.serves_sdks(),
    ):
        yield it


def create_and_kill(number: int) -> str:
    if number % 5 == 4:
        with pytest.raises(SandboxException):
            Sandbox.create(BROKEN, timeout=60, retries=0)
        return "failed"
    sandbox = Sandbox.create(timeout=60)
    sandbox.kill()
    return "killed"


def open_files(pid: int) -> Counter[str]:
    """What a process's descriptors lead to, the numbers of sockets and pipes left out."""
    targets: Counter[str] = Counter()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            targets[re.sub(r"[0-9]+", "N", os.readlink(descriptor))] += 1
    return targets


def wait_until(condition: Callable[[], bool], otherwise: Callable[[], str]) -> None:
    """Teardown and kept-alive connections end a moment after the answer."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.1)


@pytest.mark.timeout(600)
def test_fifty_creates_ten_of_them_failing_leave_nothing_behind(broken_server: ServerProcess) -> None:
    before = asyncio.run(take_inventory(broken_server.home, IPv4Network(NETWORK)))
    mounts = Path("/proc/self/mountinfo").read_text()
    assert broken_server.process is not None
    pid = broken_server.process.pid
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(create_and_kill, range(4)))  # as many slots wait from here on as this demand asks for
        open_before = open_files(pid)
        ended = list(pool.map(create_and_kill, range(CREATES + FAILURES)))
    assert (ended.count("killed"), ended.count("failed")) == (CREATES, FAILURES)
    wait_until(
        lambda: (open_files(pid) - open_before).total() <= 16,
        lambda: f"descriptors grow with sandboxes: {open_files(pid) - open_before}",
    )
    down = broken_server.run("atolld", "down")
    assert down.returncode == 0, down.stderr
    after = asyncio.run(take_inventory(broken_server.home, IPv4Network(NETWORK)))
    assert after - before == {}
    assert after.processes == frozenset()
    assert after.links == after.routes == after.tables == after.cgroups == frozenset()
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert Path("/dev/null").owner() == "root"  # runsc gives its stdio away
