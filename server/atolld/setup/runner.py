"""Runs steps side by side, each as soon as what it needs is done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from atolld.model.errors import AtollError
from atolld.setup.progress import Progress
from atolld.setup.steps import Step


class StepFailed(AtollError):
    """A step could not be done; what was done before is kept."""

    def __init__(self, step: Step, cause: BaseException) -> None:
        super().__init__(f"{step.title}: {cause}")
        self.step = step
        self.cause = cause


async def run_steps(steps: Sequence[Step], progress: Progress) -> None:
    """``steps`` are in order (see ``plan_steps``). The first failure stops the others: it is the one to mend.

    Raises :class:`StepFailed`. When this returns or raises no step is at work any more.
    """
    done = {step.name: asyncio.Event() for step in steps}
    try:
        async with asyncio.TaskGroup() as group:
            for step in steps:
                group.create_task(_run(step, done, progress), name=step.name)
    except* StepFailed as failures:
        raise _first(failures) from None


async def _run(step: Step, done: dict[str, asyncio.Event], progress: Progress) -> None:
    for need in step.needs:
        await done[need].wait()
    if not step.is_done():
        await _perform(step, progress)
    done[step.name].set()


async def _perform(step: Step, progress: Progress) -> None:
    start = time.monotonic()
    progress.started(step)
    try:
        await step.run(lambda line: progress.report(step, line))
    except asyncio.CancelledError as error:
        progress.ended(step, time.monotonic() - start, error)
        raise
    except (AtollError, OSError) as error:
        progress.ended(step, time.monotonic() - start, error)
        raise StepFailed(step, error) from error
    progress.ended(step, time.monotonic() - start, None)


def _first(failures: BaseExceptionGroup[StepFailed]) -> StepFailed:
    error = failures.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
