from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from atolld.model.errors import HostError
from atolld.store import Store
from atolld.store.migrate import HEAD, MIGRATIONS
from atolld.store.tables import metadata


def _script() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return ScriptDirectory.from_config(config)


def test_head_is_the_newest_revision() -> None:
    assert _script().get_heads() == [HEAD]


async def test_migrations_make_the_tables(store: Store, tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'atoll.db'}")
    with engine.connect() as connection:
        difference = compare_metadata(MigrationContext.configure(connection), metadata)
    engine.dispose()
    assert difference == []


async def test_only_the_owner_reads_the_file(store: Store, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "atoll.db").stat().st_mode) == 0o600


async def test_several_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "atoll.db"
    stores = await asyncio.gather(*(Store.open(path) for _ in range(3)))
    for opened in stores:
        await opened.close()


async def test_a_newer_file_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "atoll.db"
    await (await Store.open(path)).close()
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(HostError, match="newer"):
        await Store.open(path)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "9999"
    engine.dispose()
