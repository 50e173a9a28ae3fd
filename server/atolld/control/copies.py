"""Copies of a sandbox that runs on: forks, which run at once, and snapshots to start others from."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import dataclass, replace

import structlog

from atolld.config import Config
from atolld.control.clock import Clock
from atolld.control.lives import Lives
from atolld.control.sleep import new_snapshot_id
from atolld.model.errors import AtollError, Conflict, InvalidRequest, NotFound
from atolld.model.names import DEFAULT_TAG, TemplateReference, parse_template_reference
from atolld.model.records import SandboxRecord
from atolld.model.sandbox import Event, State, new_sandbox_id
from atolld.model.team import Team
from atolld.model.template import Build
from atolld.node import Node, StartSpec, Target
from atolld.store import Store
from atolld.store.snapshots import SnapshotFilter, SnapshotRow

_log = structlog.get_logger(__name__)

MOST_FORKS = 100


@dataclass(frozen=True, slots=True)
class SnapshotPage:
    rows: list[SnapshotRow]
    more: bool


class Copies:
    def __init__(self, *, config: Config, store: Store, node: Node, lives: Lives, clock: Clock) -> None:
        self._config = config
        self._store = store
        self._node = node
        self._lives = lives
        self._clock = clock
        self._superseded: dict[str, SnapshotRow] = {}
        """By build id: nothing can start from them any more, but what did runs or sleeps."""
        lives.over = self._release

    async def fork(self, source: SandboxRecord, count: int, timeout: int) -> list[SandboxRecord | AtollError]:
        """``count`` new sandboxes that go on where the source stands; the source runs on. Each of them
        succeeds or fails by itself.

        Raises ``Conflict`` when the source does not run, and whatever the snapshot of it could not do.
        """
        if not 1 <= count <= min(MOST_FORKS, self._config.max_sandboxes - 1):
            most = min(MOST_FORKS, self._config.max_sandboxes - 1)
            raise InvalidRequest(f"Invalid count {count}: it is a number from 1 to {most}")
        name = source.alias or source.template_id
        build = await self._capture(source, Target(new_snapshot_id(), source.template_id, name, keep=False))
        try:
            started = await asyncio.gather(
                *(self._start_fork(source, build, timeout) for _ in range(count)), return_exceptions=True
            )
        finally:
            await self._lives.shielded(self._node.discard(build.manifest.build_id))
        return [_result(outcome) for outcome in started]

    async def snapshot(
        self, team: Team, source: SandboxRecord, name: str | None, *, memory: bool = True
    ) -> SnapshotRow:
        """A snapshot that sandboxes can start from, called ``[team/]name[:tag]``; the source runs on. Without
        ``memory`` they are booted with its files."""
        reference = None if name is None else _own_name(team, name)
        template_id = None
        if reference is not None:
            template_id = await self._store.snapshots.find_template(team.team_id, reference.name)
        template_id = template_id or f"snapshot{secrets.token_hex(6)}"
        shown = template_id if reference is None else reference.name
        build = await self._capture(source, Target(new_snapshot_id(), template_id, shown, memory=memory))
        row = SnapshotRow(
            template_id,
            build.manifest.build_id,
            None if reference is None else reference.name,
            DEFAULT_TAG if reference is None else reference.tag,
            self._clock.now(),
        )
        try:
            before = await self._store.snapshots.register(team.team_id, row, source.sandbox_id)
        except BaseException:
            await self._lives.shielded(self._node.discard(row.build_id))
            raise
        if before is not None:
            self._superseded[before.build_id] = before
            await self._release(before.build_id)
        _log.info("control.snapshot.taken", sandbox_id=source.sandbox_id, snapshot_id=row.build_id)
        return row

    async def list(self, wanted: SnapshotFilter) -> SnapshotPage:
        limit = wanted.limit or 100
        rows = await self._store.snapshots.list(replace(wanted, limit=limit + 1))
        return SnapshotPage(rows[:limit], len(rows) > limit)

    async def delete(self, team: Team, text: str) -> None:
        """Raises :class:`NotFound`, and :class:`InvalidRequest` while a sandbox that started from it is not
        over: it could not be paused any more."""
        reference = parse_template_reference(text)
        rows = await self._store.snapshots.list(
            SnapshotFilter(team.team_id, name=reference.name, tag=reference.tag)
        )
        if not rows or reference.team not in (None, team.slug):
            raise NotFound(f'Snapshot "{reference}" not found')
        used = await self._store.sandboxes.used_builds()
        for row in rows:
            if row.build_id in used:
                raise InvalidRequest(
                    f'Cannot delete "{reference}": kill the sandboxes that started from it first'
                )
        for row in rows:
            await self._remove(row)

    async def _remove(self, row: SnapshotRow) -> None:
        await self._store.snapshots.remove(row)
        await self._node.discard(row.build_id)

    async def _release(self, build_id: str) -> None:
        """Somebody who started from the build may have been the last: a snapshot that is superseded goes."""
        if build_id in self._superseded and build_id not in await self._store.sandboxes.used_builds():
            row = self._superseded.pop(build_id, None)
            if row is not None:  # else another one's end removes it this moment
                await self._remove(row)

    async def remove_unused(self) -> None:
        """After a start of the server: takes from the disk what no row speaks of, and superseded snapshots
        that nobody uses."""
        self._superseded = {row.build_id: row for row in await self._store.snapshots.superseded()}
        for build_id in tuple(self._superseded):
            await self._release(build_id)
        held = await self._store.sandboxes.used_snapshots()
        kept = held | await self._store.snapshots.ids()
        for snapshot_id in await self._node.snapshots() - kept:
            _log.info("control.snapshot.removed", snapshot_id=snapshot_id)
            await self._node.discard(snapshot_id)

    async def _capture(self, source: SandboxRecord, target: Target) -> Build:
        snapshotting = await self._store.sandboxes.transition(source, Event.SNAPSHOT)
        with self._lives.moving(source.sandbox_id):
            try:
                return await self._node.capture(source.sandbox_id, target)
            finally:
                await self._lives.shielded(self._go_on(snapshotting))

    async def _go_on(self, snapshotting: SandboxRecord) -> None:
        with contextlib.suppress(Conflict):  # it is being ended
            await self._store.sandboxes.transition(snapshotting, Event.SNAPSHOT_DONE)

    async def _start_fork(self, source: SandboxRecord, build: Build, timeout: int) -> SandboxRecord:
        record = replace(
            source,
            sandbox_id=new_sandbox_id(),
            state=State.STARTING,
            incarnation=1,
            started_at=self._clock.now(),
            deadline=self._clock.deadline_in(timeout),
            timeout=timeout,
            access_token=None if source.access_token is None else secrets.token_hex(32),
            traffic_token=None if source.traffic_token is None else secrets.token_hex(32),
            end=None,
        )
        await self._store.sandboxes.insert(record, limit=self._config.max_sandboxes)
        spec = StartSpec(record.identity, record.resources, build, record.allow_internet, may_claim=False)
        running, _ = await self._lives.start(record, spec, timeout)
        return running


def _own_name(team: Team, text: str) -> TemplateReference:
    reference = parse_template_reference(text)
    if reference.team not in (None, team.slug):
        raise InvalidRequest(f'Invalid snapshot name "{text[:80]}": "{reference.team}" is another team')
    return reference


def _result(outcome: SandboxRecord | BaseException) -> SandboxRecord | AtollError:
    if isinstance(outcome, BaseException) and not isinstance(outcome, AtollError):
        raise outcome
    return outcome
