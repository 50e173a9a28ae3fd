"""Templates, their names, tags and builds. A tag points at a build that is ready."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BindParameter, Select, bindparam, select
from sqlalchemy.dialects.sqlite import insert

from atolld.model.errors import Conflict
from atolld.model.names import DEFAULT_TAG
from atolld.model.team import TeamId
from atolld.store.database import Database
from atolld.store.tables import builds, teams, template_names, template_tags, templates

READY = "ready"


@dataclass(frozen=True, slots=True)
class TemplateRow:
    template_id: str
    team_id: TeamId
    public: bool
    name: str | None
    build_id: str | None
    """The finished build with the tag that was asked for."""


@dataclass(frozen=True, slots=True)
class BuildRow:
    template_id: str
    build_id: str


class TemplateRows:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def register(
        self, team_id: TeamId, template_id: str, name: str, build_id: str, *, public: bool, now: datetime
    ) -> None:
        """Makes a finished build the one that ``name`` starts from. Idempotent: the last one registered wins.

        Raises :class:`Conflict` when the name is another template's.
        """
        async with self._database.write() as connection:
            await connection.execute(
                insert(templates)
                .values(
                    template_id=template_id, team_id=team_id, public=public, created_at=now, updated_at=now
                )
                .on_conflict_do_update(["template_id"], set_={"updated_at": now, "public": public})
            )
            await connection.execute(
                insert(template_names)
                .values(team_id=team_id, name=name, template_id=template_id)
                .on_conflict_do_nothing()
            )
            holder = select(template_names.c.template_id).where(
                template_names.c.team_id == team_id, template_names.c.name == name
            )
            if (await connection.execute(holder)).scalar_one() != template_id:
                raise Conflict(f'the name "{name}" belongs to another template: choose another')
            await connection.execute(
                insert(builds)
                .values(
                    build_id=build_id, template_id=template_id, status=READY, created_at=now, finished_at=now
                )
                .on_conflict_do_update(["build_id"], set_={"status": READY, "finished_at": now})
            )
            await connection.execute(
                insert(template_tags)
                .values(template_id=template_id, tag=DEFAULT_TAG, build_id=build_id, created_at=now)
                .on_conflict_do_update(["template_id", "tag"], set_={"build_id": build_id, "created_at": now})
            )

    async def find(
        self, name: str, *, tag: str = DEFAULT_TAG, team_slug: str | None = None
    ) -> list[TemplateRow]:
        """Every template called ``name`` or with that id, whoever owns it."""
        values = {"wanted": name, "wanted_tag": tag}
        query = _FIND
        if team_slug is not None:
            query = _FIND_OF_TEAM
            values["team"] = team_slug
        async with self._database.read() as connection:
            rows = (await connection.execute(query, values)).all()
        first: dict[str, TemplateRow] = {}
        for row in rows:
            found = TemplateRow(row.template_id, TeamId(row.team_id), row.public, row.name, row.build_id)
            first.setdefault(row.template_id, found)
        return list(first.values())

    async def default_builds(self) -> list[BuildRow]:
        """The build each template starts from when no tag is given; snapshots of sandboxes are left out."""
        query = select(template_tags.c.template_id, template_tags.c.build_id).where(
            template_tags.c.tag == DEFAULT_TAG, template_tags.c.build_id.in_(_recipes())
        )
        async with self._database.read() as connection:
            return [BuildRow(row.template_id, row.build_id) for row in await connection.execute(query)]


def _build_find() -> Select[Any]:
    """Templates by a name or an id (``wanted``), with the build that a tag (``wanted_tag``) points at."""
    wanted: BindParameter[str] = bindparam("wanted")
    named = select(template_names.c.template_id).where(template_names.c.name == wanted)
    ready = (
        select(template_tags.c.template_id, template_tags.c.build_id)
        .join(builds, builds.c.build_id == template_tags.c.build_id)
        .where(template_tags.c.tag == bindparam("wanted_tag"), builds.c.status == READY)
        .subquery()
    )
    return (
        select(templates, template_names.c.name, ready.c.build_id)
        .outerjoin(template_names, template_names.c.template_id == templates.c.template_id)
        .outerjoin(ready, ready.c.template_id == templates.c.template_id)
        .where((templates.c.template_id == wanted) | templates.c.template_id.in_(named))
        .order_by(template_names.c.name != wanted, template_names.c.name)
    )


# Put together once: every create waits for it, and that takes longer than running it.
_FIND = _build_find()
_FIND_OF_TEAM = _FIND.join(teams, teams.c.team_id == templates.c.team_id).where(
    teams.c.slug == bindparam("team")
)


def _recipes() -> Select[tuple[str]]:
    return select(builds.c.build_id).where(builds.c.source_sandbox_id.is_(None))
