"""One set-up at a time for one state directory: the second waits, then finds everything done."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path


@asynccontextmanager
async def hold_lock(path: Path) -> AsyncGenerator[None]:
    """The kernel gives it up when its holder dies, however that happens."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("atoll: another set-up is at work; waiting for it", file=sys.stderr, flush=True)
            await _wait(descriptor)
        yield
    finally:
        os.close(descriptor)


async def _wait(descriptor: int) -> None:
    """In a thread; a cancelled waiter's thread ends with the process or when the lock comes free."""
    await asyncio.to_thread(fcntl.flock, descriptor, fcntl.LOCK_EX)
