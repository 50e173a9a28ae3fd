"""The pool's plan against arrivals: how often a create finds a sandbox waiting, beside a fixed size that may
use the same memory."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from atolld.model.sandbox import Resources
from atolld.node.pool import Demand, Kind, Stock, plan_pool, plan_stock

REFILL = 0.3
MEMORY = 40
RECORDED = Path(__file__).parent / "arrivals.txt"
Arrivals = list[tuple[float, int]]
"""Seconds and number of the template, in order."""
Policy = Callable[[float, list[Kind]], dict[Kind, int]]


def kind(number: int) -> Kind:
    return Kind(f"b{number}", Resources())


@dataclass
class Outcome:
    hits: int = 0
    most_mib: int = 0


def simulate(arrivals: Arrivals, targets: Policy, arrived: Callable[[Kind, float], None]) -> Outcome:
    """One refill at a time, each of REFILL seconds, as the keeper does it."""
    outcome, waiting = Outcome(), list[Kind]()
    now, making, done_at = 0.0, None, 0.0
    for when, number in arrivals:
        while True:
            if making is None:
                plan = plan_pool(targets(now, waiting), waiting)
                for dropped in plan.drop:
                    waiting.remove(dropped)
                making, done_at = (plan.make[0], now + REFILL) if plan.make else (None, when)
            step = min(when, done_at)
            now = step
            if making is None or done_at > when:
                break
            waiting.append(making)
            outcome.most_mib = max(outcome.most_mib, MEMORY * len(waiting))
            making = None
        arrived(kind(number), now)
        if kind(number) in waiting:
            waiting.remove(kind(number))
            outcome.hits += 1
    return outcome


def run_planned(arrivals: Arrivals, templates: int, budget_mib: int) -> Outcome:
    demands = {kind(number): Demand(REFILL) for number in range(templates)}

    def targets(now: float, waiting: list[Kind]) -> dict[Kind, int]:
        stocks = {
            k: Stock(demand.reached(now), MEMORY, at_least=1, waiting=waiting.count(k))
            for k, demand in demands.items()
        }
        return plan_stock(stocks, budget_mib)

    return simulate(arrivals, targets, lambda k, now: demands[k].arrive(now))


def run_fixed(arrivals: Arrivals, templates: int, budget_mib: int) -> Outcome:
    size = budget_mib // MEMORY // templates
    fixed = {kind(number): size for number in range(templates)}

    def targets(now: float, waiting: list[Kind]) -> dict[Kind, int]:
        return fixed

    def ignore(kind: Kind, now: float) -> None:
        pass

    return simulate(arrivals, targets, ignore)


def steady(chance: random.Random) -> Arrivals:
    """One in two seconds, now and then two together, of one template; nine others are hardly used."""
    times = [(2.0 * n + chance.random(), 0) for n in range(150)]
    close = [(when + 0.05, 0) for when, _ in times[::7]]
    return sorted(times + close)


def bursts(chance: random.Random) -> Arrivals:
    """A hundred at once, every three minutes."""
    return sorted((180.0 * n + chance.random(), 0) for n in range(1, 5) for _ in range(100))


def long_tail(chance: random.Random) -> Arrivals:
    """Ten templates, the first asked for most, in small groups."""
    weights = [1 / (rank + 1) ** 1.5 for rank in range(10)]
    found: Arrivals = []
    now = 0.0
    while now < 900:
        now += chance.expovariate(0.3)
        number = chance.choices(range(10), weights)[0]
        found += [(now + chance.random() / 10, number) for _ in range(chance.choice((1, 1, 1, 2, 4)))]
    return sorted(found)


def recorded(_: random.Random) -> Arrivals:
    """Creates of a test run of this project: seconds, and the template by its number."""
    lines = (line.split() for line in RECORDED.read_text().splitlines() if not line.startswith("#"))
    return [(float(seconds), int(number)) for seconds, number in lines]


@pytest.mark.parametrize(("come", "places"), [(steady, 12), (bursts, 60), (long_tail, 20), (recorded, 20)])
def test_the_plan_hits_more_often_than_a_fixed_size_of_the_same_memory(
    come: Callable[[random.Random], Arrivals], places: int
) -> None:
    arrivals = come(random.Random(1))
    budget = places * MEMORY
    planned, fixed = run_planned(arrivals, 10, budget), run_fixed(arrivals, 10, budget)
    assert planned.hits > fixed.hits
    assert planned.most_mib <= budget


def test_what_nobody_asked_for_in_an_hour_shrinks_to_the_least() -> None:
    demand = Demand(REFILL)
    for n in range(100):
        demand.arrive(n / 100)
    there = Stock(demand.reached(1), MEMORY, at_least=1, waiting=100)
    assert plan_stock({kind(0): there}, 10_000)[kind(0)] > 50
    quiet = replace(there, reached=demand.reached(3600))
    assert plan_stock({kind(0): quiet}, 10_000)[kind(0)] == 1


def test_nothing_is_made_for_one_burst_alone() -> None:
    demand = Demand(REFILL)
    for n in range(100):
        demand.arrive(n / 100)
    assert plan_stock({kind(0): Stock(demand.reached(1), MEMORY, at_least=1)}, 10_000) == {kind(0): 1}
    for n in range(100):
        demand.arrive(60 + n / 100)
    assert plan_stock({kind(0): Stock(demand.reached(61), MEMORY, at_least=1)}, 10_000)[kind(0)] > 50


def test_the_budget_is_kept_and_the_hotter_template_comes_first() -> None:
    hot, cold = Stock([5.0, 5.0, 5.0], 100, at_least=1), Stock([0.1], 100, at_least=1)
    assert plan_stock({kind(0): hot, kind(1): cold}, 300) == {kind(0): 2, kind(1): 1}
    assert plan_stock({kind(0): hot, kind(1): cold}, 100) == {kind(0): 1, kind(1): 0}
    assert plan_stock({kind(0): hot, kind(1): cold}, 0) == {kind(0): 0, kind(1): 0}


def test_a_template_that_is_asked_for_by_fives_gets_five() -> None:
    assert plan_stock({kind(0): Stock([0.0, 0.0, 0.0, 0.0, 9.0], 10)}, 1000) == {kind(0): 5}
