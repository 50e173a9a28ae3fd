"""What a team can do with its sandboxes.

A create is two transactions (the row that claims the quota, the row that runs) around one call of the node.
Another team's sandbox does not exist.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import secrets
from collections.abc import AsyncGenerator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime

import structlog

from atolld.config import Config
from atolld.control.clock import Clock
from atolld.control.copies import Copies
from atolld.control.ended import Ended, SandboxOver
from atolld.control.limits import check_envs, check_timeout, life_left
from atolld.control.lives import Lives
from atolld.control.rollback import Rollbacks
from atolld.control.sleep import Sleep, kept_until
from atolld.control.templates import Resolved, Templates
from atolld.model.errors import AtollError, Conflict, InvalidRequest, NotFound
from atolld.model.records import Cursor, SandboxFilter, SandboxRecord
from atolld.model.routes import Route, Routes
from atolld.model.sandbox import ASLEEP, UP, EndReason, SandboxId, State, new_sandbox_id
from atolld.model.team import Team
from atolld.node import Node, StartSpec
from atolld.store import Store
from atolld.store.once import OnlyOnce
from atolld.store.snapshots import SnapshotRow
from atolld.telemetry import SANDBOXES_STARTED, START_SECONDS

_log = structlog.get_logger(__name__)

_SHORTEST_REFRESH = 15
_SHORTEST_WAKE = 300
"""Seconds a sandbox lives at least that traffic resumed."""
_LONGEST_MOVE = 60.0
"""Seconds that a caller waits for a sandbox that is on its way to another state."""


@dataclass(frozen=True, slots=True)
class NewSandbox:
    """What a caller asks for. ``timeout`` in seconds; ``secure``: the daemon inside wants a token;
    ``may_claim``: a warm sandbox will do; ``may_fill``: a blank will do (``False`` is for measurements)."""

    template: str
    timeout: int
    secure: bool = True
    allow_internet: bool = True
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    envs: Mapping[str, str] = field(default_factory=dict[str, str])
    may_claim: bool = True
    may_fill: bool = True
    auto_pause: bool = False
    auto_pause_memory: bool = True
    auto_resume: bool = False
    allow_public: bool = True
    """``False``: every port but envd's wants the traffic token."""
    mask_host: str | None = None
    https_ports: frozenset[int] = frozenset()
    key: str | None = None
    """Of the caller's: the same one makes the same sandbox, once."""


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
        self._routes = routes
        self._lives = Lives(store, node, routes, clock)
        self._sleep = Sleep(config=config, store=store, node=node, lives=self._lives, clock=clock)
        self.copies = Copies(config=config, store=store, node=node, lives=self._lives, clock=clock)
        self._rollbacks = Rollbacks(store=store, node=node, lives=self._lives, templates=templates)
        self._ended = Ended(store, clock, config.ended_days)
        self._warmed: frozenset[str] = frozenset()
        self._deadlines = asyncio.Lock()

    async def open(self) -> None:
        """Takes up what the last server left, and has warm sandboxes made. The node is open already."""
        await self.recover()
        self._lives.watch_deadlines()
        self._ended.begin()
        self._lives.background(self._sleep.come_back())
        await self._warm()

    async def recover(self) -> None:
        """Settles every row that was moving, takes up what runs, removes what has no row."""
        await self._lives.recover()
        await self._sleep.take_up()
        await self.copies.remove_unused()

    async def close(self) -> None:
        """Waits for what is ending. Sandboxes that run go on: the next server adopts them."""
        self._ended.close()
        await self._lives.close()

    async def pause_all(self) -> int:
        """Before a stop of the server that is meant to outlive the machine's: pauses what runs, for the next
        server to resume; how many were paused."""
        return await self._sleep.pause_all()

    async def create(self, team: Team, wanted: NewSandbox) -> Created:
        began = self._clock.ticks()
        check_timeout(wanted.timeout, self._config.max_timeout)
        check_envs(wanted.envs)
        resolved = await self._templates.resolve(team, wanted.template)
        known = self._clock.ticks()
        record = self._new_record(team, wanted, resolved)
        once = None if wanted.key is None else OnlyOnce(wanted.key, _hash(wanted), self._clock.now())
        inserted = await self._store.sandboxes.insert(record, limit=self._config.max_sandboxes, once=once)
        if inserted.sandbox_id != record.sandbox_id:
            return Created(await self._made_before(inserted), {})
        written = self._clock.ticks()
        running, timings_ms = await self._lives.start(record, _spec(record, resolved, wanted), wanted.timeout)
        seconds = self._clock.ticks() - began
        START_SECONDS.observe(seconds)
        SANDBOXES_STARTED.labels(resolved.name or record.template_id).inc()
        _log.info("control.sandbox.started", sandbox_id=record.sandbox_id, seconds=round(seconds, 4))
        if record.build_id not in self._warmed:
            self._lives.background(self._warm())
        before_ms = {"template": (known - began) * 1000, "row": (written - known) * 1000}
        return Created(running, {**before_ms, **timings_ms, "server": seconds * 1000})

    async def _made_before(self, record: SandboxRecord) -> SandboxRecord:
        """What the first of several equal creates made, once it has."""
        if record.state is State.STARTING:
            await self._lives.wait_moved(record.sandbox_id)
            record = await self._store.sandboxes.get(record.sandbox_id) or record
        if record.state is State.STARTING or (record.end and record.end.reason is EndReason.START_FAILED):
            raise Conflict(
                "The first request with this Idempotency-Key is not over, or failed a moment ago: try again",
                error_code="idempotency_in_progress",
            )
        return record

    async def get(self, team: Team, sandbox_id: SandboxId) -> SandboxRecord:
        """One that runs or sleeps; raises :class:`NotFound` for every other, with the reason of its end."""
        record = await self._owned(team, sandbox_id)
        if record.state not in UP | ASLEEP:
            raise _not_found(sandbox_id, record)
        return record

    def kept_until(self, record: SandboxRecord) -> datetime | None:
        """When one that sleeps is forgotten; ``None`` for one that runs."""
        return kept_until(record, self._config.paused_days)

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

    async def connect(
        self, team: Team, sandbox_id: SandboxId, timeout: int, *, reboot: bool = False
    ) -> tuple[SandboxRecord, Mapping[str, float] | None]:
        """A running sandbox, with ``timeout`` seconds to live at least: its life is never shortened. One that
        sleeps is resumed, or booted again with its files (``reboot``), and where the time went is told."""
        check_timeout(timeout, self._config.max_timeout)
        async with self._in_time(sandbox_id):
            while True:
                record = await self._owned(team, sandbox_id)
                try:
                    if record.state is State.PAUSED:
                        return await self._resume(record, timeout, reboot=reboot)
                    if record.state in UP:
                        return await self._extend(team, sandbox_id, timeout), None
                except (Conflict, NotFound) as error:
                    if not await self._has_moved(record):
                        raise error
                    continue
                if record.state in (State.KILLING, State.KILLED):
                    raise _not_found(sandbox_id, record)
                await self._wait_moved(record)

    async def resume(
        self, team: Team, sandbox_id: SandboxId, timeout: int, *, reboot: bool = False
    ) -> tuple[SandboxRecord, Mapping[str, float] | None]:
        """One that sleeps; raises :class:`Conflict` for one that runs."""
        check_timeout(timeout, self._config.max_timeout)
        record = await self._owned(team, sandbox_id)
        if record.state in UP:
            raise Conflict(f"Sandbox {sandbox_id} is already running")
        return await self.connect(team, sandbox_id, timeout, reboot=reboot)

    async def pause(
        self, team: Team, sandbox_id: SandboxId, *, memory: bool = True, strict: bool = False
    ) -> None:
        """Its memory and files, or its files alone, are safe on the disk when this returns.

        Raises :class:`Conflict` when it does not run, with ``strict`` or without ``memory`` ``GuestBusy``
        when its daemon does not answer.
        """
        record = await self._owned(team, sandbox_id)
        if record.state in (State.KILLING, State.KILLED):
            raise _not_found(sandbox_id, record)
        if record.state is State.PAUSED:
            raise Conflict(f"Error pausing sandbox - sandbox '{sandbox_id}' is already paused")
        if record.state is not State.RUNNING:
            raise Conflict(
                f"Error pausing sandbox - sandbox '{sandbox_id}' cannot be paused while in "
                f"'{record.state}' state",
                error_code=_in_flight(record),
            )
        await self._lives.shielded(self._sleep.pause(record, memory=memory, strict=strict))

    async def wake(self, sandbox_id: SandboxId) -> Route | None:
        """Resumes a sandbox that traffic may resume, and waits for one that is on its way; ``None`` when
        there is none such."""
        if self._routes.asleep(sandbox_id) is None:
            return self._routes.get(sandbox_id)
        async with self._in_time(sandbox_id):
            while True:
                record = await self._store.sandboxes.get(sandbox_id)
                if record is None or record.state in (State.KILLING, State.KILLED):
                    return None
                if record.state in UP:
                    return self._routes.get(sandbox_id)
                try:
                    if record.state is State.PAUSED:
                        timeout = min(max(record.timeout, _SHORTEST_WAKE), self._config.max_timeout)
                        await self._resume(record, timeout)
                        continue
                except Conflict:
                    if not await self._has_moved(record):
                        raise
                    continue
                await self._wait_moved(record)

    async def fork(
        self, team: Team, sandbox_id: SandboxId, count: int, timeout: int
    ) -> list[SandboxRecord | AtollError]:
        """``count`` new sandboxes that go on where this one stands, or why each of them does not."""
        check_timeout(timeout, self._config.max_timeout)
        record = await self._owned(team, sandbox_id)
        if record.state in ASLEEP:
            raise Conflict(f"Sandbox {sandbox_id} is paused and cannot be forked; resume it first")
        record = await self._running(team, sandbox_id)
        return await self._lives.shielded(self.copies.fork(record, count, timeout))

    async def snapshot(
        self, team: Team, sandbox_id: SandboxId, name: str | None, *, memory: bool = True
    ) -> SnapshotRow:
        """A snapshot that sandboxes can start from; the sandbox runs on."""
        record = await self._running(team, sandbox_id)
        return await self._lives.shielded(self.copies.snapshot(team, record, name, memory=memory))

    async def rollback(
        self, team: Team, sandbox_id: SandboxId, snapshot: str
    ) -> tuple[SandboxRecord, Mapping[str, float]]:
        """Makes a running sandbox what it was when its ``snapshot`` was taken."""
        record = await self._owned(team, sandbox_id)
        if record.state in ASLEEP:
            raise Conflict(f"Sandbox {sandbox_id} is paused and cannot be rolled back; resume it first")
        record = await self._running(team, sandbox_id)
        build = await self._rollbacks.find(team, record, snapshot)
        return await self._lives.shielded(self._rollbacks.roll_back(record, build))

    async def _resume(
        self, record: SandboxRecord, timeout: int, *, reboot: bool = False
    ) -> tuple[SandboxRecord, Mapping[str, float]]:
        running, started = await self._lives.shielded(self._sleep.resume(record, timeout, reboot=reboot))
        return running, started.timings_ms

    @contextlib.asynccontextmanager
    async def _in_time(self, sandbox_id: SandboxId) -> AsyncGenerator[None]:
        try:
            async with asyncio.timeout(_LONGEST_MOVE):
                yield
        except TimeoutError:
            raise Conflict("The sandbox is still transitioning. Try again in a moment.") from None

    async def _wait_moved(self, record: SandboxRecord) -> None:
        """Raises :class:`Conflict` when its row is on its way, but nobody works on it."""
        if not await self._lives.wait_moved(record.sandbox_id) and not await self._has_moved(record):
            raise Conflict("The sandbox is still transitioning. Try again in a moment.")

    async def _has_moved(self, record: SandboxRecord) -> bool:
        now = await self._store.sandboxes.get(record.sandbox_id)
        return now is None or (now.state, now.incarnation) != (record.state, record.incarnation)

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
        if not await self._lives.end(record, EndReason.REQUEST, f"killed by team {team.slug}"):
            raise _not_found(sandbox_id, await self._store.sandboxes.get(sandbox_id))

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
            traffic_token=None if wanted.allow_public else secrets.token_hex(32),
            mask_host=wanted.mask_host,
            https_ports=wanted.https_ports,
            timeout=wanted.timeout,
            auto_pause=wanted.auto_pause,
            auto_pause_memory=wanted.auto_pause_memory,
            auto_resume=wanted.auto_resume,
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
            raise Conflict(
                f"Sandbox {sandbox_id} is {record.state}: try again in a moment",
                error_code=_in_flight(record),
            )
        raise _not_found(sandbox_id, record)

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


def _in_flight(record: SandboxRecord) -> str | None:
    return "sandbox_start_in_flight" if record.state in (State.STARTING, State.RESUMING) else None


def _spec(record: SandboxRecord, resolved: Resolved, wanted: NewSandbox) -> StartSpec:
    return StartSpec(
        record.identity,
        record.resources,
        resolved.build,
        record.allow_internet,
        may_claim=wanted.may_claim,
        may_fill=wanted.may_fill,
    )


def _hash(wanted: NewSandbox) -> str:
    """Lower-case hex of all that a create asks for, but its key."""
    asked = json.dumps(asdict(replace(wanted, key=None)), sort_keys=True, default=sorted)
    return hashlib.sha256(asked.encode()).hexdigest()


def _not_found(sandbox_id: SandboxId, record: SandboxRecord | None = None) -> NotFound:
    """``record``: of one that ended, which is told."""
    text = f"Sandbox \"{sandbox_id}\" doesn't exist or you don't have access to it"
    if record is None or record.end is None:
        return NotFound(text)
    end = record.end
    return SandboxOver(f"{text} (it ended {end.at:%Y-%m-%d %H:%M:%S} UTC: {end.reason}, {end.detail})", end)
