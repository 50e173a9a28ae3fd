"""Which warm sandboxes to make and which to let go: decided here, purely; done by the agent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import NamedTuple

from atolld.model.sandbox import Resources


class Kind(NamedTuple):
    """Warm sandboxes of one kind can stand in for each other."""

    build_id: str
    resources: Resources


@dataclass(frozen=True, slots=True)
class Plan:
    make: tuple[Kind, ...]
    """In this order, one after the other."""
    drop: tuple[Kind, ...]


def plan_pool(targets: Mapping[Kind, int], waiting: Iterable[Kind], blocked: Set[Kind] = frozenset()) -> Plan:
    """Brings what is ``waiting`` to the ``targets``. ``blocked`` kinds failed lately and are not made now.

    The kind that lacks most comes first, so that no template starves behind another's large pool.
    """
    have = dict.fromkeys(targets, 0)
    drop: list[Kind] = []
    for kind in waiting:
        if have.get(kind, 0) < targets.get(kind, 0):
            have[kind] += 1
        else:
            drop.append(kind)
    lacking = {kind: targets[kind] - have[kind] for kind in targets if kind not in blocked}
    make: list[Kind] = []
    while any(count > 0 for count in lacking.values()):
        kind = max(lacking, key=lambda candidate: lacking[candidate])
        lacking[kind] -= 1
        make.append(kind)
    return Plan(tuple(make), tuple(drop))
