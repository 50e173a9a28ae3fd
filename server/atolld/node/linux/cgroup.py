"""A sandbox's cgroup: limits of memory, CPU and processes, under cgroup v1 or v2, whichever the machine uses.

The group is ours before runsc comes, which then takes it as it is: its limit is what the guest sees as its
memory, and is raised afterwards, because gVisor's own kernel lives in the same group and the memory limit
kills all of it. On v1 there is one of the same name in each hierarchy, for runsc wants to be in all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shlex
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

from atolld.model.errors import HostError
from atolld.model.sandbox import Resources

PARENT = "/atoll"
_MOUNT = Path("/sys/fs/cgroup")
_MIB = 1 << 20
_CPU_PERIOD_US = 100_000
_PROCESSES = 4096
"""Host processes and threads of one sandbox: gVisor's own, and one for each thread inside."""
_KILL_TIMEOUT = 10.0


def is_unified() -> bool:
    """Whether the machine runs on cgroup v2 alone, as runsc sees it."""
    return (_MOUNT / "cgroup.controllers").exists()


def create_group(path: str, resources: Resources) -> None:
    """``path`` is absolute below each hierarchy, such as ``/atoll/<name>``."""
    try:
        if is_unified():
            _create_unified(path, resources)
        else:
            for hierarchy in _hierarchies_v1():
                _below(hierarchy, path).mkdir(parents=True, exist_ok=True)
            for controller, settings in _settings_v1(resources).items():
                _write(_below(_MOUNT / controller, path), settings)
            _take_processors(_MOUNT / "cpuset", path)
    except OSError as error:
        raise HostError(f"the cgroup {path} cannot be made ({error}); see `./atoll doctor`") from error


def joining(path: str) -> tuple[str, ...]:
    """What a command begins with that is to run in the group: then runsc need not move itself there.

    On v1 the kernel makes whoever moves a process with threads wait until all processors have passed a quiet
    state, some 10 ms, and runsc would move twice, there and back; a process of one thread moves itself at
    once. On v2 runsc starts its processes in the group, and nothing is needed.
    """
    if is_unified():
        return ()
    files = " ".join(shlex.quote(str(_below(hierarchy, path) / "tasks")) for hierarchy in _hierarchies_v1())
    script = f'for tasks in {files}; do echo 0 > "$tasks" || exit; done; exec "$@"'
    return ("/bin/sh", "-c", script, "sh")


def set_memory_limit(path: str, limit_mib: int) -> None:
    try:
        if is_unified():
            _write(_below(_MOUNT, path), {"memory.max": str(limit_mib * _MIB)})
        else:
            _write(_below(_MOUNT / "memory", path), {"memory.limit_in_bytes": str(limit_mib * _MIB)})
    except OSError as error:
        raise HostError(f"the memory limit of cgroup {path} cannot be set ({error})") from error


def headroom_mib(memory_mib: int) -> int:
    """What gVisor needs beyond the guest's memory: its kernel, its page tables, the guest's page
    structures.

    It is no reservation, so it is ample: 100,000 files, a fork bomb and a full memory in turn took more than
    384 MiB beside 1024, and the kernel ended the sandbox.
    """
    return 512 + memory_mib // 8


def count_memory_kills(path: str) -> int:
    """How often the kernel ended a process of the group for its memory limit."""
    file = _below(_MOUNT, path) / "memory.events" if is_unified() else _memory_v1(path) / "memory.oom_control"
    with contextlib.suppress(OSError, ValueError):
        for line in file.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return 0


def read_cpu_seconds(path: str) -> float:
    """What the processes of the group have used. Raises ``HostError`` when it is gone."""
    try:
        if not is_unified():
            return int((_below(_MOUNT / "cpuacct", path) / "cpuacct.usage").read_text()) / 1e9
        for line in (_below(_MOUNT, path) / "cpu.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "usage_usec":
                return int(value) / 1e6
    except (OSError, ValueError) as error:
        raise HostError(f"the CPU time of cgroup {path} cannot be read ({error})") from error
    raise HostError(f"the kernel counts no CPU time for cgroup {path}")


async def end_group(path: str) -> None:
    """Ends every process in the group and waits for them. Idempotent."""
    for hierarchy in _hierarchies():
        await _kill_all(_below(hierarchy, path))


async def remove_group(path: str) -> None:
    """Ends what is left in the group and removes it from every hierarchy. Idempotent."""
    await end_group(path)
    for hierarchy in _hierarchies():
        directory = _below(hierarchy, path)
        try:
            await asyncio.to_thread(directory.rmdir)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise HostError(f"the cgroup {directory} cannot be removed ({error})") from error


def remove_parent() -> None:
    """Removes the parent of all groups where it is empty."""
    for hierarchy in _hierarchies():
        with contextlib.suppress(OSError):
            _below(hierarchy, PARENT).rmdir()


def list_groups() -> frozenset[str]:
    """Every group below :data:`PARENT`, the parent included, as paths on the host."""
    parents = [_below(hierarchy, PARENT) for hierarchy in _hierarchies()]
    return frozenset(
        str(found) for parent in parents if parent.is_dir() for found in (parent, *_directories(parent))
    )


def _create_unified(path: str, resources: Resources) -> None:
    directory = _MOUNT
    for part in path.strip("/").split("/"):
        _write(directory, {"cgroup.subtree_control": "+cpu +memory +pids"})
        directory = directory / part
        directory.mkdir(exist_ok=True)
    _write(
        directory,
        {
            "memory.max": str(resources.memory_mib * _MIB),
            "memory.oom.group": "1",
            "cpu.max": f"{resources.vcpu * _CPU_PERIOD_US} {_CPU_PERIOD_US}",
            "pids.max": str(_PROCESSES),
        },
    )


def _settings_v1(resources: Resources) -> Mapping[str, Mapping[str, str]]:
    return {
        "memory": {"memory.limit_in_bytes": str(resources.memory_mib * _MIB)},
        "cpu": {
            "cpu.cfs_period_us": str(_CPU_PERIOD_US),
            "cpu.cfs_quota_us": str(resources.vcpu * _CPU_PERIOD_US),
        },
        "pids": {"pids.max": str(_PROCESSES)},
    }


@functools.cache
def _hierarchies_v1() -> tuple[Path, ...]:
    """Not the one of v2 that may be mounted beside them. Every container that is made asks for them."""
    return tuple(hierarchy for hierarchy in _hierarchies() if (hierarchy / "tasks").exists())


def _take_processors(cpuset: Path, path: str) -> None:
    """Those of the group above: a new group of this hierarchy has none, and nothing could run in it."""
    if not cpuset.is_dir():
        return
    for name in ("cpuset.cpus", "cpuset.mems"):
        taken = (cpuset / name).read_text()
        directory = cpuset
        for part in path.strip("/").split("/"):
            directory = directory / part
            if not (directory / name).read_text().strip():
                (directory / name).write_text(taken)


def _write(directory: Path, settings: Mapping[str, str]) -> None:
    for name, value in settings.items():
        (directory / name).write_text(value)


def _hierarchies() -> list[Path]:
    """Where cgroups are mounted; on v1 each controller's, its aliases once."""
    if is_unified():
        return [_MOUNT]
    found = sorted(_MOUNT.iterdir()) if _MOUNT.is_dir() else []
    return [path for path in found if path.is_dir() and not path.is_symlink()]


def _memory_v1(path: str) -> Path:
    return _below(_MOUNT / "memory", path)


def _below(hierarchy: Path, path: str) -> Path:
    return hierarchy / path.lstrip("/")


def _directories(parent: Path) -> Iterator[Path]:
    for path in parent.iterdir():
        if path.is_dir():
            yield path
            yield from _directories(path)


async def _kill_all(directory: Path) -> None:
    """Ends every process of the group, and waits for it: a group with processes cannot be removed."""
    try:
        async with asyncio.timeout(_KILL_TIMEOUT):
            while pids := _read_pids(directory):
                await asyncio.gather(*(_kill(pid) for pid in pids))
    except TimeoutError:
        raise HostError(f"processes of {directory} do not end; `./atoll doctor --deep` names them") from None


def _read_pids(directory: Path) -> list[int]:
    try:
        return [int(line) for line in (directory / "cgroup.procs").read_text().split()]
    except (FileNotFoundError, OSError):
        return []


async def _kill(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    try:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        loop.add_reader(descriptor, lambda: ended.done() or ended.set_result(None))
        await ended
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
