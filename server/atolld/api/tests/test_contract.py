from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from atolld.api import schema
from atolld.model.errors import CapacityUnavailable

UNKNOWN = "i" + "0" * 20


async def _create(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    response = await client.post("/v2/sandboxes", json={"templateID": "base", **body})
    assert response.status_code == 201, response.text
    return response.json()


async def test_v2_create_is_secured_and_lives_five_minutes(client: Any, house: Any) -> None:
    response = await client.post("/v2/sandboxes", json={"templateID": "base", "metadata": {}, "envVars": {}})
    assert response.status_code == 201
    body = response.json()
    assert body["domain"] == "atoll.localhost:8600"
    assert (body["alias"], body["envdVersion"]) == ("base", "0.6.13")
    assert len(body["envdAccessToken"]) >= 32
    assert "server;dur=" in response.headers["Server-Timing"]
    record = await house.store.sandboxes.get(body["sandboxID"])
    assert record.deadline.at - house.clock.now() == timedelta(seconds=300)


async def test_who_comes_by_https_gets_names_of_https(client: Any) -> None:
    https = {"Host": "API.atoll.localhost:8443"}
    created = await client.post("/v2/sandboxes", json={"templateID": "base"}, headers=https)
    assert created.json()["domain"] == "atoll.localhost:8443"
    path = f"/sandboxes/{created.json()['sandboxID']}"
    assert (await client.get(path, headers=https)).json()["domain"] == "atoll.localhost:8443"
    for other in ("api.example.org", "atoll.localhost:8600"):
        assert (await client.get(path, headers={"Host": other})).json()["domain"] == "atoll.localhost:8600"


async def test_v1_create_is_open_unless_secure_and_lives_fifteen_seconds(client: Any, house: Any) -> None:
    response = await client.post("/sandboxes", json={"templateID": "base"})
    assert response.status_code == 201
    assert "envdAccessToken" not in response.json()
    record = await house.store.sandboxes.get(response.json()["sandboxID"])
    assert record.deadline.at - house.clock.now() == timedelta(seconds=15)
    secured = await client.post("/sandboxes", json={"templateID": "base", "secure": True})
    assert "envdAccessToken" in secured.json()


async def test_a_chunked_body_is_read_like_any_other(client: Any) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for part in (b'{"temp', b'lateID":', b'"base"}'):
            yield part

    response = await client.post("/v2/sandboxes", content=chunks())
    assert response.status_code == 201


async def test_null_is_as_good_as_absent(client: Any) -> None:
    absent = "timeout metadata envVars network autoPause autoResume iam mcp volumeMounts"
    await _create(client, **dict.fromkeys(absent.split()))


async def test_how_ports_are_asked_is_kept_and_told(client: Any, house: Any) -> None:
    network = {"maskRequestHost": "localhost:${PORT}", "httpsPorts": [8443, 443]}
    sandbox_id = (await _create(client, network=network))["sandboxID"]
    route = house.routes.get(sandbox_id)
    assert (route.mask_host, route.https_ports) == ("localhost:${PORT}", frozenset({443, 8443}))
    told = (await client.get(f"/sandboxes/{sandbox_id}")).json()["network"]
    assert told == {"maskRequestHost": "localhost:${PORT}", "httpsPorts": [443, 8443]}


@pytest.mark.parametrize(
    "body",
    [
        {"autoPauseMemory": False},
        {"autoPauseMemory": False, "autoPause": True, "autoResume": {"enabled": True}},
        {"autoResume": {"enabled": True}},
        {"network": {"denyOut": ["0.0.0.0/0"]}},
        {"iam": {"tokens": {"a": {}}}},
        {"volumeMounts": [{"name": "a", "path": "/a"}]},
    ],
)
async def test_what_cannot_be_done_yet_is_refused_and_named(client: Any, body: dict[str, Any]) -> None:
    response = await client.post("/v2/sandboxes", json={"templateID": "base", **body})
    assert response.status_code == 400
    assert next(iter(body)) in response.json()["message"]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"no json", "Invalid request body"),
        (b'{"templateID": "base"', "Invalid request body"),
        (b"\xff\xfe", "Invalid request body"),
        (b"[]", "Expected `object`"),
        (b"", "missing required field `templateID`"),
        (b"{}", "missing required field `templateID`"),
        (b'{"templateID": 5}', "$.templateID"),
        (b'{"templateID": "base", "timeout": "5"}', "$.timeout"),
        (b'{"templateID": "base", "timeout": 1.5}', "$.timeout"),
        (b'{"templateID": "base", "timeout": 0}', "Timeout must be greater than 0"),
        (b'{"templateID": "base", "timeout": -1}', "Timeout must be greater than 0"),
        (b'{"templateID": "base", "timeout": 86401}', "Timeout cannot be greater than 24 hours"),
        (b'{"templateID": "base", "timeout": 1' + b"0" * 40 + b"}", "Timeout cannot be greater"),
        (b'{"templateID": "base", "metadata": {"a": 1}}', "$.metadata"),
        (b'{"templateID": "base", "envVars": ["a"]}', "$.envVars"),
        (b'{"templateID": "base", "envVars": {"A=B": "c"}}', "Environment variable"),
        (b'{"templateID": "../etc"}', "Invalid template name"),
        (b'{"templateID": "base", "network": {"allowPublicTraffic": 1}}', "$.allowPublicTraffic"),
        (b'{"templateID": "base", "network": {"maskRequestHost": "a\\r\\nb: c"}}', "maskRequestHost"),
        (b'{"templateID": "base", "network": {"maskRequestHost": "gr\xc3\xbcn"}}', "maskRequestHost"),
        (b'{"templateID": "base", "network": {"httpsPorts": [0]}}', "httpsPorts"),
        (b'{"templateID": "base", "network": {"httpsPorts": [49983]}}', "httpsPorts"),
        (b'{"templateID": "base", "network": {"httpsPorts": ["443"]}}', "$.httpsPorts"),
        (b"[" * 100_000, "Invalid request body"),
    ],
)
async def test_a_bad_body_is_refused_and_says_where(client: Any, body: bytes, text: str) -> None:
    response = await client.post("/v2/sandboxes", content=body)
    assert response.status_code == 400
    assert text in response.json()["message"]


async def test_an_unknown_template_is_not_found(client: Any) -> None:
    response = await client.post("/v2/sandboxes", json={"templateID": "nothing"})
    assert response.status_code == 404
    assert "setup" in response.json()["message"]


async def test_a_body_that_is_too_large_is_not_read(client: Any) -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 1 << 20
            yield bytes(1 << 20)

    told = await client.post("/v2/sandboxes", content=endless(), headers={"Content-Length": str(100 << 20)})
    assert told.status_code == 413
    assert read <= 1 << 20
    chunked = await client.post("/v2/sandboxes", content=endless())
    assert chunked.status_code == 413
    assert read <= 8 << 20
    assert chunked.headers["Connection"] == "close"


@pytest.mark.parametrize("key", ["", "nonsense", "e2b_" + "0" * 40])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/sandboxes"),
        ("POST", "/v2/sandboxes"),
        ("GET", "/sandboxes"),
        ("GET", "/v2/sandboxes"),
        ("GET", f"/sandboxes/{UNKNOWN}"),
        ("DELETE", f"/sandboxes/{UNKNOWN}"),
        ("POST", f"/sandboxes/{UNKNOWN}/connect"),
        ("POST", f"/v2/sandboxes/{UNKNOWN}/connect"),
        ("POST", f"/sandboxes/{UNKNOWN}/timeout"),
        ("POST", f"/sandboxes/{UNKNOWN}/refreshes"),
        ("GET", "/metrics"),
    ],
)
async def test_no_route_works_without_a_key(client: Any, method: str, path: str, key: str) -> None:
    response = await client.request(method, path, headers={"X-API-Key": key}, content=b"{}")
    assert response.status_code == 401
    assert "API key" in response.json()["message"]


async def test_health_needs_no_key(client: Any) -> None:
    response = await client.get("/health", headers={"X-API-Key": ""})
    assert response.status_code == 204


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/nothing", 404),
        ("POST", "/v3/sandboxes", 404),
        ("GET", "/sandboxes/", 404),
        ("GET", "/sandboxes/a/b/c", 404),
        ("GET", f"/sandboxes%2F{UNKNOWN}", 404),
        ("PATCH", "/sandboxes", 405),
        ("PUT", f"/sandboxes/{UNKNOWN}", 405),
        ("POST", "/health", 405),
    ],
)
async def test_what_is_no_route_is_answered_in_the_same_shape(
    client: Any, method: str, path: str, status: int
) -> None:
    response = await client.request(method, path)
    assert response.status_code == status
    assert response.json()["message"]


@pytest.mark.parametrize(
    ("sandbox_id", "status", "message"),
    [
        (UNKNOWN, 404, f"Sandbox \"{UNKNOWN}\" doesn't exist or you don't have access to it"),
        (f"{UNKNOWN}-client", 404, f"Sandbox \"{UNKNOWN}\" doesn't exist or you don't have access to it"),
        ("a-b-c", 400, "Invalid sandbox ID"),
        ("UPPER", 400, "Invalid sandbox ID"),
        ("a%2Fb", 400, "Invalid sandbox ID"),
        ("%00", 400, "Invalid sandbox ID"),
        ("..", 404, None),
        ("x" * 1000, 400, "Invalid sandbox ID"),
    ],
)
async def test_an_id_that_is_none(client: Any, sandbox_id: str, status: int, message: str | None) -> None:
    calls = (
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/connect"),
        ("POST", "/timeout"),
        ("POST", "/refreshes"),
    )
    for method, verb in calls:
        path = f"/sandboxes/{sandbox_id}{verb}"
        response = await client.request(method, path, content=b'{"timeout": 5}')
        assert response.status_code in (status, 405 if sandbox_id == ".." else status), path
        if message is not None:
            assert response.json()["message"] == message


async def test_the_life_of_one_sandbox(client: Any, house: Any) -> None:
    made = await _create(client, timeout=60, metadata={"user": "a b"}, allow_internet_access=False)
    path = f"/sandboxes/{made['sandboxID']}"
    detail = (await client.get(path)).json()
    assert detail["metadata"] == {"user": "a b"}
    assert detail["envdAccessToken"] == made["envdAccessToken"]
    assert detail["allowInternetAccess"] is False
    assert (detail["cpuCount"], detail["memoryMB"], detail["state"]) == (2, 1024, "running")
    connected = await client.post(f"/v2{path}/connect", json={})
    assert connected.status_code == 200
    assert connected.json() == made
    assert (await client.post(f"{path}/connect", json={"timeout": 120})).status_code == 200
    assert (await client.post(f"{path}/timeout", json={"timeout": 30})).status_code == 204
    assert (await client.post(f"{path}/timeout", json={"timeout": 86401})).status_code == 400
    assert (await client.post(f"{path}/timeout")).status_code == 400
    assert (await client.post(f"{path}/refreshes", json={"duration": 100})).status_code == 204
    assert (await client.post(f"{path}/refreshes")).status_code == 204
    assert (await client.post(f"{path}/refreshes", json={"duration": 3601})).status_code == 400
    record = await house.store.sandboxes.get(made["sandboxID"])
    assert record.deadline.at - house.clock.now() == timedelta(seconds=100)
    assert (await client.delete(path)).status_code == 204
    assert (await client.delete(path)).status_code == 404
    assert (await client.get(path)).status_code == 404
    assert (await client.post(f"{path}/connect", json={"timeout": 5})).status_code == 404


async def test_list_pages_and_counts(client: Any, house: Any) -> None:
    ids: list[str] = []
    for number in range(5):
        ids.append((await _create(client, metadata={"n": str(number % 2)}))["sandboxID"])
        await house.clock.advance(1)
    seen: list[str] = []
    token = ""
    while True:
        page = await client.get("/v2/sandboxes", params={"limit": 2, "nextToken": token})
        assert page.headers["X-Total-Running"] == "5"
        seen += [item["sandboxID"] for item in page.json()]
        token = page.headers.get("X-Next-Token", "")
        if not token:
            break
    assert seen == ids[::-1]
    ascending = await client.get("/v2/sandboxes", params={"order": "asc", "state": "running,paused"})
    assert [item["sandboxID"] for item in ascending.json()] == ids
    assert [item["sandboxID"] for item in (await client.get("/sandboxes")).json()] == ids[::-1]
    odd = await client.get("/v2/sandboxes?metadata=n%3D1&state=running")
    assert [item["sandboxID"] for item in odd.json()] == [ids[3], ids[1]]
    assert len((await client.get("/sandboxes?metadata=n%3D1")).json()) == 2
    assert (await client.get("/v2/sandboxes?state=paused")).json() == []
    assert len((await client.get("/v2/sandboxes?template=base")).json()) == 5
    assert len((await client.get("/v2/sandboxes?template=tbase")).json()) == 5
    assert (await client.get("/v2/sandboxes?template=nothing")).json() == []
    assert (await client.get("/v2/sandboxes?template=N%20O")).json() == []
    after = await client.get("/v2/sandboxes", params={"startedAfter": "2026-05-01T12:00:03Z"})
    assert len(after.json()) == 2


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=x",
        "state=gone",
        "order=up",
        "startedAfter=x",
        "nextToken=x",
        "nextToken=eA==",
    ],
)
async def test_a_bad_query_is_refused_and_named(client: Any, query: str) -> None:
    response = await client.get(f"/v2/sandboxes?{query}")
    assert response.status_code == 400
    assert query.split("=")[0] in response.json()["message"]


async def test_the_metadata_filter_as_the_clients_encode_it(client: Any) -> None:
    made = await _create(client, metadata={"a b": "c&d=é"})
    await _create(client)
    response = await client.get("/v2/sandboxes?metadata=a%252520b%3Dc%252526d%25253D%2525C3%2525A9")
    assert [item["sandboxID"] for item in response.json()] == [made["sandboxID"]]


async def test_any_web_page_may_call(client: httpx.AsyncClient, app: Any) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as plain:
        asked = await plain.options(
            "/v2/sandboxes",
            headers={
                "Origin": "https://example.org",
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "x-api-key, content-type, sdk_runtime",
            },
        )
    assert asked.status_code == 200
    assert asked.headers["Access-Control-Allow-Origin"] == "*"
    response = await client.get("/v2/sandboxes", headers={"Origin": "https://example.org", "X-API-Key": "no"})
    assert response.status_code == 401
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "X-Next-Token" in response.headers["Access-Control-Expose-Headers"]


async def test_a_failed_create_is_not_to_be_repeated(client: Any, house: Any) -> None:
    house.machine.slots.fail["lease"] = 1
    response = await client.post("/v2/sandboxes", json={"templateID": "base"})
    assert response.status_code == 500
    assert response.headers["Should-Retry"] == "false"
    assert response.json()["error_code"] == "sandbox_create_failed"


async def test_a_full_machine_may_be_asked_again(client: Any, house: Any, monkeypatch: Any) -> None:
    async def full(_spec: object) -> None:
        raise CapacityUnavailable("Failed to place sandbox: no address is free")

    monkeypatch.setattr(house.machine.node, "start", full)
    response = await client.post("/v2/sandboxes", json={"templateID": "base"})
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
    assert response.json()["error_code"] == "sandbox_capacity_unavailable"


async def test_a_measurement_may_refuse_the_warm_one(client: Any, house: Any, monkeypatch: Any) -> None:
    seen: list[bool] = []
    start = house.machine.node.start

    async def spy(spec: Any) -> Any:
        seen.append(spec.may_claim)
        return await start(spec)

    monkeypatch.setattr(house.machine.node, "start", spy)
    for headers in ({}, {"Atoll-Start": "cold"}):
        response = await client.post("/v2/sandboxes", json={"templateID": "base"}, headers=headers)
        assert response.status_code == 201
    assert seen == [True, False]


async def test_a_surprise_is_answered_without_its_details(client: Any, house: Any, monkeypatch: Any) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("secret path")

    monkeypatch.setattr(house.store.sandboxes, "get", broken)
    response = await client.get(f"/sandboxes/{UNKNOWN}")
    assert response.status_code == 500
    assert response.json()["error_code"] == "internal_server_error"
    assert "secret" not in response.text


async def test_metrics_are_for_the_operators_key(client: Any, house: Any) -> None:
    await _create(client)
    response = await client.get("/metrics", headers={"X-API-Key": "", "Authorization": f"Bearer {house.key}"})
    assert response.status_code == 200
    assert 'atolld_control_sandbox_started_total{template="base"}' in response.text


def test_wire_names_are_spelt_in_schema_only() -> None:
    package = Path(schema.__file__).parents[1]
    names = r"\b(templateID|sandboxID|envdAccessToken|envVars|autoPause|memoryMB)\b"
    found = [
        str(path.relative_to(package))
        for room in ("api", "control", "store", "model", "daemon")
        for path in (package / room).rglob("*.py")
        if "tests" not in path.parts and re.search(names, path.read_text())
    ]
    assert found == [str(Path("api") / "schema.py")]


def test_error_bodies_leave_out_what_is_not_known() -> None:
    from atolld.api.answers import answer

    body = answer(schema.ErrorBody(404, "gone"), 404).body
    assert json.loads(bytes(body)) == {"code": 404, "message": "gone"}
