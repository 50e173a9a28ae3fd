"""Pause and resume: how a sandbox goes to sleep and comes back, by request, by its deadline, by traffic.

The row moves first, by compare-and-set; the machine follows; the row says how it went. A pause that fails
leaves the sandbox running, a resume that fails leaves it asleep with its snapshot intact.
"""

from __future__ import annotations

import secrets
from datetime import timedelta

import structlog

from atolld.config import Config
from atolld.control.clock import Clock
from atolld.control.lives import Lives
from atolld.model.errors import AtollError, BuildDamaged, Conflict, HostError, NotFound
from atolld.model.records import SandboxRecord
from atolld.model.sandbox import Event, Identity, SandboxId, State
from atolld.node import Node, Started, Target
from atolld.store import Store
from atolld.telemetry import PAUSE_SECONDS, RESUME_SECONDS

_log = structlog.get_logger(__name__)

_PAUSE_AGAIN = 10.0
"""Seconds until a sandbox that could not be paused at its deadline is due again."""


def new_snapshot_id() -> str:
    """20 characters of ``[0-9a-f]``: a template id's alphabet, since a snapshot can be one."""
    return secrets.token_hex(10)


class Sleep:
    def __init__(self, *, config: Config, store: Store, node: Node, lives: Lives, clock: Clock) -> None:
        self._config = config
        self._store = store
        self._node = node
        self._lives = lives
        self._clock = clock
        lives.pause_due = self._pause_due

    async def pause(self, record: SandboxRecord, *, due_by: float | None = None) -> SandboxRecord:
        """``due_by``: only if its deadline is not later than these ticks.

        Raises :class:`Conflict` when it is not running, or no longer; whatever the machine could not do else.
        """
        began = self._clock.ticks()
        pausing = await self._store.sandboxes.transition(
            record, Event.PAUSE, snapshot_id=new_snapshot_id(), at=self._clock.now(), due_by=due_by
        )
        with self._lives.moving(pausing.sandbox_id):
            self._lives.lay_down(pausing)
            await self._put_to_sleep(pausing)
            paused = await self._store.sandboxes.transition(pausing, Event.PAUSE_DONE)
            self.keep_for_its_time(paused)
        seconds = self._clock.ticks() - began
        PAUSE_SECONDS.observe(seconds)
        _log.info("control.sandbox.paused", sandbox_id=paused.sandbox_id, seconds=round(seconds, 4))
        return paused

    async def resume(self, record: SandboxRecord, timeout: float) -> tuple[SandboxRecord, Started]:
        """It runs again, ``timeout`` seconds before its deadline.

        Raises :class:`Conflict` when it does not sleep, or no longer; ``TooMany``; whatever the machine could
        not do else.
        """
        began = self._clock.ticks()
        deadline = self._clock.deadline_in(timeout)
        resuming = await self._store.sandboxes.transition(
            record, Event.RESUME, deadline=deadline, limit=self._config.max_sandboxes
        )
        with self._lives.moving(resuming.sandbox_id):
            started = await self._wake_up(resuming)
            deadline = self._clock.deadline_in(timeout)
            # Before the row says so, as at a start.
            self._lives.adopt(resuming, started.address, deadline.ticks)
            running = await self._store.sandboxes.transition(
                resuming, Event.RESUME_DONE, deadline=deadline, at=self._clock.now()
            )
        if resuming.snapshot_id is not None:
            # It is not its state any more.
            self._lives.background(self._node.discard(resuming.snapshot_id))
        seconds = self._clock.ticks() - began
        RESUME_SECONDS.observe(seconds)
        _log.info("control.sandbox.resumed", sandbox_id=running.sandbox_id, seconds=round(seconds, 4))
        return running, started

    def keep_for_its_time(self, paused: SandboxRecord) -> None:
        """From now on its end is due when it has been paused for too long."""
        if paused.paused_at is not None:
            until = paused.paused_at + timedelta(days=self._config.paused_days)
            self._lives.expiry.set(paused.sandbox_id, self._clock.ticks_at(until))

    async def take_up(self) -> None:
        """Of all that sleep, after a start of the server: what traffic may wake, and when it is forgotten."""
        for record in await self._store.sandboxes.asleep():
            self._lives.lay_down(record)
            self.keep_for_its_time(record)

    async def _put_to_sleep(self, pausing: SandboxRecord) -> None:
        assert pausing.snapshot_id is not None
        name = pausing.alias or pausing.template_id
        try:
            await self._node.pause(pausing.sandbox_id, Target(pausing.snapshot_id, pausing.template_id, name))
        except BaseException as error:
            await self._lives.shielded(self._stay_awake(pausing))
            if isinstance(error, AtollError):
                error.error_code = None if isinstance(error, HostError) else error.error_code
                _log.warning(
                    "control.sandbox.pause_failed", sandbox_id=pausing.sandbox_id, error=error.message
                )
            raise

    async def _stay_awake(self, pausing: SandboxRecord) -> None:
        soon = self._clock.deadline_in(_PAUSE_AGAIN)
        deadline = soon if pausing.deadline.ticks < soon.ticks else pausing.deadline
        try:
            await self._store.sandboxes.transition(pausing, Event.PAUSE_FAILED, deadline=deadline)
        except Conflict:
            return  # it is being ended
        address = self._node.running().get(pausing.sandbox_id)
        if address is not None:  # else it ended this moment, and that is being recorded
            self._lives.adopt(pausing, address, deadline.ticks)

    async def _wake_up(self, resuming: SandboxRecord) -> Started:
        assert resuming.snapshot_id is not None
        identity = Identity(
            sandbox_id=resuming.sandbox_id,
            template_id=resuming.template_id,
            build_id=resuming.build_id,
            team_id=resuming.team_id,
            access_token=resuming.access_token,
            envs=resuming.envs,
        )
        try:
            return await self._node.resume(
                identity,
                resuming.resources,
                resuming.snapshot_id,
                allow_internet=resuming.allow_internet,
            )
        except BaseException as error:
            await self._lives.shielded(self._sleep_on(resuming))
            if isinstance(error, BuildDamaged):
                raise HostError(
                    f"The state of sandbox {resuming.sandbox_id} cannot be restored: {error.message}",
                    error_code="sandbox_snapshot_damaged",
                ) from error
            raise

    async def _sleep_on(self, resuming: SandboxRecord) -> None:
        try:
            paused = await self._store.sandboxes.transition(resuming, Event.RESUME_FAILED)
        except Conflict:
            return  # it is being ended
        self._lives.lay_down(paused)
        self.keep_for_its_time(paused)

    async def _pause_due(self, record: SandboxRecord, ticks: float) -> None:
        try:
            await self.pause(record, due_by=ticks)
        except Conflict:
            await self._look_again(record.sandbox_id)
        except NotFound:
            pass  # it ended meanwhile

    async def _look_again(self, sandbox_id: SandboxId) -> None:
        """Its deadline moved, or it is being snapshotted: due again, at its new time or soon."""
        record = await self._store.sandboxes.get(sandbox_id)
        if record is not None and record.state in (State.RUNNING, State.SNAPSHOTTING):
            self._lives.expiry.set(sandbox_id, max(record.deadline.ticks, self._clock.ticks() + 0.1))
