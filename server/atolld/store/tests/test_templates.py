from __future__ import annotations

from datetime import UTC, datetime

import pytest

from atolld.model.errors import Conflict
from atolld.model.names import DEFAULT_TAG
from atolld.store import Store

NOW = datetime(2026, 5, 1, tzinfo=UTC)


async def test_the_last_registered_build_is_the_default(store: Store) -> None:
    team = await store.teams.ensure("local", "Local", NOW)
    for build in ("b1", "b2", "b1", "b2"):
        await store.templates.register(team.team_id, "tid", "base", build, public=True, now=NOW)
    assert [row.build_id for row in await store.templates.find("base", tag=DEFAULT_TAG)] == ["b2"]
    assert [row.build_id for row in await store.templates.find("base", tag="v1")] == [None]
    assert [row.build_id for row in await store.templates.default_builds()] == ["b2"]


async def test_a_template_is_found_by_name_and_by_id(store: Store) -> None:
    team = await store.teams.ensure("local", "Local", NOW)
    await store.templates.register(team.team_id, "tid", "base", "b1", public=True, now=NOW)
    await store.templates.register(team.team_id, "tid", "basis", "b1", public=True, now=NOW)
    by_name = await store.templates.find("basis")
    assert [(row.template_id, row.name) for row in by_name] == [("tid", "basis")]
    by_id = await store.templates.find("tid")
    assert [(row.template_id, row.name) for row in by_id] == [("tid", "base")]
    assert await store.templates.find("base", team_slug="local")
    assert not await store.templates.find("base", team_slug="other")
    assert not await store.templates.find("nothing")


async def test_a_name_belongs_to_one_template(store: Store) -> None:
    team = await store.teams.ensure("local", "Local", NOW)
    await store.templates.register(team.team_id, "tid", "base", "b1", public=True, now=NOW)
    with pytest.raises(Conflict, match="base"):
        await store.templates.register(team.team_id, "tid2", "base", "b2", public=True, now=NOW)
    assert not await store.templates.find("tid2")


async def test_a_team_is_made_once_and_found_by_its_key(store: Store) -> None:
    team = await store.teams.ensure("local", "Local", NOW)
    assert await store.teams.ensure("local", "Another", NOW) == team
    await store.teams.add_key(team.team_id, "first", "$sha256$x", NOW)
    assert await store.teams.of_key("$sha256$x") == team
    assert await store.teams.of_key("$sha256$y") is None
