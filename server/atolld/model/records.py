"""One row per sandbox: its whole life, from the request to the reason of its end.

A record is a value: the store hands out what a row was at one moment, and takes changes only through a
compare-and-set on ``(state, incarnation)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from atolld.model.sandbox import EndReason, Identity, Resources, SandboxId, State
from atolld.model.team import TeamId


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a sandbox ends.

    ``at`` (UTC) is what clients are told. ``ticks`` is the same instant on the machine's monotonic clock, in
    seconds, within the boot called ``boot_id``: it is what counts, so a jump of the wall clock ends nobody.
    """

    at: datetime
    ticks: float
    boot_id: str


@dataclass(frozen=True, slots=True)
class End:
    reason: EndReason
    detail: str
    at: datetime


@dataclass(frozen=True, slots=True)
class SandboxRecord:
    sandbox_id: SandboxId
    team_id: TeamId
    template_id: str
    build_id: str
    alias: str | None
    """The template's name, shown as the sandbox's."""
    state: State
    incarnation: int
    """Counts the runs of this id; a resume begins a new one."""
    started_at: datetime
    deadline: Deadline
    resources: Resources
    envd_version: str
    access_token: str | None
    allow_internet: bool = True
    traffic_token: str | None = None
    """What every port but envd's wants from the public; ``None``: nothing."""
    mask_host: str | None = None
    """The Host that its services see, see :class:`~atolld.model.routes.Route`."""
    https_ports: frozenset[int] = frozenset()
    """Ports whose services speak TLS themselves."""
    timeout: int = 300
    """Seconds it was made to live; an automatic resume gives it as many again, or more."""
    auto_pause: bool = False
    """At its deadline it is paused instead of ended."""
    auto_pause_memory: bool = True
    """``False``: that pause keeps its files only."""
    auto_resume: bool = False
    """Traffic resumes it."""
    snapshot_id: str | None = None
    """Holds its state while it sleeps; while it is PAUSING, the one that is being written."""
    paused_at: datetime | None = None
    without_memory: bool = False
    """It sleeps with its files only, and is booted when it is resumed."""
    guest_silent: bool = False
    """Its daemon did not answer when its memory was kept: only a reboot brings it back."""
    comes_back: bool = False
    """It was paused because the server stopped, and is resumed when the next one starts."""
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    envs: Mapping[str, str] = field(default_factory=dict[str, str])
    end: End | None = None

    @property
    def identity(self) -> Identity:
        return Identity(
            sandbox_id=self.sandbox_id,
            template_id=self.template_id,
            build_id=self.build_id,
            team_id=self.team_id,
            access_token=self.access_token,
            envs=self.envs,
        )


@dataclass(frozen=True, slots=True)
class Nap:
    """How a sandbox is put to sleep."""

    snapshot_id: str
    at: datetime
    memory: bool = True
    comes_back: bool = False


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last row of a page; the next page begins after it."""

    started_at: datetime
    sandbox_id: SandboxId


@dataclass(frozen=True, slots=True)
class SandboxFilter:
    """What a list shows: every condition given must hold. Newest first unless ``ascending``; ties by id."""

    team_id: TeamId
    states: frozenset[State]
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    template_id: str | None = None
    started_after: datetime | None = None
    """Inclusive."""
    ascending: bool = False
    limit: int | None = None
    after: Cursor | None = None
