"""What a server that starts does about what it finds: settle every moving row, re-adopt every running one.

Pure: rows and what really runs go in, steps come out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from atolld.model.records import SandboxRecord
from atolld.model.sandbox import EndReason, Event, SandboxId, State


@dataclass(frozen=True, slots=True)
class Step:
    """``events`` bring the row to rest; ``adopt``: it runs, and gets its route and its deadline back."""

    record: SandboxRecord
    events: tuple[Event, ...] = ()
    adopt: bool = False
    reason: EndReason | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    steps: tuple[Step, ...]
    orphans: tuple[SandboxId, ...]
    """They run, but no row says that they should."""


_STILL_RUNNING: dict[State, tuple[Event, ...]] = {
    State.RUNNING: (),
    State.SNAPSHOTTING: (Event.SNAPSHOT_DONE,),
    State.ROLLING_BACK: (Event.ROLLBACK_DONE,),
    State.PAUSING: (Event.PAUSE_FAILED,),
    State.RESUMING: (Event.RESUME_DONE,),
}


def plan_recovery(
    records: Iterable[SandboxRecord],
    running: Collection[SandboxId],
    boot_id: str,
    snapshots: Collection[str] = (),
) -> Plan:
    """``records``: every row that is neither paused nor killed. ``running``: what this machine still runs.
    ``snapshots``: ids of those that are whole on its disk."""
    steps = tuple(
        _settle(record, record.sandbox_id in running, record.snapshot_id in snapshots, boot_id)
        for record in records
    )
    kept = {step.record.sandbox_id for step in steps if step.adopt}
    return Plan(steps, tuple(sorted(set(running) - kept)))


def _settle(record: SandboxRecord, is_running: bool, has_snapshot: bool, boot_id: str) -> Step:
    if record.state is State.KILLING:
        return Step(record, (Event.KILL_DONE,))
    if record.state is State.STARTING:
        return _ended(record, EndReason.START_FAILED, "the server stopped while the sandbox was starting")
    if is_running:
        return Step(record, _STILL_RUNNING[record.state], adopt=True)
    if record.state is State.PAUSING and has_snapshot:
        return Step(record, (Event.PAUSE_DONE,))
    if record.state is State.RESUMING:
        return Step(record, (Event.RESUME_FAILED,))
    if record.deadline.boot_id != boot_id:
        return _ended(record, EndReason.HOST_RESTARTED, "the machine was restarted")
    return _ended(record, EndReason.CRASH, "it was gone when the server came back")


def _ended(record: SandboxRecord, reason: EndReason, detail: str) -> Step:
    return Step(record, (Event.KILL, Event.KILL_DONE), reason=reason, detail=detail)
