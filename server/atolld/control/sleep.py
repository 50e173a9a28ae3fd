"""Pause and resume: how a sandbox goes to sleep and comes back, by request, by its deadline, by traffic.

The row moves first, by compare-and-set; the machine follows; the row says how it went. A pause that fails
leaves the sandbox running, a resume that fails leaves it asleep with its snapshot intact.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from atolld.config import Config
from atolld.control.clock import Clock
from atolld.control.lives import Lives
from atolld.model.errors import AtollError, BuildDamaged, Conflict, GuestBusy, HostError, NotFound
from atolld.model.records import Nap, SandboxRecord
from atolld.model.sandbox import UP, Event, SandboxId, State
from atolld.node import Node, Started, Target
from atolld.store import Store
from atolld.telemetry import PAUSE_SECONDS, RESUME_SECONDS

_log = structlog.get_logger(__name__)

_PAUSE_AGAIN = 10.0
"""Seconds until a sandbox that could not be paused at its deadline is due again."""
_AT_ONCE = 4
"""Sandboxes that are paused or resumed side by side when the server stops or starts."""
_SHORTEST_LIFE = 15.0
"""Seconds that a sandbox lives at least that came back with its server."""


def kept_until(record: SandboxRecord, paused_days: int) -> datetime | None:
    """When a sandbox that sleeps is forgotten; ``None`` for one that does not."""
    return None if record.paused_at is None else record.paused_at + timedelta(days=paused_days)


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

    async def pause(
        self,
        record: SandboxRecord,
        *,
        due_by: float | None = None,
        memory: bool = True,
        strict: bool = False,
        comes_back: bool = False,
    ) -> SandboxRecord:
        """``due_by``: only if its deadline is not later than these ticks. ``strict``: only if its daemon
        answers, as it must where only its files are kept. ``comes_back``: the next server resumes it.

        Raises :class:`Conflict` when it is not running, or no longer; :class:`GuestBusy`; whatever the
        machine could not do else.
        """
        began = self._clock.ticks()
        nap = Nap(new_snapshot_id(), self._clock.now(), memory, comes_back)
        pausing = await self._store.sandboxes.transition(record, Event.PAUSE, nap=nap, due_by=due_by)
        with self._lives.moving(pausing.sandbox_id):
            silent = await self._put_to_sleep(pausing, strict=strict or not memory)
            paused = await self._store.sandboxes.transition(pausing, Event.PAUSE_DONE, guest_silent=silent)
            self.keep_for_its_time(paused)
        seconds = self._clock.ticks() - began
        PAUSE_SECONDS.observe(seconds)
        _log.info(
            "control.sandbox.paused",
            sandbox_id=paused.sandbox_id,
            seconds=round(seconds, 4),
            memory=memory,
            guest_silent=silent,
        )
        return paused

    async def resume(
        self, record: SandboxRecord, timeout: float, *, reboot: bool = False
    ) -> tuple[SandboxRecord, Started]:
        """It runs again, ``timeout`` seconds before its deadline. ``reboot``: without its memory.

        Raises :class:`Conflict` when it does not sleep, or no longer, or only a reboot brings it back;
        ``TooMany``; whatever the machine could not do else.
        """
        if record.guest_silent and not reboot:
            raise Conflict(
                f"Sandbox {record.sandbox_id} was paused while its daemon did not answer, and would not now: "
                'connect with memory false (on_resume="reboot"), which keeps its files',
                error_code="sandbox_snapshot_guest_agent_unresponsive",
            )
        began = self._clock.ticks()
        deadline = self._clock.deadline_in(timeout)
        resuming = await self._store.sandboxes.transition(
            record, Event.RESUME, deadline=deadline, limit=self._config.max_sandboxes
        )
        with self._lives.moving(resuming.sandbox_id):
            started = await self._wake_up(resuming, reboot=reboot)
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
        until = kept_until(paused, self._config.paused_days)
        if until is not None:
            self._lives.expiry.set(paused.sandbox_id, self._clock.ticks_at(until))

    async def pause_all(self) -> int:
        """Before the server stops: whatever runs is paused, to be resumed by :meth:`take_up`; how many were.
        One that cannot be paused goes on."""
        records = [r for r in await self._store.sandboxes.unsettled() if r.state is State.RUNNING]
        gate = asyncio.Semaphore(_AT_ONCE)

        async def pause(record: SandboxRecord) -> bool:
            async with gate:
                try:
                    await self.pause(record, comes_back=True)
                except AtollError as error:
                    _log.warning(
                        "control.sandbox.left_running", sandbox_id=record.sandbox_id, error=error.message
                    )
                    return False
            return True

        return sum(await asyncio.gather(*map(pause, records)))

    async def take_up(self) -> None:
        """Of all that sleep, after a start of the server: what traffic may wake, when it is forgotten, and
        what the stop of the last server put to sleep."""
        for record in await self._store.sandboxes.asleep():
            self._lay_down(record)
            self.keep_for_its_time(record)

    async def come_back(self) -> None:
        """Resumes what a stop of the server put to sleep; one that cannot be stays asleep."""
        gate = asyncio.Semaphore(_AT_ONCE)

        async def resume(record: SandboxRecord) -> None:
            assert record.paused_at is not None
            left = (record.deadline.at - record.paused_at).total_seconds()
            async with gate:
                try:
                    await self.resume(record, max(left, _SHORTEST_LIFE))
                except AtollError as error:
                    _log.warning(
                        "control.sandbox.left_asleep", sandbox_id=record.sandbox_id, error=error.message
                    )

        coming = [record for record in await self._store.sandboxes.asleep() if record.comes_back]
        await asyncio.gather(*map(resume, coming))

    def _lay_down(self, record: SandboxRecord) -> None:
        may_wake = record.auto_resume and not record.without_memory and not record.guest_silent
        self._lives.lay_down(record, may_wake=may_wake)

    async def _put_to_sleep(self, pausing: SandboxRecord, *, strict: bool) -> bool:
        """Whether its daemon was silent."""
        assert pausing.snapshot_id is not None
        name = pausing.alias or pausing.template_id
        target = Target(pausing.snapshot_id, pausing.template_id, name, memory=not pausing.without_memory)
        try:
            silent = not await self._node.is_healthy(pausing.sandbox_id)
            if silent and strict:
                raise GuestBusy(
                    f"Sandbox {pausing.sandbox_id} was not paused: its daemon does not answer; try again, or "
                    "pause it with its memory and not strictly"
                )
            self._lay_down(replace(pausing, guest_silent=silent))
            await self._node.pause(pausing.sandbox_id, target)
        except BaseException as error:
            await self._lives.shielded(self._stay_awake(pausing))
            if isinstance(error, AtollError):
                error.error_code = None if isinstance(error, HostError) else error.error_code
                _log.warning(
                    "control.sandbox.pause_failed", sandbox_id=pausing.sandbox_id, error=error.message
                )
            raise
        return silent

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

    async def _wake_up(self, resuming: SandboxRecord, *, reboot: bool) -> Started:
        assert resuming.snapshot_id is not None
        try:
            return await self._node.resume(
                resuming.identity,
                resuming.resources,
                resuming.snapshot_id,
                allow_internet=resuming.allow_internet,
                reboot=reboot,
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
        self._lay_down(paused)
        self.keep_for_its_time(paused)

    async def _pause_due(self, record: SandboxRecord, ticks: float) -> None:
        try:
            await self.pause(record, due_by=ticks, memory=record.auto_pause_memory)
        except Conflict:
            await self._look_again(record.sandbox_id)
        except NotFound:
            pass  # it ended meanwhile

    async def _look_again(self, sandbox_id: SandboxId) -> None:
        """Its deadline moved, or it is being snapshotted: due again, at its new time or soon."""
        record = await self._store.sandboxes.get(sandbox_id)
        if record is not None and record.state in UP:
            self._lives.expiry.set(sandbox_id, max(record.deadline.ticks, self._clock.ticks() + 0.1))
