"""A driver for SQLite that runs each statement where it is called, in the event loop.

A statement of ours takes some ten microseconds; handing it to a thread and back takes a busy machine some
hundred, and a transaction is five of them. It never waits for the disk: the log is flushed at checkpoints
only, which :mod:`atolld.store.database` makes in a thread; nor long for another process's lock.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiosqlite

_LONGEST_WAIT_MS = 50
"""For another process's lock, before the caller is told and may try again."""
_STATEMENTS = 64
"""Rows that a cursor fetches at a time."""


class InlineConnection(aiosqlite.Connection):
    """SQLAlchemy's asyncio dialect for SQLite speaks to aiosqlite; this is one without its thread."""

    def __init__(self, path: Path) -> None:
        super().__init__(self._no_thread, _STATEMENTS)
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=_LONGEST_WAIT_MS / 1000)

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @staticmethod
    def _no_thread() -> sqlite3.Connection:
        raise RuntimeError("an inline connection is open from the beginning")
