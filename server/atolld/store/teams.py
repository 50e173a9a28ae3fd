"""Teams and the hashes of their API keys."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import insert, select

from atolld.model.team import Team, TeamId
from atolld.store.database import Database
from atolld.store.tables import api_keys, teams


class TeamRows:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def ensure(self, slug: str, name: str, now: datetime) -> Team:
        """The team called ``slug``, made when there is none."""
        async with self._database.write() as connection:
            found = (await connection.execute(select(teams).where(teams.c.slug == slug))).one_or_none()
            if found is not None:
                return Team(TeamId(found.team_id), found.slug, found.name)
            team = Team(TeamId(str(uuid.uuid4())), slug, name)
            await connection.execute(
                insert(teams).values(team_id=team.team_id, slug=slug, name=name, created_at=now)
            )
            return team

    async def add_key(self, team_id: TeamId, name: str, key_hash: str, now: datetime) -> None:
        async with self._database.write() as connection:
            await connection.execute(
                insert(api_keys).values(
                    key_id=str(uuid.uuid4()), team_id=team_id, name=name, hash=key_hash, created_at=now
                )
            )

    async def of_key(self, key_hash: str) -> Team | None:
        query = (
            select(teams.c.team_id, teams.c.slug, teams.c.name)
            .join(api_keys, api_keys.c.team_id == teams.c.team_id)
            .where(api_keys.c.hash == key_hash)
        )
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else Team(TeamId(row.team_id), row.slug, row.name)
