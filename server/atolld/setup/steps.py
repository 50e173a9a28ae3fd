"""A step of set-up, and the order of steps. Pure.

A step knows by itself whether it is done, from what lies on the disk: there is no record of progress that
could disagree with it. That is what makes a killed run resumable.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

from atolld.builds.tools import Report


@dataclass(frozen=True, slots=True)
class Step:
    """``is_done`` is asked when all of ``needs`` are done, and has to be cheap; ``run`` may be repeated."""

    name: str
    title: str
    is_done: Callable[[], bool]
    run: Callable[[Report], Awaitable[None]]
    needs: tuple[str, ...] = ()


def plan_steps(steps: Iterable[Step], goals: Iterable[str]) -> list[Step]:
    """The steps that ``goals`` need, those first that others need. ``KeyError``: no such goal."""
    known: Mapping[str, Step] = {step.name: step for step in steps}
    ordered: dict[str, Step] = {}

    def visit(name: str, waiting: tuple[str, ...]) -> None:
        if name in waiting:
            raise ValueError(f"steps need each other: {' → '.join((*waiting, name))}")
        if name in ordered:
            return
        step = known[name]
        for need in step.needs:
            visit(need, (*waiting, name))
        ordered[name] = step

    for goal in goals:
        visit(goal, ())
    return list(ordered.values())


def find_left(steps: Iterable[Step]) -> list[Step]:
    """Of steps in order, those that are not done; what needs one of them counts as not done."""
    left: dict[str, Step] = {}
    for step in steps:
        if any(need in left for need in step.needs) or not step.is_done():
            left[step.name] = step
    return list(left.values())
