"""Who runs this machine's sandboxes: one process at a time, by a lock on ``run/server.pid``.

The kernel gives the lock back when its holder dies, however it dies; the file's contents only tell who it is:
``{"pid": 123, "role": "server", "url": "http://127.0.0.1:8600"}``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
from collections.abc import Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from atolld.model.errors import HostError

Role = Literal["server", "down"]


@dataclass(frozen=True, slots=True)
class Holder:
    pid: int
    role: Role
    url: str = ""


def lock_path(home: Path) -> Path:
    return home / "run" / "server.pid"


@contextlib.contextmanager
def hold_machine(home: Path, role: Role, url: str = "") -> Generator[None]:
    """Raises :class:`HostError`, naming the holder, when another process has it."""
    path = lock_path(home)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o711)  # the API's socket lies here
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HostError(_busy(_read(descriptor))) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(asdict(Holder(os.getpid(), role, url))).encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def find_holder(home: Path) -> Holder | None:
    """The process that has the lock now."""
    try:
        descriptor = os.open(lock_path(home), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(descriptor)
    finally:
        os.close(descriptor)
    return None


def stop_process(pid: int, patience: float) -> bool:
    """Asks the process to end, waits ``patience`` seconds, then ends it; ``False`` when there was none."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        end_process(process, patience)
    finally:
        os.close(process)
    return True


def end_process(process: int, patience: float) -> None:
    """As :func:`stop_process`, by its pidfd."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, signal.SIGTERM)
        if not has_ended(process, patience):
            signal.pidfd_send_signal(process, signal.SIGKILL)
            has_ended(process, patience)


def has_ended(process: int, seconds: float) -> bool:
    watched = select.poll()
    watched.register(process, select.POLLIN)
    return bool(watched.poll(seconds * 1000))


def _read(descriptor: int) -> Holder | None:
    try:
        return Holder(**json.loads(os.pread(descriptor, 4096, 0)))
    except (ValueError, TypeError):
        return None  # it has just taken the lock, and not yet written who it is


def _busy(holder: Holder | None) -> str:
    if holder is None:
        return "another Atoll process has just taken this machine: try again"
    if holder.role == "server":
        return f"a server runs already: process {holder.pid}, {holder.url}; `./atoll down` stops it"
    return f"{holder.role} is at work (process {holder.pid}): wait until it is done, and try again"
