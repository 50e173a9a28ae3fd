from __future__ import annotations

import pytest

from atolld.builds.tools import Report
from atolld.setup.steps import Step, find_left, plan_steps


def step(name: str, *needs: str, done: bool = False) -> Step:
    async def run(report: Report) -> None:
        pass

    return Step(name, name.title(), lambda: done, run, needs)


def names(steps: list[Step]) -> list[str]:
    return [one.name for one in steps]


def test_what_others_need_comes_first_and_nothing_twice():
    steps = [
        step("template", "root", "runsc"),
        step("root", "packages"),
        step("runsc", "packages"),
        step("packages"),
    ]
    assert names(plan_steps(steps, ["template", "root"])) == ["packages", "root", "runsc", "template"]


def test_what_no_goal_needs_is_left_out():
    assert names(plan_steps([step("a"), step("b")], ["a"])) == ["a"]


def test_steps_that_need_each_other_are_refused():
    with pytest.raises(ValueError, match="a → b → a"):
        plan_steps([step("a", "b"), step("b", "a")], ["a"])


def test_an_unknown_goal_is_refused():
    with pytest.raises(KeyError):
        plan_steps([step("a")], ["b"])


def test_what_needs_something_that_is_left_is_left_too():
    steps = [step("a", done=True), step("b", "a"), step("c", "b", done=True), step("d", "a", done=True)]
    assert names(find_left(steps)) == ["b", "c"]
