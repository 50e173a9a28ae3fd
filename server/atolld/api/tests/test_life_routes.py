"""Sleep, rollback and ends on the wire; every answer is checked against the spec by the client."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest


async def _create(client: Any, **body: Any) -> str:
    response = await client.post("/v2/sandboxes", json={"templateID": "base", **body})
    assert response.status_code == 201, response.text
    return response.json()["sandboxID"]


@pytest.mark.parametrize(("memory", "mode"), [(True, "full"), (False, "filesystem")])
async def test_a_paused_one_tells_how_it_sleeps_and_until_when(
    client: Any, house: Any, memory: bool, mode: str
) -> None:
    path = f"/sandboxes/{await _create(client)}"
    running = (await client.get(path)).json()
    assert "pauseMode" not in running
    assert "keptUntil" not in running
    assert (await client.post(f"{path}/pause", json={"memory": memory})).status_code == 204
    asleep = (await client.get(path)).json()
    assert (asleep["state"], asleep["pauseMode"]) == ("paused", mode)
    assert datetime.fromisoformat(asleep["keptUntil"]) == house.clock.now() + timedelta(days=30)
    woken = await client.post(f"/v2{path}/connect", json={"memory": False})
    assert woken.status_code == 201
    assert (await client.get(path)).json()["state"] == "running"


async def test_a_pause_that_wants_a_healthy_guest_is_refused_without_one(
    client: Any, house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atolld.node.agent.HEALTH_TIMEOUT", 0.05)
    path = f"/sandboxes/{await _create(client)}"
    house.machine.runtime.silent = True
    refused = await client.post(f"{path}/pause", json={"requireHealthyGuest": True})
    assert refused.status_code == 503
    assert refused.headers["Should-Retry"] == "false"
    assert (await client.post(f"{path}/pause", json={})).status_code == 204
    assert (await client.get(path)).json()["envdUnresponsiveAtPause"] is True
    told = await client.post(f"/v2{path}/connect", json={})
    assert (told.status_code, told.json()["error_code"]) == (
        409,
        "sandbox_snapshot_guest_agent_unresponsive",
    )


async def test_rollback_answers_with_the_sandbox(client: Any) -> None:
    sandbox_id = await _create(client)
    taken = (await client.post(f"/sandboxes/{sandbox_id}/snapshots", json={"name": "good:v1"})).json()
    path = f"/sandboxes/{sandbox_id}/rollback"
    rolled = await client.post(path, json=taken | {"names": []})
    assert (rolled.status_code, rolled.json()["sandboxID"]) == (200, sandbox_id)
    assert (await client.post(path, json={"snapshotID": "other"})).status_code == 404
    assert (await client.post(path, json={})).status_code == 400


async def test_of_one_that_is_over_the_404_says_who_and_why(client: Any, house: Any) -> None:
    sandbox_id = await _create(client)
    await client.delete(f"/sandboxes/{sandbox_id}")
    await house.settled()
    for answer in (
        await client.get(f"/sandboxes/{sandbox_id}"),
        await client.delete(f"/sandboxes/{sandbox_id}"),
        await client.post(f"/sandboxes/{sandbox_id}/timeout", json={"timeout": 5}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, 404)
        assert answer.json()["ended"]["detail"] == "killed by team local"


async def test_files_only_at_the_timeout(client: Any, house: Any) -> None:
    sandbox_id = await _create(client, timeout=10, autoPause=True, autoPauseMemory=False)
    await house.clock.advance(10)
    await house.settled()
    assert (await client.get(f"/sandboxes/{sandbox_id}")).json()["pauseMode"] == "filesystem"
