from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from atolld.control.sandboxes import NewSandbox
from atolld.model.errors import AtollError, HostError, InvalidRequest, NotFound, TooMany
from atolld.model.records import SandboxFilter
from atolld.model.sandbox import UP, EndReason, SandboxId, State
from atolld.model.team import Team, TeamId


async def until(holds: Callable[[], object]) -> None:
    """Nothing announces what the fake machine does: look again at each turn of the loop."""
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0)


STRANGER = Team(TeamId("someone"), "someone", "Someone")


async def _row(house: Any, sandbox_id: SandboxId) -> Any:
    return await house.store.sandboxes.get(sandbox_id)


async def test_create_runs_it_publishes_its_route_and_keeps_what_was_asked(house: Any) -> None:
    created = await house.sandboxes.create(
        house.team, NewSandbox("base", 60, metadata={"a": "b"}, envs={"X": "1"})
    )
    record = created.record
    assert (record.state, record.alias, record.template_id) == (State.RUNNING, "base", "tbase")
    assert record.deadline.at == house.clock.now() + timedelta(seconds=60)
    route = house.routes.get(record.sandbox_id)
    assert route is not None
    assert route.envd_token == record.access_token
    assert route.address == house.machine.node.running()[record.sandbox_id]
    assert await house.sandboxes.get(house.team, record.sandbox_id) == record
    assert created.timings_ms["server"] >= 0


async def test_one_made_without_secure_has_no_token(house: Any) -> None:
    sandbox_id = await house.create(secure=False)
    assert (await _row(house, sandbox_id)).access_token is None
    assert house.routes.get(sandbox_id).envd_token is None


@pytest.mark.parametrize(
    ("timeout", "text"),
    [(0, "greater than 0"), (-5, "greater than 0"), (86_401, "cannot be greater than 24 hours")],
)
async def test_a_lifetime_out_of_bounds_is_refused(house: Any, timeout: int, text: str) -> None:
    with pytest.raises(InvalidRequest, match=text):
        await house.create(timeout)


@pytest.mark.parametrize("template", ["nothing", "local/nothing", "base:v9", "other/base"])
async def test_an_unknown_template_is_not_found(house: Any, template: str) -> None:
    with pytest.raises(NotFound, match="Template"):
        await house.sandboxes.create(house.team, NewSandbox(template, 10))


@pytest.mark.parametrize("template", ["base", " Base ", "tbase", "local/base", "local/tbase:default"])
async def test_the_ways_to_name_a_template(house: Any, template: str) -> None:
    created = await house.sandboxes.create(house.team, NewSandbox(template, 10))
    assert created.record.build_id == "bbase"


@pytest.mark.parametrize("envs", [{"": "x"}, {"A=B": "x"}, {"A": "\0"}])
async def test_a_variable_that_cannot_be_is_refused(house: Any, envs: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest, match="Environment variable"):
        await house.create(envs=envs)


async def test_another_teams_sandbox_does_not_exist(house: Any) -> None:
    sandbox_id = await house.create()
    calls: tuple[Coroutine[Any, Any, object], ...] = (
        house.sandboxes.get(STRANGER, sandbox_id),
        house.sandboxes.kill(STRANGER, sandbox_id),
        house.sandboxes.connect(STRANGER, sandbox_id, 10),
        house.sandboxes.set_timeout(STRANGER, sandbox_id, 10),
        house.sandboxes.refresh(STRANGER, sandbox_id, 10),
    )
    for call in calls:
        with pytest.raises(NotFound) as refused:
            await call
        expected = f"Sandbox \"{sandbox_id}\" doesn't exist or you don't have access to it"
        assert refused.value.message == expected


async def test_a_start_that_fails_leaves_nothing_but_its_reason(house: Any) -> None:
    house.machine.slots.fail["lease"] = 1
    with pytest.raises(HostError, match="told to fail"):
        await house.create()
    await house.settled()
    [row] = await house.store.sandboxes.list(SandboxFilter(house.team.team_id, frozenset(State)))
    assert (row.state, row.end.reason) == (State.KILLED, EndReason.START_FAILED)
    assert "told to fail" in row.end.detail
    assert not house.machine.slots.leased
    assert len(house.routes) == 0


async def test_a_create_that_is_cancelled_leaves_nothing(house: Any) -> None:
    task = asyncio.create_task(house.create())
    await until(lambda: house.machine.slots.leased)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await house.settled()
    assert not await house.store.sandboxes.unsettled()
    assert not house.machine.node.running()
    assert len(house.routes) == 0


async def test_kill_takes_the_route_at_once_and_all_else_soon(house: Any) -> None:
    sandbox_id = await house.create()
    await house.sandboxes.kill(house.team, sandbox_id)
    assert sandbox_id not in house.routes
    with pytest.raises(NotFound):
        await house.sandboxes.get(house.team, sandbox_id)
    with pytest.raises(NotFound):
        await house.sandboxes.kill(house.team, sandbox_id)
    await house.settled()
    row = await _row(house, sandbox_id)
    assert (row.state, row.end.reason) == (State.KILLED, EndReason.REQUEST)
    assert not house.machine.slots.leased


async def test_of_ten_kills_one_wins(house: Any) -> None:
    sandbox_id = await house.create()
    kills = (house.sandboxes.kill(house.team, sandbox_id) for _ in range(10))
    outcomes = await asyncio.gather(*kills, return_exceptions=True)
    assert sum(outcome is None for outcome in outcomes) == 1
    assert sum(isinstance(outcome, NotFound) for outcome in outcomes) == 9


async def test_the_quota_is_told_and_given_back(open_house: Any) -> None:
    house = await open_house(max_sandboxes=1)
    sandbox_id = await house.create()
    with pytest.raises(TooMany):
        await house.create()
    await house.sandboxes.kill(house.team, sandbox_id)
    await house.create()


async def test_a_sandbox_ends_at_its_deadline_and_not_before(house: Any) -> None:
    sandbox_id = await house.create(10)
    await house.clock.advance(9.9)
    await house.settled()
    assert sandbox_id in house.routes
    await house.clock.advance(0.2)
    await house.settled()
    row = await _row(house, sandbox_id)
    assert (row.state, row.end.reason) == (State.KILLED, EndReason.TIMEOUT)
    assert sandbox_id not in house.routes


async def test_connect_extends_and_never_shortens(house: Any) -> None:
    sandbox_id = await house.create(100)
    before = await _row(house, sandbox_id)
    assert await house.sandboxes.connect(house.team, sandbox_id, 50) == (before, None)
    longer, _ = await house.sandboxes.connect(house.team, sandbox_id, 200)
    assert longer.deadline.at == before.deadline.at + timedelta(seconds=100)
    await house.clock.advance(150)
    await house.settled()
    assert sandbox_id in house.routes


async def test_set_timeout_shortens_too(house: Any) -> None:
    sandbox_id = await house.create(100)
    await house.sandboxes.set_timeout(house.team, sandbox_id, 5)
    await house.clock.advance(5)
    await house.settled()
    assert sandbox_id not in house.routes


@pytest.mark.parametrize("timeout", [0, -3])
async def test_a_timeout_of_nothing_ends_it_now(house: Any, timeout: int) -> None:
    sandbox_id = await house.create(100)
    await house.sandboxes.set_timeout(house.team, sandbox_id, timeout)
    await house.clock.advance(0)
    await house.settled()
    assert (await _row(house, sandbox_id)).end.reason == EndReason.TIMEOUT


async def test_no_sandbox_outlives_the_longest_life(house: Any) -> None:
    sandbox_id = await house.create(86_400)
    await house.clock.advance(3600)
    with pytest.raises(InvalidRequest, match="Max instance length exceeded"):
        await house.sandboxes.set_timeout(house.team, sandbox_id, 86_400)
    before = await _row(house, sandbox_id)
    connected, _ = await house.sandboxes.connect(house.team, sandbox_id, 86_400)
    assert connected.deadline.at == before.deadline.at


async def test_refresh_gives_fifteen_seconds_at_least(house: Any) -> None:
    sandbox_id = await house.create(10)
    await house.sandboxes.refresh(house.team, sandbox_id, 0)
    await house.clock.advance(14)
    await house.settled()
    assert sandbox_id in house.routes


async def test_an_end_by_itself_is_recorded_with_its_reason(house: Any) -> None:
    sandbox_id = await house.create()
    house.machine.node.on_end(sandbox_id, EndReason.MEMORY_LIMIT, "last words")
    await house.settled()
    row = await _row(house, sandbox_id)
    assert (row.state, row.end.reason, row.end.detail) == (State.KILLED, EndReason.MEMORY_LIMIT, "last words")
    assert sandbox_id not in house.routes


async def test_pages_end_where_the_list_ends(house: Any) -> None:
    ids: list[SandboxId] = []
    for _ in range(4):
        ids.append(await house.create())
        await house.clock.advance(1)
    wanted = SandboxFilter(house.team.team_id, UP, limit=2)
    first = await house.sandboxes.list(wanted)
    assert [r.sandbox_id for r in first.records] == [ids[3], ids[2]]
    second = await house.sandboxes.list(SandboxFilter(house.team.team_id, UP, limit=2, after=first.next))
    assert [r.sandbox_id for r in second.records] == [ids[1], ids[0]]
    assert second.next is None
    assert await house.sandboxes.count_running(wanted) == 4


async def test_a_warm_one_waits_for_a_build_that_is_ready(open_house: Any) -> None:
    house = await open_house(pool_size=1)
    await until(lambda: house.machine.node.warm_count() == 1)


async def test_what_damages_a_build_is_said_with_its_remedy(house: Any) -> None:
    (house.config.home / "templates" / "tbase" / "bbase" / "manifest.json").write_text("{}")
    with pytest.raises(AtollError, match=r"atoll setup"):
        await house.create()
