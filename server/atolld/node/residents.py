"""Paused sandboxes that are still in memory: which of them stay. Decided here, purely; done by the agent.

Their snapshots are safe on the disk, so one that goes loses nothing but the speed of its resume.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from atolld.model.sandbox import SandboxId

LONGEST_STAY = 900.0
"""Seconds after which nobody is expected to come back soon."""


@dataclass(frozen=True, slots=True)
class Resident:
    sandbox_id: SandboxId
    memory_mib: int
    since: float
    """Ticks of its pause."""


def plan_evictions(
    residents: Iterable[Resident], budget_mib: int, available_mib: int, reserve_mib: int, now: float
) -> tuple[SandboxId, ...]:
    """Who leaves memory, the longest paused first: those that stayed long enough, and as many more as it
    takes to keep to the budget and to leave the machine its reserve."""
    leaving: list[SandboxId] = []
    staying = sorted(residents, key=lambda resident: resident.since)
    used_mib = sum(resident.memory_mib for resident in staying)
    for resident in staying:
        is_old = now - resident.since >= LONGEST_STAY
        if not is_old and used_mib <= budget_mib and available_mib >= reserve_mib:
            break
        leaving.append(resident.sandbox_id)
        used_mib -= resident.memory_mib
        available_mib += resident.memory_mib
    return tuple(leaving)
