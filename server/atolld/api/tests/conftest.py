"""A client of the API that checks every answer against ``spec/openapi.yaml``."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from atolld.api import build_app

_SPEC = next(p for p in Path(__file__).parents if (p / "spec").is_dir()) / "spec" / "openapi.yaml"
_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "boolean": bool,
}


@cache
def spec() -> dict[str, Any]:
    return yaml.safe_load(_SPEC.read_text())


def resolve(node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        found: Any = spec()
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        node = found
    return node


def check(value: Any, schema: dict[str, Any], where: str = "$") -> None:
    """The part of JSON Schema that the spec uses."""
    schema = resolve(schema)
    kind = schema["type"]
    assert isinstance(value, _TYPES[kind]), f"{where}: {value!r} is no {kind}"
    assert kind != "integer" or not isinstance(value, bool), f"{where}: {value!r} is no integer"
    assert value in schema.get("enum", [value]), f"{where}: {value!r} is none of {schema['enum']}"
    if kind == "integer":
        assert value >= schema.get("minimum", value), f"{where}: {value} is too small"
    if "pattern" in schema:
        assert re.search(schema["pattern"], value), f"{where}: {value!r} is not like {schema['pattern']}"
    if schema.get("format") == "date-time":
        assert datetime.fromisoformat(value).tzinfo is not None, f"{where}: {value!r} has no zone"
    if kind == "array":
        for index, item in enumerate(value):
            check(item, schema["items"], f"{where}[{index}]")
    if kind == "object":
        _check_object(value, schema, where)


def _check_object(value: dict[str, Any], schema: dict[str, Any], where: str) -> None:
    missing = set(schema.get("required", ())) - set(value)
    assert not missing, f"{where}: {missing} missing"
    for name, item in value.items():
        known = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
        assert known, f"{where}: {name} is not in the spec"
        check(item, known, f"{where}.{name}")


def operation(method: str, path: str) -> dict[str, Any] | None:
    for template, item in spec()["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
            return item.get(method.lower())
    return None


class CheckedClient(httpx.AsyncClient):
    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        response = await super().send(request, **options)
        check_answer(request.method, request.url.raw_path.decode().split("?")[0], response)
        return response


def check_answer(method: str, path: str, response: httpx.Response) -> None:
    known = operation(method, path)
    if known is None:
        assert response.status_code in (404, 405)
        described = spec()["components"]["responses"]["Error"]
    else:
        assert str(response.status_code) in known["responses"], f"{response.status_code} is not in the spec"
        described = resolve(known["responses"][str(response.status_code)])
    content = described.get("content")
    if content is None:
        assert response.content == b""
    elif "application/json" in content:
        assert response.headers["content-type"] == "application/json"
        check(response.json(), content["application/json"]["schema"])
    if response.status_code >= 400:
        assert response.json()["code"] == response.status_code


@pytest.fixture
def app(house: Any) -> Any:
    return build_app(
        sandboxes=house.sandboxes,
        templates=house.templates,
        keys=house.keys,
        domain=house.config.domain,
        https_domain=house.config.tls.domain,
    )


@pytest.fixture
async def client(app: Any, house: Any) -> AsyncGenerator[CheckedClient]:
    async with CheckedClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False),
        base_url="http://api",
        headers={"X-API-Key": house.key},
    ) as made:
        yield made
