"""Runs each statement where it is called, in the event loop.

A statement of ours takes some ten microseconds; handing it to a thread and back takes a busy machine some
hundred, and a transaction is five of them. It never waits for the disk: the log is flushed at checkpoints
only, which :mod:`atolld.store.database` makes in a thread; nor long for another process's lock.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, CursorResult, Engine, Executable, create_engine

_LONGEST_WAIT = 0.05
"""Seconds for another process's lock, before the caller is told and may try again."""


class InlineConnection:
    """One transaction's. Its statements are awaited, as those of every other driver here would be."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def execute(
        self, statement: Executable, values: Mapping[str, Any] | None = None
    ) -> CursorResult[Any]:
        return self._connection.execute(statement, values)


def create_inline_engine(path: Path) -> Engine:
    # Without a level the driver begins nothing by itself.
    settings = {"timeout": _LONGEST_WAIT, "isolation_level": None}
    return create_engine(f"sqlite:///{path}", connect_args=settings)
