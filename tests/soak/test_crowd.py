"""Many sandboxes at once, and many one after the other: what each costs the machine, and that nothing grows.

`ATOLL_CROWD` says how many live at once: 4 as a part of `./atoll test`, 300 for the promise (24 GiB).
`ATOLL_CHURN` says how many come and go: 20, and 1000.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
from e2b import CommandResult, Sandbox

from server_process import ServerProcess, own_network, server

CROWD = int(os.environ.get("ATOLL_CROWD", "4"))
CHURN = int(os.environ.get("ATOLL_CHURN", "20"))
MEMORY_MIB, IDLE_CPU = 40, 0.10
"""Of each sandbox; of all together, in cores."""
OWN_NETWORK = own_network(5)
"""Apart from that of the server that the other suites share."""
IDLE_SECONDS = 10.0
AFTER = 40.0 if CROWD >= 100 else 0.0
"""Seconds after a command in which its sandbox, daemon and gVisor give back what that took: not idle yet."""
SETTLES = 20.0

pytestmark = [pytest.mark.machine, pytest.mark.timeout(300 + CROWD * 4 + CHURN * 2)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that keeps nothing ahead: what there is, is the sandboxes'."""
    settings = {"ATOLL_POOL": "0", "ATOLL_BLANKS": "0", "ATOLL_NETWORK": OWN_NETWORK}
    with server(tmp_path_factory.mktemp("crowd"), settings) as it:
        yield it


def memory_available_mib() -> float:
    found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    assert found is not None
    return int(found[1]) / 1024


def processes(home: Path) -> list[Path]:
    """Directories in /proc of all that the server's containers consist of."""
    marker = f"--root={home / 'run'}".encode()
    found: list[Path] = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if marker in (entry / "cmdline").read_bytes():
                found.append(entry)
        except OSError:
            continue
    return found


def cpu_seconds(home: Path) -> float:
    """Of every thread's group of the containers so far; the stubs that run guest code are children of theirs
    in the same cgroup, and counted there where the machine has cpuacct."""
    total = 0.0
    for slot in (home / "run" / "sandboxes").iterdir():
        for place in ("/sys/fs/cgroup/cpuacct/atoll", "/sys/fs/cgroup/atoll"):
            group = Path(place) / slot.name
            if (group / "cpuacct.usage").exists():
                total += int((group / "cpuacct.usage").read_text()) / 1e9
            elif (group / "cpu.stat").exists():
                total += int((group / "cpu.stat").read_text().split()[1]) / 1e6
    return total


@dataclass(frozen=True)
class Held:
    """What the server and its sandboxes hold of the machine."""

    processes: int
    descriptors: int
    slots: int
    links: int
    cgroups: int
    resident_mib: float
    disk_mib: float


def held(atoll: ServerProcess) -> Held:
    assert atoll.process is not None
    own = Path(f"/proc/{atoll.process.pid}")
    rss = re.search(r"VmRSS:\s+(\d+) kB", (own / "status").read_text())
    assert rss is not None
    slots = list((atoll.home / "run" / "sandboxes").iterdir())
    names = {slot.name.split("-")[0] for slot in slots}
    size = sum(p.stat().st_blocks * 512 for p in (atoll.home / "run").rglob("*") if p.is_file())
    return Held(
        processes=len(processes(atoll.home)),
        descriptors=len(list((own / "fd").iterdir())),
        slots=len(slots),
        links=sum(link.name.removeprefix("at-") in names for link in Path("/sys/class/net").iterdir()),
        cgroups=sum((Path("/sys/fs/cgroup/memory/atoll") / slot.name).exists() for slot in slots),
        resident_mib=int(rss[1]) / 1024,
        disk_mib=size / (1 << 20),
    )


def create(atoll: ServerProcess) -> Sandbox:
    return Sandbox.create("base", timeout=3600, api_url=atoll.url, sandbox_url=atoll.url)


def test_a_crowd_is_cheap_and_each_of_it_answers(alone: ServerProcess) -> None:
    before = memory_available_mib()
    with alone.serves_sdks(), ThreadPoolExecutor(4) as hands:
        crowd = list(hands.map(create, [alone] * CROWD))
        try:
            assert all(found.stdout == "here\n" for found in hands.map(_ask, crowd))
            each = (before - memory_available_mib()) / CROWD
            time.sleep(AFTER)
            used = cpu_seconds(alone.home)
            time.sleep(IDLE_SECONDS)
            idle = (cpu_seconds(alone.home) - used) / IDLE_SECONDS
            assert all(found.stdout == "here\n" for found in hands.map(_ask, crowd))
        finally:
            list(hands.map(lambda sandbox: sandbox.kill(), crowd))
    print(f"{CROWD} alive: {each:.1f} MiB each, {idle:.3f} cores idle in all")
    if CROWD >= 100:  # few are lost in what else happens on the machine
        assert each <= MEMORY_MIB
        assert idle <= IDLE_CPU


def _ask(sandbox: Sandbox) -> CommandResult:
    return sandbox.commands.run("echo here")


def test_a_thousand_lives_leave_nothing_behind(alone: ServerProcess) -> None:
    with alone.serves_sdks(), ThreadPoolExecutor(2) as hands:
        list(hands.map(lambda _: create(alone).kill(), range(10)))  # what is made once is made now
        before = settle(alone, held(alone))
        list(hands.map(lambda _: create(alone).kill(), range(CHURN)))
    after = settle(alone, before)
    print(f"{CHURN} lives: {before} -> {after}")
    for field in fields(Held):
        least = {"resident_mib": 16, "disk_mib": 4, "descriptors": 4}.get(field.name, 0)
        assert getattr(after, field.name) <= getattr(before, field.name) + least, field.name


def settle(atoll: ServerProcess, wanted: Held) -> Held:
    """What is held when the last ends are over."""
    until = time.monotonic() + SETTLES
    while True:
        now = held(atoll)
        if now.slots == 0 and now.processes == 0 and now.descriptors <= wanted.descriptors:
            return now
        if time.monotonic() > until:
            return now
        time.sleep(0.2)
