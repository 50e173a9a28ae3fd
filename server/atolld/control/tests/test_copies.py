"""Forks and snapshots: each fork succeeds or fails by itself, names and tags point at what was taken last."""

from __future__ import annotations

from typing import Any

import pytest

from atolld.control.sandboxes import NewSandbox
from atolld.model.errors import AtollError, HostError, InvalidRequest, NotFound, TooMany
from atolld.model.sandbox import State
from atolld.node.doubles import FakeMachine
from atolld.store.snapshots import SnapshotFilter


async def test_a_hundred_forks_go_on_where_one_stands(house: Any) -> None:
    source = await house.create(metadata={"of": "fork"})
    outcomes = await house.sandboxes.fork(house.team, source, 100, 60)
    assert {outcome.state for outcome in outcomes} == {State.RUNNING}
    assert len({outcome.sandbox_id for outcome in outcomes} | {source}) == 101
    assert len({outcome.access_token for outcome in outcomes}) == 100
    assert {outcome.metadata["of"] for outcome in outcomes} == {"fork"}
    assert not await house.machine.node.snapshots()


async def test_some_forks_may_fail(house: Any) -> None:
    source = await house.create()
    house.machine.runtime.fail["restore"] = 1
    outcomes = await house.sandboxes.fork(house.team, source, 3, 60)
    failed = [outcome for outcome in outcomes if isinstance(outcome, AtollError)]
    assert [type(error) for error in failed] == [HostError]
    await house.settled()
    assert len(house.machine.node.running()) == 3


async def test_forks_beyond_the_quota_are_refused_one_by_one(open_house: Any) -> None:
    house = await open_house(max_sandboxes=4)
    source, _ = await house.create(), await house.create()
    outcomes = await house.sandboxes.fork(house.team, source, 3, 60)
    assert sum(isinstance(outcome, TooMany) for outcome in outcomes) == 1
    with pytest.raises(InvalidRequest, match="from 1 to 3"):
        await house.sandboxes.fork(house.team, source, 4, 60)


async def test_lists_know_source_name_and_tag(house: Any) -> None:
    one, two = await house.create(), await house.create()
    for source, name in ((one, "kept:a"), (one, "kept:b"), (two, "other"), (two, None)):
        await house.sandboxes.snapshot(house.team, source, name)
        await house.clock.advance(1)

    async def names(**wanted: Any) -> list[tuple[str | None, str]]:
        page = await house.sandboxes.copies.list(SnapshotFilter(house.team.team_id, **wanted))
        return [(row.name, row.tag) for row in page.rows]

    kept = [("kept", "b"), ("kept", "a")]
    assert await names() == [(None, "default"), ("other", "default"), *kept]
    assert await names(source=one) == await names(name="kept") == kept
    assert await names(name="kept", tag="a") == [("kept", "a")]
    assert await names(source=two, name="kept") == []


async def test_a_tag_that_moves_leaves_nothing_behind_and_one_in_use_stays(house: Any) -> None:
    source = await house.create()
    first = await house.sandboxes.snapshot(house.team, source, "kept")
    made = (await house.sandboxes.create(house.team, NewSandbox("kept", 60))).record.sandbox_id
    with pytest.raises(InvalidRequest, match="kill the sandboxes"):
        await house.sandboxes.copies.delete(house.team, "kept")
    second = await house.sandboxes.snapshot(house.team, source, "kept")
    assert await house.machine.node.snapshots() == {first.build_id, second.build_id}
    third = await house.sandboxes.snapshot(house.team, source, "kept")
    assert await house.machine.node.snapshots() == {first.build_id, third.build_id}
    await house.sandboxes.kill(house.team, made)
    await house.settled()
    assert await house.machine.node.snapshots() == {third.build_id}
    await house.sandboxes.copies.delete(house.team, "kept")
    with pytest.raises(NotFound):
        await house.sandboxes.copies.delete(house.team, "kept")


async def test_a_superseded_one_goes_with_its_last_user_also_after_a_restart(open_house: Any) -> None:
    first = await open_house()
    source = await first.create()
    old = await first.sandboxes.snapshot(first.team, source, "kept")
    users = [
        (await first.sandboxes.create(first.team, NewSandbox("kept", 60))).record.sandbox_id for _ in "ab"
    ]
    new = await first.sandboxes.snapshot(first.team, source, "kept")
    await first.die()
    machine = FakeMachine(first.config.home, first.machine.runtime, first.machine.guest.port)
    second = await open_house(machine)
    for user in users:
        assert await machine.node.snapshots() == {old.build_id, new.build_id}
        await second.sandboxes.kill(second.team, user)
        await second.settled()
    assert await machine.node.snapshots() == {new.build_id}
    assert [row.build_id for row in await second.store.snapshots.superseded()] == []
