"""How many sandboxes of which template wait, warm or blank: decided here, purely; done by the keeper.

An arrival finds a sandbox waiting when at least as many waited as are out and not replaced yet: its *depth*.
So what the n-th waiting one is worth is known from what came: how often depth n was reached lately. Memory
goes where it saves most: hits, weighed with what one saves, for each MiB.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import NamedTuple

from atolld.model.sandbox import Resources

HALF_LIFE = 600.0
"""Seconds after which an arrival counts half."""
WORTH_MAKING = 1.2
"""Arrivals, as they count now, that a place must have had for one to be made: more than once, lately. Making
one costs as much CPU as the hit that it may bring saves."""
WORTH_KEEPING = 0.05
"""The same for one that is there: it costs nothing but memory."""
DEEPEST = 128


class Kind(NamedTuple):
    """Sandboxes that wait and are of one kind can stand in for each other."""

    build_id: str
    resources: Resources


@dataclass(slots=True)
class Demand:
    """What came of one kind. Times are ticks, never going back."""

    refill_seconds: float = 0.3
    """How long one takes to be replaced, as measured lately."""
    _reached: list[float] = field(default_factory=list[float])
    """How often depth 1, 2, … was reached, weighed by age; as of `_counted`."""
    _counted: float = 0.0
    _out: float = 0.0
    """Depth of the last arrival, as of `_last`."""
    _last: float = -math.inf

    def arrive(self, now: float) -> None:
        replaced = (now - self._last) / self.refill_seconds
        self._out = max(0.0, self._out - replaced) + 1
        self._last = now
        depth = min(math.ceil(self._out), DEEPEST)
        self._age(now)
        self._reached += [0.0] * (depth - len(self._reached))
        self._reached[depth - 1] += 1

    def note_refill(self, seconds: float) -> None:
        """One was made, in so long."""
        self.refill_seconds += (seconds - self.refill_seconds) / 8

    def reached(self, now: float) -> list[float]:
        """How often each depth was reached, as that counts now."""
        self._age(now)
        return list(self._reached)

    def _age(self, now: float) -> None:
        factor = 0.5 ** ((now - self._counted) / HALF_LIFE)
        self._reached = [count * factor for count in self._reached]
        self._counted = now


@dataclass(frozen=True, slots=True)
class Stock:
    """What one kind is worth and costs."""

    reached: list[float]
    memory_mib: int
    """Of each that waits."""
    saves: float = 1.0
    """What a hit is worth, beside other kinds' hits."""
    at_least: int = 0
    """Wait in any case, as long as the budget has room for every kind's."""
    at_most: int = DEEPEST
    waiting: int = 0
    """There already."""


def plan_stock(stocks: Mapping[Kind, Stock], budget_mib: int) -> dict[Kind, int]:
    """How many of each wait, in ``budget_mib`` together.

    Greedy: the next memory goes to the places that promise most for it. One place alone can promise nothing
    while several promise much (whoever comes by fives reaches depth five), so places are taken by runs.
    """
    plan = dict.fromkeys(stocks, 0)
    left = budget_mib
    for kind, stock in sorted(stocks.items(), key=lambda item: -sum(item[1].reached)):
        plan[kind] = min(stock.at_least, max(0, left) // stock.memory_mib)
        left -= plan[kind] * stock.memory_mib
    offers = {kind: _offer(kind, stock, plan[kind], left) for kind, stock in stocks.items()}
    while best := max((offer for offer in offers.values() if offer is not None), default=None):
        plan[best.kind] += best.places
        left -= best.places * stocks[best.kind].memory_mib
        for kind, offer in offers.items():
            if offer is not None and (offer is best or offer.places * stocks[kind].memory_mib > left):
                offers[kind] = _offer(kind, stocks[kind], plan[kind], left)
    return plan


class _Offer(NamedTuple):
    worth: float
    """For each MiB."""
    places: int
    kind: Kind


def _offer(kind: Kind, stock: Stock, has: int, left_mib: int) -> _Offer | None:
    """The best run of places that the kind can still be given."""
    best: _Offer | None = None
    hits = enough = 0.0
    affordable = min(len(stock.reached), stock.at_most, has + left_mib // stock.memory_mib)
    for depth in range(has, affordable):
        hits += stock.reached[depth]
        enough += WORTH_KEEPING if depth < stock.waiting else WORTH_MAKING
        places = depth + 1 - has
        if hits < enough:
            continue
        offer = _Offer(hits * stock.saves / (places * stock.memory_mib), places, kind)
        if best is None or offer.worth > best.worth:
            best = offer
    return best


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
