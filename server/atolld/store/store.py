"""The store's door."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import text

from atolld.store.database import Database, open_database
from atolld.store.migrate import migrate
from atolld.store.sandboxes import SandboxRows
from atolld.store.snapshots import SnapshotRows
from atolld.store.teams import TeamRows
from atolld.store.templates import TemplateRows


class Store:
    """Open it with :meth:`open`, close it when done; several processes may have it open."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.sandboxes = SandboxRows(database)
        self.snapshots = SnapshotRows(database)
        self.teams = TeamRows(database)
        self.templates = TemplateRows(database)

    @classmethod
    async def open(cls, path: Path) -> Store:
        """Makes the file when there is none, and brings its tables up to date."""
        database = await open_database(path)
        try:
            await migrate(database.engine)
        except BaseException:
            await database.close()
            raise
        return cls(database)

    async def find_damage(self) -> str:
        """What SQLite finds wrong with the file; empty when nothing is."""
        async with self._database.read() as connection:
            said = (await connection.execute(text("PRAGMA integrity_check(5)"))).scalars().all()
        return "" if list(said) == ["ok"] else "; ".join(said)

    async def close(self) -> None:
        await self._database.close()
