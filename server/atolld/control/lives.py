"""The machinery of a sandbox's life: how it starts, how it ends, and what a server that comes back does.

Every end, whoever wants it, goes through :meth:`Lives.end`: the compare-and-set decides who ended it, the
winner withdraws the route at once, and the machine's part follows in the background.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from typing import Any, TypeVar

import structlog

from atolld.control.clock import Clock
from atolld.control.expiry import Expiry
from atolld.control.recovery import Step, plan_recovery
from atolld.model.errors import AtollError, Conflict, HostError
from atolld.model.records import End, SandboxRecord
from atolld.model.routes import Route, Routes
from atolld.model.sandbox import UP, EndReason, Event, SandboxId, State
from atolld.node import Node, StartSpec
from atolld.store import Store
from atolld.telemetry import SANDBOXES_ENDED

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")

_ENDING = frozenset({State.KILLING, State.KILLED})
_TRY_AGAIN = 1.0
"""Seconds until a sandbox whose end failed is due again."""


class Lives:
    def __init__(self, store: Store, node: Node, routes: Routes, clock: Clock) -> None:
        self._store = store
        self._node = node
        self._routes = routes
        self._clock = clock
        self.expiry = Expiry(clock, lambda sandbox_id: self.background(self._expire(sandbox_id)))
        self._expiring: asyncio.Task[None] | None = None
        self._moving: dict[SandboxId, asyncio.Event] = {}
        self.pause_due: Callable[[SandboxRecord, float], Awaitable[object]] | None = None
        """Pauses a sandbox whose deadline has come; given the ticks it came by."""
        self.over: Callable[[str], Awaitable[object]] | None = None
        """Told the build of each sandbox that is gone: it may have been its last user."""
        self._tasks: set[asyncio.Task[Any]] = set()
        node.on_end = self._ended_by_itself

    def watch_deadlines(self) -> None:
        self._expiring = asyncio.create_task(self.expiry.run())

    async def close(self) -> None:
        if self._expiring is not None:
            self._expiring.cancel()
        await self.wait_settled()

    def background(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("control.background.failed", exc_info=task.exception())

    async def shielded(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Waits for ``work``, which goes on when the caller is cancelled; :meth:`close` waits for it then."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        """Its failure is its caller's, who may have left."""
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()

    @contextlib.contextmanager
    def moving(self, sandbox_id: SandboxId) -> Generator[None]:
        """While the machine works on a sandbox whose row says so. An end waits until that is over."""
        done = self._moving[sandbox_id] = asyncio.Event()
        try:
            yield
        finally:
            done.set()
            del self._moving[sandbox_id]

    async def wait_moved(self, sandbox_id: SandboxId) -> bool:
        """``False`` at once when nothing is under way with it."""
        done = self._moving.get(sandbox_id)
        if done is None:
            return False
        await done.wait()
        return True

    async def wait_settled(self) -> None:
        """Returns when every end that has begun is over."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))

    # -- start

    async def start(
        self, record: SandboxRecord, spec: StartSpec, timeout: int
    ) -> tuple[SandboxRecord, Mapping[str, float]]:
        """Brings a STARTING row to RUNNING, ``timeout`` seconds before its deadline; and how long what took.

        Whatever fails, the row ends with its reason and nothing of the sandbox is left.
        """
        with self.moving(record.sandbox_id):
            try:
                started = await self._node.start(spec)
                began = self._clock.ticks()
                running = await self._mark_running(record, started.address, timeout)
                return running, {**started.timings_ms, "running": (self._clock.ticks() - began) * 1000}
            except BaseException as error:
                ending = self.background(self.end(record, EndReason.START_FAILED, str(error) or repr(error)))
                if not isinstance(error, Exception):
                    raise  # cancelled: the end goes on in the background, `close` waits for it
                await asyncio.shield(ending)
                raise _start_error(error) from error

    async def _mark_running(self, record: SandboxRecord, address: str, timeout: int) -> SandboxRecord:
        deadline = self._clock.deadline_in(timeout)
        # Before the row says so: from then on, anyone may end it, and withdraw what is published here.
        self.adopt(record, address, deadline.ticks)
        return await self._store.sandboxes.transition(record, Event.STARTED, deadline=deadline)

    def adopt(self, record: SandboxRecord, address: str, ticks: float) -> None:
        """It runs: traffic finds it, and its deadline counts."""
        self._routes.publish(record.sandbox_id, _route(record, address))
        self.expiry.set(record.sandbox_id, ticks)

    def lay_down(self, record: SandboxRecord, *, may_wake: bool) -> None:
        """It sleeps: its connections are cut; traffic may wake it where that was wanted."""
        self.expiry.discard(record.sandbox_id)
        self._routes.lay_down(record.sandbox_id, _route(record, "") if may_wake else None)

    # -- end

    async def end(
        self, record: SandboxRecord, reason: EndReason, detail: str, *, due_by: float | None = None
    ) -> bool:
        """Ends a sandbox, whatever it is doing; ``False`` when it was ending already.

        ``due_by``: only if its deadline is not later than these ticks.
        """
        end = End(reason, detail[:2000], self._clock.now())
        current: SandboxRecord | None = record
        while current is not None and current.state not in _ENDING:
            if due_by is not None and current.deadline.ticks > due_by:
                self.expiry.set(current.sandbox_id, current.deadline.ticks)
                return False
            try:
                killing = await self._store.sandboxes.transition(current, Event.KILL, end=end, due_by=due_by)
            except Conflict:
                # Someone was faster: the row moved on, and there are not many places it can go.
                current = await self._store.sandboxes.get(record.sandbox_id)
                continue
            self._routes.withdraw(killing.sandbox_id)
            self.expiry.discard(killing.sandbox_id)
            SANDBOXES_ENDED.labels(reason.value).inc()
            _log.info("control.sandbox.ended", sandbox_id=killing.sandbox_id, reason=reason, detail=detail)
            self.background(self._finish(killing))
            return True
        return False

    async def _finish(self, killing: SandboxRecord) -> None:
        """The machine's part of an end. One that fails leaves the row KILLING: the next start of the server
        tries it again."""
        await self.wait_moved(killing.sandbox_id)
        # What was under way may have published it before it knew.
        self._routes.withdraw(killing.sandbox_id)
        self.expiry.discard(killing.sandbox_id)
        try:
            await self._node.stop(killing.sandbox_id)
            if killing.snapshot_id is not None:
                await self._node.discard(killing.snapshot_id)
            await self._store.sandboxes.transition(killing, Event.KILL_DONE)
            if self.over is not None:
                await self.over(killing.build_id)
        except Exception:
            _log.exception("control.sandbox.stop_failed", sandbox_id=killing.sandbox_id)

    async def _expire(self, sandbox_id: SandboxId) -> None:
        now = self._clock.ticks()
        try:
            record = await self._store.sandboxes.get(sandbox_id)
            if record is None:
                return
            if record.state is State.PAUSED:
                await self.end(record, EndReason.FORGOTTEN, "nobody resumed it in time")
            elif record.state in UP and record.auto_pause and self.pause_due is not None:
                await self.pause_due(record, now)
            elif record.state in UP:
                await self.end(record, EndReason.TIMEOUT, "its time was over", due_by=now)
        except Exception:
            _log.exception("control.sandbox.expiry_failed", sandbox_id=sandbox_id)
            self.expiry.set(sandbox_id, now + _TRY_AGAIN)

    def _ended_by_itself(self, sandbox_id: SandboxId, reason: EndReason, detail: str) -> None:
        self.background(self._record_end(sandbox_id, reason, detail.strip() or "it left no last words"))

    async def _record_end(self, sandbox_id: SandboxId, reason: EndReason, detail: str) -> None:
        record = await self._store.sandboxes.get(sandbox_id)
        if record is not None:
            await self.end(record, reason, detail)

    # -- recovery

    async def recover(self) -> None:
        records = await self._store.sandboxes.unsettled()
        snapshots = await self._node.snapshots()
        plan = plan_recovery(records, self._node.running(), self._clock.boot_id, snapshots)
        for orphan in plan.orphans:
            _log.warning("control.orphan.removed", sandbox_id=orphan)
            await self._node.stop(orphan)
        for step in plan.steps:
            try:
                await self._take(step)
            except Conflict:
                _log.warning("control.sandbox.moved", sandbox_id=step.record.sandbox_id)

    async def _take(self, step: Step) -> None:
        record = step.record
        end = None if step.reason is None else End(step.reason, step.detail, self._clock.now())
        if step.events:
            await self._store.sandboxes.transition(record, *step.events, end=end)
        address = self._node.running().get(record.sandbox_id)
        if step.adopt and address is not None:  # else it ended this moment, and that is being recorded
            self.adopt(record, address, record.deadline.ticks)
        _log.info(
            "control.sandbox.recovered",
            sandbox_id=record.sandbox_id,
            was=record.state,
            adopted=step.adopt,
            reason=step.reason,
        )


def _route(record: SandboxRecord, address: str) -> Route:
    token = record.traffic_token
    digest = None if token is None else hashlib.sha256(token.encode()).hexdigest()
    return Route(
        address,
        record.access_token,
        allow_public=token is None,
        traffic_token_sha256=digest,
        mask_host=record.mask_host,
        https_ports=record.https_ports,
    )


def _start_error(error: Exception) -> AtollError:
    if isinstance(error, Conflict):
        return Conflict("The sandbox was ended while it was starting")
    if isinstance(error, AtollError):
        return error
    return HostError(f"The sandbox could not be started: {error or repr(error)}; the server's log has more")
