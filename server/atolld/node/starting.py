"""What the node is asked for at a start, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from atolld.model.errors import NotFound
from atolld.model.sandbox import Identity, Resources, SandboxId
from atolld.model.template import Build


class SandboxEnded(NotFound):
    """The sandbox does not run on this machine (any more)."""

    error_code = "sandbox_not_running"


@dataclass(frozen=True, slots=True)
class StartSpec:
    identity: Identity
    resources: Resources
    build: Build
    allow_internet: bool = True
    may_claim: bool = True
    """``False``: restore one although a warm one waits."""
    may_fill: bool = True
    """``False``: make a container for it although a blank waits."""


@dataclass(frozen=True, slots=True)
class Started:
    sandbox_id: SandboxId
    address: str
    """IPv4 of the guest, reachable from the host."""
    timings_ms: Mapping[str, float]
    """Where the time went: ``slot``, ``create``, ``restore``, ``probe``, ``greet``, ``thaw``, ``guest``;
    ``warm`` is 1 when a waiting one was claimed."""
