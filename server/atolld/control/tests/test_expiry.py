from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

import pytest

from atolld.control.clock import Clock
from atolld.control.expiry import Expiry
from atolld.model.sandbox import SandboxId

A, B = SandboxId("a"), SandboxId("b")


class Reported:
    def __init__(self, clock: Any) -> None:
        self.due: list[SandboxId] = []
        self.expiry = Expiry(clock, self.due.append)


@pytest.fixture
async def reported(clock: Any) -> AsyncGenerator[Reported]:
    made = Reported(clock)
    task = asyncio.create_task(made.expiry.run())
    await asyncio.sleep(0)
    yield made
    task.cancel()


async def test_due_at_its_deadline_and_not_before(reported: Reported, clock: Any) -> None:
    reported.expiry.set(A, clock.ticks() + 10)
    await clock.advance(9.999)
    assert reported.due == []
    await clock.advance(0.001)
    assert reported.due == [A]
    await clock.advance(100)
    assert reported.due == [A]


async def test_the_earliest_is_waited_for(reported: Reported, clock: Any) -> None:
    reported.expiry.set(A, clock.ticks() + 10)
    reported.expiry.set(B, clock.ticks() + 5)
    await clock.advance(5)
    assert reported.due == [B]
    await clock.advance(5)
    assert reported.due == [B, A]


async def test_a_later_deadline_replaces_the_first(reported: Reported, clock: Any) -> None:
    reported.expiry.set(A, clock.ticks() + 5)
    reported.expiry.set(A, clock.ticks() + 10)
    await clock.advance(5)
    assert reported.due == []
    await clock.advance(5)
    assert reported.due == [A]


async def test_a_discarded_one_is_never_due(reported: Reported, clock: Any) -> None:
    reported.expiry.set(A, clock.ticks() + 5)
    reported.expiry.discard(A)
    await clock.advance(10)
    assert reported.due == []


async def test_a_jump_of_the_wall_clock_changes_nothing(reported: Reported, clock: Any) -> None:
    reported.expiry.set(A, clock.ticks() + 10)
    clock.wall += timedelta(days=1)
    await clock.advance(9)
    assert reported.due == []
    clock.wall -= timedelta(days=2)
    await clock.advance(1)
    assert reported.due == [A]


async def test_moving_a_deadline_for_ever_does_not_grow_the_heap(reported: Reported, clock: Any) -> None:
    for step in range(10_000):
        reported.expiry.set(A, clock.ticks() + 10 + step)
    assert len(reported.expiry) < 200
    assert reported.due == []


async def test_the_real_clock_ends_a_wait_in_time() -> None:
    clock = Clock()
    began = clock.ticks()
    await clock.wait(asyncio.Event(), began + 0.05)
    assert 0.045 <= clock.ticks() - began < 1
