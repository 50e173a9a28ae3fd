"""A sandbox's life as one table.

``TRANSITIONS`` is the only place that says what may follow what. The store applies a transition by
compare-and-set on ``(state, incarnation)``; whoever loses the race gets a
:class:`~atolld.model.errors.Conflict`.
"""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

SandboxId = NewType("SandboxId", str)

_ID_ALPHABET = string.ascii_lowercase + string.digits
_ID_PATTERN = re.compile(r"[a-z0-9]{1,64}")


def new_sandbox_id() -> SandboxId:
    """``i`` and 20 characters of ``[a-z0-9]``: a DNS label needs lower case and no dash."""
    return SandboxId("i" + "".join(secrets.choice(_ID_ALPHABET) for _ in range(20)))


def parse_sandbox_id(text: str) -> SandboxId | None:
    """The id in ``text``, which may be the legacy ``id-clientID`` form; ``None`` if it is not one."""
    head, _, tail = text.partition("-")
    if "-" in tail or not _ID_PATTERN.fullmatch(head):
        return None
    return SandboxId(head)


class State(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    SNAPSHOTTING = "snapshotting"
    ROLLING_BACK = "rolling back"
    PAUSING = "pausing"
    PAUSED = "paused"
    RESUMING = "resuming"
    KILLING = "killing"
    KILLED = "killed"


class Event(StrEnum):
    STARTED = "started"
    SNAPSHOT = "snapshot"
    SNAPSHOT_DONE = "snapshot_done"
    ROLLBACK = "rollback"
    ROLLBACK_DONE = "rollback_done"
    PAUSE = "pause"
    PAUSE_DONE = "pause_done"
    PAUSE_FAILED = "pause_failed"
    RESUME = "resume"
    RESUME_DONE = "resume_done"
    RESUME_FAILED = "resume_failed"
    KILL = "kill"
    KILL_DONE = "kill_done"


TRANSITIONS: Mapping[State, Mapping[Event, State]] = {
    State.STARTING: {Event.STARTED: State.RUNNING, Event.KILL: State.KILLING},
    State.RUNNING: {
        Event.SNAPSHOT: State.SNAPSHOTTING,
        Event.ROLLBACK: State.ROLLING_BACK,
        Event.PAUSE: State.PAUSING,
        Event.KILL: State.KILLING,
    },
    State.SNAPSHOTTING: {Event.SNAPSHOT_DONE: State.RUNNING, Event.KILL: State.KILLING},
    State.ROLLING_BACK: {Event.ROLLBACK_DONE: State.RUNNING, Event.KILL: State.KILLING},
    State.PAUSING: {
        Event.PAUSE_DONE: State.PAUSED,
        Event.PAUSE_FAILED: State.RUNNING,
        Event.KILL: State.KILLING,
    },
    State.PAUSED: {Event.RESUME: State.RESUMING, Event.KILL: State.KILLING},
    State.RESUMING: {
        Event.RESUME_DONE: State.RUNNING,
        Event.RESUME_FAILED: State.PAUSED,
        Event.KILL: State.KILLING,
    },
    State.KILLING: {Event.KILL_DONE: State.KILLED},
    State.KILLED: {},
}


UP = frozenset({State.RUNNING, State.SNAPSHOTTING, State.ROLLING_BACK})
"""A client sees these as running: there is a route, and a deadline that counts."""
ASLEEP = frozenset({State.PAUSING, State.PAUSED, State.RESUMING})
"""A client sees these as paused."""
SETTLED = frozenset({State.PAUSED, State.KILLED})
"""Nothing of the sandbox is in memory, so a server that starts has nothing to do about it."""
USING_QUOTA = frozenset(State) - SETTLED - {State.KILLING}
"""What counts towards the number of sandboxes a team may have at once."""


def transition(state: State, event: Event) -> State | None:
    """The state that ``event`` leads to from ``state``; ``None`` when the table does not allow it."""
    return TRANSITIONS[state].get(event)


class EndReason(StrEnum):
    """Why a sandbox ended; kept with its row."""

    REQUEST = "request"
    TIMEOUT = "timeout"
    MEMORY_LIMIT = "memory limit"
    CRASH = "crash"
    DISK_FULL = "disk full"
    START_FAILED = "start failed"
    HOST_RESTARTED = "host restarted"
    FORGOTTEN = "paused too long"
    SHUTDOWN = "shutdown"


@dataclass(frozen=True, slots=True)
class Resources:
    """What a sandbox may use. The guest sees ``vcpu`` processors and ``memory_mib`` of memory."""

    vcpu: int = 2
    memory_mib: int = 1024
    disk_mib: int = 10240


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes one clone of a template different from the next: given to the guest when it is claimed."""

    sandbox_id: SandboxId
    template_id: str
    build_id: str
    team_id: str
    access_token: str | None = None
    envs: Mapping[str, str] = field(default_factory=dict[str, str])
    """The sandbox's own; its build's come beside them where they are not named here."""
