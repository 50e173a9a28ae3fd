"""Sandboxes: one row each, changed by compare-and-set only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, bindparam, delete, exists, func, insert, or_, select, update

from atolld.model.errors import Conflict, TooMany
from atolld.model.records import Cursor, Deadline, End, Nap, SandboxFilter, SandboxRecord
from atolld.model.sandbox import (
    SETTLED,
    UP,
    USING_QUOTA,
    EndReason,
    Event,
    Resources,
    SandboxId,
    State,
    transition,
)
from atolld.model.team import TeamId
from atolld.store.database import Database
from atolld.store.inline import InlineConnection
from atolld.store.once import OnlyOnce, claim_key
from atolld.store.tables import sandboxes

_c = sandboxes.c

# What every create and kill waits for is put together once: that takes longer than running it.
_INSERT = insert(sandboxes)
_GET = select(sandboxes).where(_c.sandbox_id == bindparam("wanted"))
_CHANGE = (
    update(sandboxes)
    .where(
        _c.sandbox_id == bindparam("wanted"),
        _c.state == bindparam("was"),
        _c.incarnation == bindparam("was_incarnation"),
    )
    .returning(sandboxes)
)
_CHANGE_DUE = _CHANGE.where(_c.deadline_ticks <= bindparam("due_by"))
_COUNT_ALIVE = select(func.count()).where(_c.team_id == bindparam("team"), _c.state.in_(sorted(USING_QUOTA)))


class SandboxRows:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(
        self, record: SandboxRecord, *, limit: int, once: OnlyOnce | None = None
    ) -> SandboxRecord:
        """The new row; with ``once``, the row that the same request made before, where it did.

        Raises :class:`TooMany` when the team has ``limit`` sandboxes already, and what :func:`claim_key`
        does; all in one transaction.
        """
        async with self._database.write() as connection:
            if once is not None:
                earlier = await claim_key(connection, record, once)
                if earlier is not None:
                    return _record(earlier)
            await check_quota(connection, record.team_id, limit)
            await connection.execute(_INSERT, _values(record))
        return record

    async def get(self, sandbox_id: SandboxId) -> SandboxRecord | None:
        async with self._database.read() as connection:
            row = (await connection.execute(_GET, {"wanted": sandbox_id})).one_or_none()
        return None if row is None else _record(row)

    async def transition(
        self,
        record: SandboxRecord,
        *events: Event,
        end: End | None = None,
        deadline: Deadline | None = None,
        due_by: float | None = None,
        nap: Nap | None = None,
        guest_silent: bool = False,
        at: datetime | None = None,
        limit: int | None = None,
    ) -> SandboxRecord:
        """Applies ``events``, one after the other, to the row that ``record`` was read from.

        ``due_by``: only when the row's deadline is not later than these ticks. ``nap`` goes with a PAUSE,
        ``guest_silent`` with a PAUSE_DONE, ``at`` is the time of a RESUME_DONE. ``limit``: raises
        :class:`TooMany` when the team has that many already. Raises :class:`Conflict` when the table does
        not allow it, or the row is no longer what ``record`` says.
        """
        state = record.state
        incarnation = record.incarnation
        for step in events:
            following = transition(state, step)
            if following is None:
                raise Conflict(f"sandbox {record.sandbox_id} is {state}: '{step}' is not possible now")
            state = following
            incarnation += step in (Event.RESUME, Event.ROLLBACK)
        changes: dict[str, Any] = {"state": state.value, "incarnation": incarnation}
        if nap is not None or Event.PAUSE_FAILED in events or Event.RESUME_DONE in events:
            changes |= _nap_values(nap)
        if Event.PAUSE_DONE in events:
            changes["guest_silent"] = guest_silent
        if Event.RESUME_DONE in events and at is not None:
            changes["started_at"] = at
        if end is not None:
            changes |= _end_values(end)
        if deadline is not None:
            changes |= _deadline_values(deadline)
        changes |= {
            "wanted": record.sandbox_id,
            "was": record.state.value,
            "was_incarnation": record.incarnation,
        }
        if due_by is not None:
            changes["due_by"] = due_by
        statement = _CHANGE if due_by is None else _CHANGE_DUE
        async with self._database.write() as connection:
            if limit is not None:
                await check_quota(connection, record.team_id, limit)
            row = (await connection.execute(statement, changes)).one_or_none()
        if row is None:
            raise Conflict(f"sandbox {record.sandbox_id} changed meanwhile: try again")
        return _record(row)

    async def set_deadline(
        self, sandbox_id: SandboxId, team_id: TeamId, deadline: Deadline, *, extend_only: bool
    ) -> SandboxRecord | None:
        """The running sandbox with its new deadline (the old one, where ``extend_only`` and that is later).

        ``None`` when the team has no running sandbox of that id.
        """
        condition = and_(
            _c.sandbox_id == sandbox_id, _c.team_id == team_id, _c.state.in_([s.value for s in UP])
        )
        later = _c.deadline_ticks < deadline.ticks
        changed = await self._update(
            and_(condition, later) if extend_only else condition, _deadline_values(deadline)
        )
        if changed is not None or not extend_only:
            return changed
        async with self._database.read() as connection:
            row = (await connection.execute(select(sandboxes).where(condition))).one_or_none()
        return None if row is None else _record(row)

    async def list(self, wanted: SandboxFilter) -> list[SandboxRecord]:
        query = select(sandboxes).where(*_conditions(wanted)).limit(wanted.limit)
        if wanted.after is not None:
            query = query.where(_after(wanted.after, ascending=wanted.ascending))
        started = _c.started_at.asc() if wanted.ascending else _c.started_at.desc()
        async with self._database.read() as connection:
            rows = (await connection.execute(query.order_by(started, _c.sandbox_id))).all()
        return [_record(row) for row in rows]

    async def count(self, wanted: SandboxFilter) -> int:
        """How many the filter matches, on all pages."""
        query = select(func.count()).select_from(sandboxes).where(*_conditions(wanted))
        async with self._database.read() as connection:
            return (await connection.execute(query)).scalar_one()

    async def unsettled(self) -> Sequence[SandboxRecord]:
        """Every sandbox that is, or should be, in this machine's memory."""
        query = select(sandboxes).where(_c.state.not_in([state.value for state in SETTLED]))
        async with self._database.read() as connection:
            return [_record(row) for row in (await connection.execute(query)).all()]

    async def asleep(self) -> Sequence[SandboxRecord]:
        """Every paused sandbox, of all teams."""
        query = select(sandboxes).where(_c.state == State.PAUSED.value)
        async with self._database.read() as connection:
            return [_record(row) for row in (await connection.execute(query)).all()]

    async def forget(self, before: datetime) -> int:
        """Removes the rows of sandboxes that were over ``before``; how many."""
        over = and_(_c.state == State.KILLED.value, _c.ended_at < before)
        async with self._database.write() as connection:
            return (await connection.execute(delete(sandboxes).where(over))).rowcount

    async def used_snapshots(self) -> frozenset[str]:
        """Ids of the snapshots that hold a sandbox's state, or will when they are written."""
        query = select(_c.snapshot_id).where(_c.snapshot_id.is_not(None), _c.state != State.KILLED.value)
        async with self._database.read() as connection:
            return frozenset((await connection.execute(query)).scalars())

    async def used_builds(self) -> frozenset[str]:
        """Ids of the builds that sandboxes which are not over started from."""
        query = select(_c.build_id).where(_c.state != State.KILLED.value).distinct()
        async with self._database.read() as connection:
            return frozenset((await connection.execute(query)).scalars())

    async def _update(self, condition: ColumnElement[bool], changes: dict[str, Any]) -> SandboxRecord | None:
        statement = update(sandboxes).where(condition).values(**changes).returning(sandboxes)
        async with self._database.write() as connection:
            row = (await connection.execute(statement)).one_or_none()
        return None if row is None else _record(row)


async def check_quota(connection: InlineConnection, team_id: TeamId, limit: int) -> None:
    """Raises :class:`TooMany` when the team has ``limit`` sandboxes already."""
    if (await connection.execute(_COUNT_ALIVE, {"team": team_id})).scalar_one() >= limit:
        raise TooMany(
            f"you have reached the maximum number of concurrent E2B sandboxes ({limit}). If you need "
            "more, kill some, or have the operator raise ATOLL_MAX_SANDBOXES"
        )


def _conditions(wanted: SandboxFilter) -> list[ColumnElement[bool]]:
    found = [_c.team_id == wanted.team_id, _c.state.in_([state.value for state in wanted.states])]
    if wanted.template_id is not None:
        found.append(_c.template_id == wanted.template_id)
    if wanted.started_after is not None:
        found.append(_c.started_at >= wanted.started_after)
    return found + [_has_metadata(key, value) for key, value in wanted.metadata.items()]


def _has_metadata(key: str, value: str) -> ColumnElement[bool]:
    pair = func.json_each(_c.metadata).table_valued("key", "value")
    return exists().where(pair.c.key == key, pair.c.value == value)


def _after(cursor: Cursor, *, ascending: bool) -> ColumnElement[bool]:
    beyond = _c.started_at > cursor.started_at if ascending else _c.started_at < cursor.started_at
    return or_(beyond, and_(_c.started_at == cursor.started_at, _c.sandbox_id > cursor.sandbox_id))


def _values(record: SandboxRecord) -> dict[str, Any]:
    values: dict[str, Any] = {
        "sandbox_id": record.sandbox_id,
        "team_id": record.team_id,
        "template_id": record.template_id,
        "build_id": record.build_id,
        "alias": record.alias,
        "state": record.state.value,
        "incarnation": record.incarnation,
        "started_at": record.started_at,
        "vcpu": record.resources.vcpu,
        "memory_mib": record.resources.memory_mib,
        "disk_mib": record.resources.disk_mib,
        "envd_version": record.envd_version,
        "access_token": record.access_token,
        "allow_internet": record.allow_internet,
        "metadata": dict(record.metadata),
        "envs": dict(record.envs),
        "traffic_token": record.traffic_token,
        "timeout": record.timeout,
        "auto_pause": record.auto_pause,
        "auto_resume": record.auto_resume,
        "snapshot_id": record.snapshot_id,
        "paused_at": record.paused_at,
        "auto_pause_memory": record.auto_pause_memory,
        "without_memory": record.without_memory,
        "guest_silent": record.guest_silent,
        "comes_back": record.comes_back,
        "mask_host": record.mask_host,
        "https_ports": sorted(record.https_ports),
    }
    return values | _deadline_values(record.deadline) | (_end_values(record.end) if record.end else {})


def _deadline_values(deadline: Deadline) -> dict[str, Any]:
    return {"deadline_at": deadline.at, "deadline_ticks": deadline.ticks, "boot_id": deadline.boot_id}


def _nap_values(nap: Nap | None) -> dict[str, Any]:
    """``None``: it is awake."""
    return {
        "snapshot_id": nap and nap.snapshot_id,
        "paused_at": nap and nap.at,
        "without_memory": nap is not None and not nap.memory,
        "guest_silent": False,
        "comes_back": nap is not None and nap.comes_back,
    }


def _end_values(end: End) -> dict[str, Any]:
    return {"end_reason": end.reason.value, "end_detail": end.detail, "ended_at": end.at}


def _record(row: Row[Any]) -> SandboxRecord:
    end = None
    if row.end_reason is not None:
        end = End(EndReason(row.end_reason), row.end_detail, row.ended_at)
    return SandboxRecord(
        sandbox_id=SandboxId(row.sandbox_id),
        team_id=TeamId(row.team_id),
        template_id=row.template_id,
        build_id=row.build_id,
        alias=row.alias,
        state=State(row.state),
        incarnation=row.incarnation,
        started_at=row.started_at,
        deadline=Deadline(row.deadline_at, row.deadline_ticks, row.boot_id),
        resources=Resources(row.vcpu, row.memory_mib, row.disk_mib),
        envd_version=row.envd_version,
        access_token=row.access_token,
        allow_internet=row.allow_internet,
        metadata=row.metadata,
        envs=row.envs,
        traffic_token=row.traffic_token,
        timeout=row.timeout,
        auto_pause=row.auto_pause,
        auto_resume=row.auto_resume,
        snapshot_id=row.snapshot_id,
        paused_at=row.paused_at,
        auto_pause_memory=row.auto_pause_memory,
        without_memory=row.without_memory,
        guest_silent=row.guest_silent,
        comes_back=row.comes_back,
        mask_host=row.mask_host,
        https_ports=frozenset(row.https_ports),
        end=end,
    )
