"""Connections and transactions.

SQLite in WAL mode: readers never wait, one writer at a time. Writers of this process queue on a lock, so that
none meets ``database is locked``; another process's lock (a set-up beside a running server) is waited for.
Statements run in the event loop (:mod:`atolld.store.inline`); what waits for the disk runs in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from atolld.store.inline import InlineConnection, create_inline_engine

T = TypeVar("T")

_PRAGMAS = (
    # A killed process loses nothing; a power cut may lose the last instants, and the sandboxes with them.
    "PRAGMA synchronous=NORMAL",
    "PRAGMA foreign_keys=ON",
)
_WAIT_PRAGMA = "PRAGMA busy_timeout=10000"
_NO_CHECKPOINT_PRAGMA = "PRAGMA wal_autocheckpoint=0"
_WRITES = "atolld_writes"
_LOCK_PATIENCE = 10.0
"""Seconds that another process may hold the lock."""
_BETWEEN_TRIES = 0.005
_BETWEEN_CHECKPOINTS = 300
"""Transactions: some 1,000 pages of log."""


class Database:
    """``engine`` runs its statements in a thread, ``inline`` in the event loop."""

    def __init__(self, path: Path, engine: AsyncEngine, inline: Engine) -> None:
        self._path = path
        self.engine = engine
        self._inline = inline
        self._writer = asyncio.Lock()
        self._written = 0
        self._checkpoint: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncGenerator[InlineConnection]:
        with self._inline.connect() as connection:
            await _patiently(connection.begin)
            yield InlineConnection(connection)

    @contextlib.asynccontextmanager
    async def write(self) -> AsyncGenerator[InlineConnection]:
        """One transaction: committed when the block ends, undone when it raises."""
        async with self._writer:
            with self._inline.connect() as connection:
                connection.execution_options(**{_WRITES: True})
                transaction = await _patiently(connection.begin)
                with transaction:
                    yield InlineConnection(connection)
        self._count_write()

    async def close(self) -> None:
        if self._checkpoint is not None:
            await asyncio.wait([self._checkpoint])
        self._inline.dispose()
        await self.engine.dispose()

    def _count_write(self) -> None:
        self._written += 1
        if self._written % _BETWEEN_CHECKPOINTS == 0 and (
            self._checkpoint is None or self._checkpoint.done()
        ):
            self._checkpoint = asyncio.create_task(self._flush_log())

    async def _flush_log(self) -> None:
        """Most of it beside the writers; what they wrote meanwhile, while they wait: only then does the log
        begin anew."""
        await asyncio.to_thread(_flush_log, self._path)
        async with self._writer:
            await asyncio.to_thread(_flush_log, self._path)


def _flush_log(path: Path) -> None:
    """Into the database's file; whoever reads or writes meanwhile is not held up."""
    with (
        contextlib.closing(sqlite3.connect(path)) as connection,
        contextlib.suppress(sqlite3.OperationalError),
    ):
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")  # it fails where another process does the same


async def open_database(path: Path) -> Database:
    """Makes the file when there is none; 0600, because rows hold tokens."""
    await _patiently(partial(_make_file, path))

    engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
    inline = create_inline_engine(path)
    event.listen(engine.sync_engine, "connect", _prepare)
    event.listen(inline, "connect", _prepare_inline)
    for each in (engine.sync_engine, inline):
        event.listen(each, "begin", _begin)
    return Database(path, engine, inline)


def _make_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600, exist_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        # The file keeps it. Who finds another at it is refused at once, however long SQLite waits.
        connection.execute("PRAGMA journal_mode=WAL")


async def _patiently(act: Callable[[], T]) -> T:
    """What it gives once no other process holds the lock."""
    until = time.monotonic() + _LOCK_PATIENCE
    while True:
        try:
            return act()
        except (OperationalError, sqlite3.OperationalError) as error:
            reason = error.orig if isinstance(error, OperationalError) else error
            if "locked" not in str(reason) or time.monotonic() > until:
                raise
        await asyncio.sleep(_BETWEEN_TRIES)  # the other process announces nothing


def _prepare(connection: Any, _record: Any) -> None:
    # The driver's own BEGIN comes too late: a reader can no longer become a writer then.
    connection.isolation_level = None
    _set_up(connection, *_PRAGMAS, _WAIT_PRAGMA)


def _prepare_inline(connection: Any, _record: Any) -> None:
    _set_up(connection, *_PRAGMAS, _NO_CHECKPOINT_PRAGMA)


def _set_up(connection: Any, *pragmas: str) -> None:
    cursor = connection.cursor()
    for pragma in pragmas:
        cursor.execute(pragma)
    cursor.close()


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
