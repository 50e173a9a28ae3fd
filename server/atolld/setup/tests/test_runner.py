from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from atolld.builds.tools import Report
from atolld.model.errors import HostError
from atolld.setup.runner import StepFailed, run_steps
from atolld.setup.steps import Step, plan_steps


class Recorder:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def started(self, step: Step) -> None:
        self.lines.append(f"begin {step.name}")

    def ended(self, step: Step, seconds: float, error: BaseException | None) -> None:
        self.lines.append(f"{'end' if error is None else type(error).__name__} {step.name}")

    def report(self, step: Step, line: str) -> None:
        self.lines.append(f"{step.name}: {line}")


class Site:
    """Steps whose results are names in a set: what a disk is to real ones."""

    def __init__(self) -> None:
        self.made: set[str] = set()

    def step(self, name: str, *needs: str, work: Callable[[], Awaitable[object]] | None = None) -> Step:
        async def run(report: Report) -> None:
            assert set(needs) <= self.made
            if work is not None:
                await work()
            self.made.add(name)

        return Step(name, name, lambda: name in self.made, run, needs)


async def broken() -> None:
    raise HostError("it broke")


async def test_independent_steps_run_side_by_side():
    site = Site()
    meeting = asyncio.Barrier(2)
    steps = [site.step("a", work=meeting.wait), site.step("b", work=meeting.wait), site.step("c", "a", "b")]
    await asyncio.wait_for(run_steps(steps, Recorder()), 5)
    assert site.made == {"a", "b", "c"}


async def test_what_is_done_is_not_run_again():
    site, recorder = Site(), Recorder()
    site.made = {"a"}
    await run_steps([site.step("a", work=broken), site.step("b", "a")], recorder)
    assert recorder.lines == ["begin b", "end b"]


async def test_the_first_failure_stops_the_others_and_is_told():
    site, recorder = Site(), Recorder()
    forever = asyncio.Event()
    steps = [site.step("slow", work=forever.wait), site.step("bad", work=broken), site.step("after", "bad")]
    with pytest.raises(StepFailed, match="bad: it broke") as failure:
        await run_steps(steps, recorder)
    assert str(failure.value.cause) == "it broke", "what set-up tells its caller"
    assert "CancelledError slow" in recorder.lines
    assert "begin after" not in recorder.lines


async def test_a_run_after_a_failure_goes_on_where_it_stopped():
    site, recorder = Site(), Recorder()
    with pytest.raises(StepFailed):
        await run_steps([site.step("a"), site.step("b", "a", work=broken)], recorder)
    recorder.lines.clear()
    await run_steps(plan_steps([site.step("a"), site.step("b", "a")], ["b"]), recorder)
    assert recorder.lines == ["begin b", "end b"]


async def test_cancelling_ends_every_step():
    site, recorder = Site(), Recorder()
    begun, forever = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await forever.wait()

    task = asyncio.create_task(run_steps([site.step("a", work=work)], recorder))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert recorder.lines == ["begin a", "CancelledError a"]


async def test_an_operating_systems_error_is_a_failure_of_its_step():
    async def full() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(StepFailed, match="No space left on device"):
        await run_steps([Site().step("a", work=full)], Recorder())
