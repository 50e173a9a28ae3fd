"""What a team can do with its sandboxes.

A create is two transactions (the row that claims the quota, the row that runs) around one call of the node.
Another team's sandbox does not exist.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import structlog

from atolld.config import Config
from atolld.control.clock import Clock
from atolld.control.limits import check_envs, check_timeout, life_left
from atolld.control.lives import Lives
from atolld.control.templates import Resolved, Templates
from atolld.model.errors import Conflict, InvalidRequest, NotFound
from atolld.model.records import Cursor, SandboxFilter, SandboxRecord
from atolld.model.routes import Routes
from atolld.model.sandbox import ASLEEP, UP, EndReason, Identity, SandboxId, State, new_sandbox_id
from atolld.model.team import Team
from atolld.node import Node, StartSpec
from atolld.store import Store
from atolld.telemetry import SANDBOXES_STARTED, START_SECONDS

_log = structlog.get_logger(__name__)

_SHORTEST_REFRESH = 15


@dataclass(frozen=True, slots=True)
class NewSandbox:
    """What a caller asks for. ``timeout`` in seconds; ``secure``: the daemon inside wants a token;
    ``may_claim``: a warm sandbox will do (``False`` is for measurements)."""

    template: str
    timeout: int
    secure: bool = True
    allow_internet: bool = True
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    envs: Mapping[str, str] = field(default_factory=dict[str, str])
    may_claim: bool = True


@dataclass(frozen=True, slots=True)
class Created:
    record: SandboxRecord
    timings_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Page:
    records: list[SandboxRecord]
    next: Cursor | None


class Sandboxes:
    def __init__(
        self, *, config: Config, store: Store, node: Node, routes: Routes, templates: Templates, clock: Clock
    ) -> None:
        self._config = config
        self._store = store
        self._node = node
        self._templates = templates
        self._clock = clock
        self._lives = Lives(store, node, routes, clock)
        self._warmed: frozenset[str] = frozenset()
        self._deadlines = asyncio.Lock()

    async def open(self) -> None:
        """Takes up what the last server left, and has warm sandboxes made. The node is open already."""
        await self.recover()
        self._lives.watch_deadlines()
        await self._warm()

    async def recover(self) -> None:
        """Settles every row that was moving, takes up what runs, removes what has no row."""
        await self._lives.recover()

    async def close(self) -> None:
        """Waits for what is ending. Sandboxes that run go on: the next server adopts them."""
        await self._lives.close()

    async def create(self, team: Team, wanted: NewSandbox) -> Created:
        began = self._clock.ticks()
        check_timeout(wanted.timeout, self._config.max_timeout)
        check_envs(wanted.envs)
        resolved = await self._templates.resolve(team, wanted.template)
        record = self._new_record(team, wanted, resolved)
        await self._store.sandboxes.insert(record, limit=self._config.max_sandboxes)
        running, timings_ms = await self._lives.start(
            record, _spec(record, resolved, wanted.may_claim), wanted.timeout
        )
        seconds = self._clock.ticks() - began
        START_SECONDS.observe(seconds)
        SANDBOXES_STARTED.labels(resolved.name or record.template_id).inc()
        _log.info("control.sandbox.started", sandbox_id=record.sandbox_id, seconds=round(seconds, 4))
        if record.build_id not in self._warmed:
            self._lives.background(self._warm())
        return Created(running, {**timings_ms, "server": seconds * 1000})

    async def get(self, team: Team, sandbox_id: SandboxId) -> SandboxRecord:
        """One that runs or sleeps; raises :class:`NotFound` for every other."""
        record = await self._owned(team, sandbox_id)
        if record.state not in UP | ASLEEP:
            raise _not_found(sandbox_id)
        return record

    async def list(self, wanted: SandboxFilter) -> Page:
        limit = wanted.limit
        if limit is None:
            return Page(await self._store.sandboxes.list(wanted), None)
        records = await self._store.sandboxes.list(replace(wanted, limit=limit + 1))
        if len(records) <= limit:
            return Page(records, None)
        last = records[limit - 1]
        return Page(records[:limit], Cursor(last.started_at, last.sandbox_id))

    async def count_running(self, wanted: SandboxFilter) -> int:
        return await self._store.sandboxes.count(replace(wanted, states=UP))

    async def connect(self, team: Team, sandbox_id: SandboxId, timeout: int) -> SandboxRecord:
        """A running sandbox, with ``timeout`` seconds to live at least: its life is never shortened."""
        check_timeout(timeout, self._config.max_timeout)
        return await self._extend(team, sandbox_id, timeout)

    async def refresh(self, team: Team, sandbox_id: SandboxId, duration: int) -> None:
        """Like :meth:`connect`, for 15 seconds at least."""
        await self._extend(team, sandbox_id, max(duration, _SHORTEST_REFRESH))

    async def set_timeout(self, team: Team, sandbox_id: SandboxId, timeout: int) -> None:
        """It ends in ``timeout`` seconds, sooner or later than before; now, if that is not positive."""
        record = await self._running(team, sandbox_id)
        if timeout > life_left(record, self._clock.now(), self._config.max_timeout):
            raise InvalidRequest("Max instance length exceeded")
        await self._move_deadline(team, sandbox_id, max(timeout, 0), extend_only=False)

    async def kill(self, team: Team, sandbox_id: SandboxId) -> None:
        """One that runs or sleeps; what it held is given back a moment later."""
        record = await self._owned(team, sandbox_id)
        if not await self._lives.end(record, EndReason.REQUEST, "killed by its team"):
            raise _not_found(sandbox_id)

    async def wait_settled(self) -> None:
        """Returns when what every end has set off is over."""
        await self._lives.wait_settled()

    async def end_all(self) -> int:
        """Ends what runs, for good, and waits until it is gone; returns how many. Paused ones stay."""
        records = await self._store.sandboxes.unsettled()
        ended = [await self._lives.end(record, EndReason.SHUTDOWN, "all were stopped") for record in records]
        await self._lives.wait_settled()
        return sum(ended)

    def _new_record(self, team: Team, wanted: NewSandbox, resolved: Resolved) -> SandboxRecord:
        manifest = resolved.build.manifest
        return SandboxRecord(
            sandbox_id=new_sandbox_id(),
            team_id=team.team_id,
            template_id=manifest.template_id,
            build_id=manifest.build_id,
            alias=resolved.name,
            state=State.STARTING,
            incarnation=1,
            started_at=self._clock.now(),
            deadline=self._clock.deadline_in(wanted.timeout),
            resources=manifest.resources,
            envd_version=manifest.envd_version,
            access_token=secrets.token_hex(32) if wanted.secure else None,
            allow_internet=wanted.allow_internet,
            metadata=dict(wanted.metadata),
            envs=dict(wanted.envs),
        )

    async def _owned(self, team: Team, sandbox_id: SandboxId) -> SandboxRecord:
        record = await self._store.sandboxes.get(sandbox_id)
        if record is None or record.team_id != team.team_id:
            raise _not_found(sandbox_id)
        return record

    async def _running(self, team: Team, sandbox_id: SandboxId) -> SandboxRecord:
        """Raises :class:`Conflict` for one that is between two states."""
        record = await self._owned(team, sandbox_id)
        if record.state in UP:
            return record
        if record.state in (State.STARTING, State.PAUSING, State.RESUMING):
            raise Conflict(f"Sandbox {sandbox_id} is {record.state}: try again in a moment")
        raise _not_found(sandbox_id)

    async def _extend(self, team: Team, sandbox_id: SandboxId, seconds: int) -> SandboxRecord:
        record = await self._running(team, sandbox_id)
        allowed = life_left(record, self._clock.now(), self._config.max_timeout)
        return await self._move_deadline(team, sandbox_id, min(seconds, allowed), extend_only=True)

    async def _move_deadline(
        self, team: Team, sandbox_id: SandboxId, seconds: float, *, extend_only: bool
    ) -> SandboxRecord:
        deadline = self._clock.deadline_in(seconds)
        async with self._deadlines:  # row and heap are changed in the same order
            record = await self._store.sandboxes.set_deadline(
                sandbox_id, team.team_id, deadline, extend_only=extend_only
            )
            if record is None:
                raise _not_found(sandbox_id)
            self._lives.expiry.set(sandbox_id, record.deadline.ticks)
            return record

    async def _warm(self) -> None:
        builds = await self._templates.ready()
        self._warmed = frozenset(build.manifest.build_id for build in builds)
        size = self._config.pool_size
        await self._node.warm((build, build.manifest.resources, size) for build in builds)


def _spec(record: SandboxRecord, resolved: Resolved, may_claim: bool) -> StartSpec:
    identity = Identity(
        sandbox_id=record.sandbox_id,
        template_id=record.template_id,
        build_id=record.build_id,
        team_id=record.team_id,
        access_token=record.access_token,
        envs={**resolved.build.manifest.envs, **record.envs},
    )
    return StartSpec(identity, record.resources, resolved.build, record.allow_internet, may_claim)


def _not_found(sandbox_id: SandboxId) -> NotFound:
    return NotFound(f"Sandbox \"{sandbox_id}\" doesn't exist or you don't have access to it")
