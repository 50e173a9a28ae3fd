from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from atolld.model.errors import Conflict, TooMany
from atolld.model.records import Cursor, Deadline, End, SandboxFilter, SandboxRecord
from atolld.model.sandbox import ASLEEP, UP, EndReason, Event, SandboxId, State
from atolld.model.team import TeamId
from atolld.store import Store

Make = Callable[..., SandboxRecord]


async def _running(store: Store, record: SandboxRecord) -> SandboxRecord:
    await store.sandboxes.insert(record, limit=1000)
    return await store.sandboxes.transition(record, Event.STARTED)


async def test_a_row_comes_back_as_it_went_in(store: Store, starting: Make) -> None:
    record = starting(metadata={"a b": "c&d=é"}, envs={"X": "1"}, allow_internet=False, access_token=None)
    await store.sandboxes.insert(record, limit=1)
    assert await store.sandboxes.get(record.sandbox_id) == record
    assert await store.sandboxes.get(SandboxId("other")) is None


async def test_the_quota_counts_what_uses_the_machine(store: Store, starting: Make) -> None:
    first = starting()
    await store.sandboxes.insert(first, limit=1)
    with pytest.raises(TooMany, match=r"maximum number of concurrent E2B sandboxes \(1\)"):
        await store.sandboxes.insert(starting(), limit=1)
    await store.sandboxes.insert(starting(team_id=TeamId("t2")), limit=1)
    await store.sandboxes.transition(first, Event.KILL)
    await store.sandboxes.insert(starting(), limit=1)


async def test_quota_holds_for_creates_at_once(store: Store, starting: Make) -> None:
    inserts = (store.sandboxes.insert(starting(), limit=3) for _ in range(10))
    outcomes = await asyncio.gather(*inserts, return_exceptions=True)
    assert sum(isinstance(outcome, SandboxRecord) for outcome in outcomes) == 3


async def test_only_one_of_two_transitions_wins(store: Store, starting: Make) -> None:
    record = await _running(store, starting())
    outcomes = await asyncio.gather(
        store.sandboxes.transition(record, Event.KILL),
        store.sandboxes.transition(record, Event.PAUSE),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 1


async def test_a_transition_outside_the_table_is_refused(store: Store, starting: Make) -> None:
    record = await _running(store, starting())
    with pytest.raises(Conflict, match="running"):
        await store.sandboxes.transition(record, Event.RESUME)


async def test_a_resume_is_a_new_incarnation(store: Store, starting: Make) -> None:
    running = await _running(store, starting())
    resumed = await store.sandboxes.transition(
        running, Event.PAUSE, Event.PAUSE_DONE, Event.RESUME, Event.RESUME_DONE
    )
    assert (resumed.state, resumed.incarnation) == (State.RUNNING, 2)
    with pytest.raises(Conflict):
        await store.sandboxes.transition(running, Event.KILL)


async def test_the_end_is_kept(store: Store, starting: Make) -> None:
    record = await _running(store, starting())
    end = End(EndReason.MEMORY_LIMIT, "used 1024 MiB", record.started_at + timedelta(seconds=5))
    await store.sandboxes.transition(record, Event.KILL, Event.KILL_DONE, end=end)
    ended = await store.sandboxes.get(record.sandbox_id)
    assert ended == replace(record, state=State.KILLED, end=end)


async def test_a_sandbox_whose_deadline_moved_is_not_due(store: Store, starting: Make) -> None:
    record = await _running(store, starting())
    later = Deadline(record.deadline.at, 2000.0, "boot")
    await store.sandboxes.set_deadline(record.sandbox_id, record.team_id, later, extend_only=False)
    with pytest.raises(Conflict):
        await store.sandboxes.transition(record, Event.KILL, due_by=1999.0)
    await store.sandboxes.transition(record, Event.KILL, due_by=2000.0)


async def test_extending_never_shortens(store: Store, starting: Make) -> None:
    record = await _running(store, starting())
    sooner = Deadline(record.deadline.at, 1100.0, "boot")
    rows = store.sandboxes
    kept = await rows.set_deadline(record.sandbox_id, record.team_id, sooner, extend_only=True)
    assert kept == record
    shortened = await rows.set_deadline(record.sandbox_id, record.team_id, sooner, extend_only=False)
    assert shortened is not None
    assert shortened.deadline == sooner
    assert await rows.set_deadline(record.sandbox_id, TeamId("t2"), sooner, extend_only=False) is None


async def test_pages_meet_without_gap_or_overlap(store: Store, starting: Make) -> None:
    records = [await _running(store, starting(second)) for second in (1, 1, 1, 2, 3)]
    newest_first = sorted(records, key=lambda r: (-r.started_at.timestamp(), r.sandbox_id))
    for ascending, expected in (
        (False, newest_first),
        (True, sorted(records, key=lambda r: (r.started_at, r.sandbox_id))),
    ):
        seen: list[SandboxRecord] = []
        wanted = SandboxFilter(TeamId("t1"), UP, ascending=ascending, limit=2)
        while page := await store.sandboxes.list(wanted):
            seen += page
            wanted = replace(wanted, after=Cursor(page[-1].started_at, page[-1].sandbox_id))
        assert seen == expected


async def test_list_filters(store: Store, starting: Make) -> None:
    plain = await _running(store, starting(1))
    odd = await _running(store, starting(2, metadata={'k"': "v'", "n": "1"}, template_id="other"))
    await _running(store, starting(3, team_id=TeamId("t2")))

    async def ids(**conditions: object) -> list[str]:
        wanted = replace(SandboxFilter(TeamId("t1"), UP), **conditions)  # type: ignore[arg-type]
        found = await store.sandboxes.list(wanted)
        assert await store.sandboxes.count(wanted) == len(found)
        return [record.sandbox_id for record in found]

    assert await ids() == [odd.sandbox_id, plain.sandbox_id]
    assert await ids(metadata={'k"': "v'"}) == [odd.sandbox_id]
    assert await ids(metadata={'k"': "v'", "n": "2"}) == []
    assert await ids(template_id="base") == [plain.sandbox_id]
    assert await ids(started_after=odd.started_at) == [odd.sandbox_id]
    assert await ids(states=ASLEEP) == []


async def test_unsettled_are_those_with_something_in_memory(store: Store, starting: Make) -> None:
    running = await _running(store, starting())
    paused = await _running(store, starting())
    await store.sandboxes.transition(paused, Event.PAUSE, Event.PAUSE_DONE)
    ended = await _running(store, starting())
    await store.sandboxes.transition(ended, Event.KILL, Event.KILL_DONE)
    killing = await store.sandboxes.transition(await _running(store, starting()), Event.KILL)
    found = {record.sandbox_id for record in await store.sandboxes.unsettled()}
    assert found == {running.sandbox_id, killing.sandbox_id}
