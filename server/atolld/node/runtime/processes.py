"""Host processes by pid, without polling: a pidfd becomes readable when its process ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Generator
from pathlib import Path


@contextlib.contextmanager
def open_process(pid: int) -> Generator[int | None]:
    """A pidfd; ``None`` when there is no such process any more."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


async def wait_ended(pid: int) -> None:
    with open_process(pid) as descriptor:
        if descriptor is not None:
            await _wait_readable(descriptor)


async def kill_and_wait(pid: int) -> None:
    with open_process(pid) as descriptor:
        if descriptor is None:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        await _wait_readable(descriptor)


def command_line(pid: int) -> tuple[str, ...]:
    """Arguments of a process; empty when it is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return tuple(part.decode("utf-8", "replace") for part in file.read().split(b"\0") if part)
    except OSError:
        return ()


def sum_unlinked_files(pid: int) -> int:
    """Bytes allocated to the files without a name that a process has open: gVisor keeps the guest's memory
    and its writable layer in such. Pages that it shares with others count as well."""
    allocated: dict[tuple[int, int], int] = {}
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if os.readlink(link).endswith((" (deleted)", "/pages.img")):
                status = os.stat(link)
                allocated[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(allocated.values())


async def _wait_readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    loop.add_reader(descriptor, lambda: ended.done() or ended.set_result(None))
    try:
        await ended
    finally:
        loop.remove_reader(descriptor)
