"""Snapshots that were taken of sandboxes: builds with a source, found by a tag of their template."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import and_, delete, or_, select
from sqlalchemy.dialects.sqlite import insert

from atolld.model.errors import InvalidRequest
from atolld.model.team import TeamId
from atolld.store.database import Database
from atolld.store.tables import builds, template_names, template_tags, templates
from atolld.store.templates import READY


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    template_id: str
    build_id: str
    name: str | None
    tag: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class SnapshotFilter:
    """Newest first; ``after`` is the last row of the page before."""

    team_id: TeamId
    source: str | None = None
    name: str | None = None
    """Or a template's id."""
    tag: str | None = None
    limit: int | None = None
    after: tuple[datetime, str] | None = None


class SnapshotRows:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_template(self, team_id: TeamId, name: str) -> str | None:
        """The template whose snapshots are called ``name``. Raises :class:`InvalidRequest` when it is one
        that was built."""
        named = template_names.c
        query = select(named.template_id).where(named.team_id == team_id, named.name == name)
        recipe = builds.c.source_sandbox_id.is_(None)
        async with self._database.read() as connection:
            template_id = (await connection.execute(query)).scalar()
            built = select(builds.c.build_id).where(builds.c.template_id == template_id, recipe).limit(1)
            if template_id is not None and (await connection.execute(built)).scalar() is not None:
                raise InvalidRequest(f'the name "{name}" belongs to a template: choose another')
        return template_id

    async def register(self, team_id: TeamId, row: SnapshotRow, source: str) -> SnapshotRow | None:
        """Makes a snapshot on the disk one that sandboxes can start from; its tag points at it now. The one
        that the tag pointed at before, if any."""
        now = row.created_at
        tag = template_tags.c
        tagged = select(tag.build_id).where(tag.template_id == row.template_id, tag.tag == row.tag)
        async with self._database.write() as connection:
            before = (await connection.execute(tagged)).scalar()
            await connection.execute(
                insert(templates)
                .values(
                    template_id=row.template_id, team_id=team_id, public=False, created_at=now, updated_at=now
                )
                .on_conflict_do_update(["template_id"], set_={"updated_at": now})
            )
            if row.name is not None:
                await connection.execute(
                    insert(template_names)
                    .values(team_id=team_id, name=row.name, template_id=row.template_id)
                    .on_conflict_do_nothing()
                )
            await connection.execute(
                insert(builds).values(
                    build_id=row.build_id,
                    template_id=row.template_id,
                    status=READY,
                    created_at=now,
                    finished_at=now,
                    source_sandbox_id=source,
                )
            )
            await connection.execute(
                insert(template_tags)
                .values(template_id=row.template_id, tag=row.tag, build_id=row.build_id, created_at=now)
                .on_conflict_do_update(
                    ["template_id", "tag"], set_={"build_id": row.build_id, "created_at": now}
                )
            )
        return None if before is None else replace(row, build_id=before)

    async def list(self, wanted: SnapshotFilter) -> list[SnapshotRow]:
        tags = template_tags.c
        query = (
            select(tags.template_id, tags.build_id, tags.tag, tags.created_at, template_names.c.name)
            .join(builds, builds.c.build_id == tags.build_id)
            .join(templates, templates.c.template_id == tags.template_id)
            .outerjoin(template_names, template_names.c.template_id == tags.template_id)
            .where(templates.c.team_id == wanted.team_id, builds.c.source_sandbox_id.is_not(None))
            .order_by(tags.created_at.desc(), tags.build_id)
            .limit(wanted.limit)
        )
        if wanted.source is not None:
            query = query.where(builds.c.source_sandbox_id == wanted.source)
        if wanted.name is not None:
            query = query.where(or_(template_names.c.name == wanted.name, tags.template_id == wanted.name))
        if wanted.tag is not None:
            query = query.where(tags.tag == wanted.tag)
        if wanted.after is not None:
            moment, build_id = wanted.after
            query = query.where(
                or_(tags.created_at < moment, and_(tags.created_at == moment, tags.build_id > build_id))
            )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return [SnapshotRow(row.template_id, row.build_id, row.name, row.tag, row.created_at) for row in rows]

    async def remove(self, row: SnapshotRow) -> None:
        """Idempotent; its template goes with its last snapshot."""
        async with self._database.write() as connection:
            await connection.execute(delete(template_tags).where(template_tags.c.build_id == row.build_id))
            await connection.execute(delete(builds).where(builds.c.build_id == row.build_id))
            left = select(builds.c.build_id).where(builds.c.template_id == row.template_id)
            if (await connection.execute(left.limit(1))).scalar() is None:
                await connection.execute(delete(templates).where(templates.c.template_id == row.template_id))

    async def superseded(self) -> list[SnapshotRow]:
        """Those whose tag, which is not told, points at a newer one: nothing can start from them any more."""
        untagged = builds.c.build_id.not_in(select(template_tags.c.build_id))
        query = select(builds).where(builds.c.source_sandbox_id.is_not(None), untagged)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return [SnapshotRow(row.template_id, row.build_id, None, "", row.created_at) for row in rows]

    async def ids(self) -> frozenset[str]:
        query = select(builds.c.build_id).where(builds.c.source_sandbox_id.is_not(None))
        async with self._database.read() as connection:
            return frozenset((await connection.execute(query)).scalars())
