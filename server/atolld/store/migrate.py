"""Brings the tables to the newest form; a start of the server that finds them so pays for one SELECT only."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine

from atolld.model.errors import HostError

HEAD = "0004"
"""Newest revision below ``migrations/versions`` (a test compares)."""

MIGRATIONS = Path(__file__).with_name("migrations")


async def migrate(engine: AsyncEngine) -> None:
    """Raises :class:`HostError` when the file was written by a newer Atoll than this."""
    async with engine.connect() as connection:
        if await connection.run_sync(_revision) == HEAD:
            return
    async with engine.connect() as plain:
        # One writer: a second process that starts beside us waits here and then finds the work done.
        connection = await plain.execution_options(atolld_writes=True)
        async with connection.begin():
            if await connection.run_sync(_revision) != HEAD:
                await connection.run_sync(_upgrade)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(connection: Connection) -> None:
    # Imported here: the usual start does not need it, and it is slow to load.
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise HostError(
            f"the database has a form this version does not know ({error}): "
            "start it with the version of Atoll that wrote it, or newer"
        ) from error
