"""Statements run in the event loop: nothing there may wait for another process."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from atolld.store import Store


async def test_another_processs_lock_is_waited_for_and_nobody_stands_still(tmp_path: Path) -> None:
    path = tmp_path / "atoll.db"
    store = await Store.open(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writing = asyncio.create_task(store.teams.ensure("a", "A", datetime.now(UTC)))
    longest, last = 0.0, time.monotonic()
    for turn in range(1000):
        await asyncio.sleep(0.001)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
        if turn == 50:
            assert not writing.done()
            other.execute("COMMIT")
        if writing.done():
            break
    assert (await writing).slug == "a"
    assert longest < 1.0
    other.close()
    await store.close()


async def test_the_log_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atolld.store.database._BETWEEN_CHECKPOINTS", 20)
    path = tmp_path / "atoll.db"
    store = await Store.open(path)
    for n in range(200):
        await store.teams.ensure(f"t{n}", "T", datetime.now(UTC))
        if flushing := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(flushing)
    assert path.with_name("atoll.db-wal").stat().st_size < 100 * 4096
    await store.close()
