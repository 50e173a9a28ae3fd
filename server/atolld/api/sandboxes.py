"""The sandbox routes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, TypeVar
from urllib.parse import unquote

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from atolld.api.answers import answer, nothing
from atolld.api.queries import ListQuery, encode_cursor, parse_list_query, parse_metadata_filter
from atolld.api.schema import (
    CONNECT_TIMEOUT,
    V1_TIMEOUT,
    ConnectBody,
    ForkBody,
    NewSandboxBody,
    PauseBody,
    RefreshBody,
    RollbackBody,
    SnapshotBody,
    TimeoutBody,
    encode_detail,
    encode_fork,
    encode_listed,
    encode_sandbox,
    encode_snapshot,
    parse_new_sandbox,
)
from atolld.control.keys import Keys
from atolld.control.sandboxes import Sandboxes
from atolld.control.templates import Templates
from atolld.model.errors import Forbidden, InvalidRequest
from atolld.model.names import parse_template_reference
from atolld.model.records import SandboxFilter
from atolld.model.sandbox import UP, SandboxId, parse_sandbox_id
from atolld.model.team import Team

_T = TypeVar("_T")
_LONGEST_REFRESH = 3600
_KEY = re.compile(r"[a-z0-9-]{1,255}")
_START_HEADER = "Atoll-Start"
"""On a create: ``cold`` restores one even when a warm one waits, ``bare`` also when a blank does."""


class SandboxRoutes:
    def __init__(
        self,
        sandboxes: Sandboxes,
        templates: Templates,
        keys: Keys,
        domain: str,
        https_domain: str | None = None,
    ) -> None:
        self._sandboxes = sandboxes
        self._templates = templates
        self._keys = keys
        self._plain_domain = domain
        self._https_domain = https_domain

    def routes(self) -> list[Route]:
        return [
            Route("/sandboxes", self.create_v1, methods=["POST"]),
            Route("/v2/sandboxes", self.create_v2, methods=["POST"]),
            Route("/sandboxes", self.list_v1, methods=["GET"]),
            Route("/v2/sandboxes", self.list_v2, methods=["GET"]),
            Route("/sandboxes/{sandbox_id}", self.get, methods=["GET"]),
            Route("/sandboxes/{sandbox_id}", self.kill, methods=["DELETE"]),
            Route("/sandboxes/{sandbox_id}/connect", self.connect, methods=["POST"]),
            Route("/v2/sandboxes/{sandbox_id}/connect", self.connect, methods=["POST"]),
            Route("/sandboxes/{sandbox_id}/resume", self.resume, methods=["POST"]),
            Route("/sandboxes/{sandbox_id}/pause", self.pause, methods=["POST"]),
            Route("/sandboxes/{sandbox_id}/fork", self.fork, methods=["POST"]),
            Route("/sandboxes/{sandbox_id}/snapshots", self.snapshot, methods=["POST"]),
            Route("/sandboxes/{sandbox_id}/rollback", self.rollback, methods=["POST"]),
            Route("/sandboxes/{sandbox_id}/timeout", self.set_timeout, methods=["POST"]),
            Route("/sandboxes/{sandbox_id}/refreshes", self.refresh, methods=["POST"]),
        ]

    def _domain(self, request: Request) -> str:
        """Whoever came by https gets names that are reached by https."""
        if self._https_domain and request.headers.get("host", "").lower() == f"api.{self._https_domain}":
            return self._https_domain
        return self._plain_domain

    async def create_v1(self, request: Request) -> Response:
        return await self._create(request, version=1)

    async def create_v2(self, request: Request) -> Response:
        return await self._create(request, version=2)

    async def _create(self, request: Request, *, version: Literal[1, 2]) -> Response:
        team = await self._team(request)
        wanted = parse_new_sandbox(await _body(request, NewSandboxBody), version=version)
        start = request.headers.get(_START_HEADER)
        wanted = replace(
            wanted,
            may_claim=start not in ("cold", "bare"),
            may_fill=start != "bare",
            key=_idempotency_key(request),
        )
        created = await self._sandboxes.create(team, wanted)
        body = encode_sandbox(created.record, self._domain(request))
        return answer(body, 201, _server_timing(created.timings_ms))

    async def connect(self, request: Request) -> Response:
        team = await self._team(request)
        body = await _body(request, ConnectBody)
        timeout = CONNECT_TIMEOUT if body.timeout is None else body.timeout
        record, timings_ms = await self._sandboxes.connect(
            team, _sandbox_id(request), timeout, reboot=body.memory is False
        )
        encoded = encode_sandbox(record, self._domain(request))
        if timings_ms is None:
            return answer(encoded)
        return answer(encoded, 201, _server_timing(timings_ms))

    async def resume(self, request: Request) -> Response:
        team = await self._team(request)
        body = await _body(request, ConnectBody)
        timeout = V1_TIMEOUT if body.timeout is None else body.timeout
        record, timings_ms = await self._sandboxes.resume(
            team, _sandbox_id(request), timeout, reboot=body.memory is False
        )
        return answer(encode_sandbox(record, self._domain(request)), 201, _server_timing(timings_ms or {}))

    async def pause(self, request: Request) -> Response:
        team = await self._team(request)
        body = await _body(request, PauseBody)
        await self._sandboxes.pause(
            team,
            _sandbox_id(request),
            memory=body.memory is not False,
            strict=body.require_healthy_guest is True,
        )
        return nothing()

    async def fork(self, request: Request) -> Response:
        team = await self._team(request)
        body = await _body(request, ForkBody)
        count = 1 if body.count is None else body.count
        timeout = V1_TIMEOUT if body.timeout is None else body.timeout
        outcomes = await self._sandboxes.fork(team, _sandbox_id(request), count, timeout)
        return answer([encode_fork(outcome, self._domain(request)) for outcome in outcomes], 201)

    async def snapshot(self, request: Request) -> Response:
        team = await self._team(request)
        body = await _body(request, SnapshotBody)
        row = await self._sandboxes.snapshot(
            team, _sandbox_id(request), body.name or None, memory=body.memory is not False
        )
        return answer(encode_snapshot(row, team), 201)

    async def rollback(self, request: Request) -> Response:
        team = await self._team(request)
        body = await _body(request, RollbackBody)
        record, timings_ms = await self._sandboxes.rollback(team, _sandbox_id(request), body.snapshot_id)
        return answer(encode_sandbox(record, self._domain(request)), 200, _server_timing(timings_ms))

    async def get(self, request: Request) -> Response:
        team = await self._team(request)
        record = await self._sandboxes.get(team, _sandbox_id(request))
        return answer(encode_detail(record, self._domain(request), self._sandboxes.kept_until(record)))

    async def list_v1(self, request: Request) -> Response:
        team = await self._team(request)
        metadata = parse_metadata_filter(request.query_params.get("metadata", ""))
        page = await self._sandboxes.list(SandboxFilter(team.team_id, UP, metadata))
        return answer([encode_listed(record) for record in page.records])

    async def list_v2(self, request: Request) -> Response:
        team = await self._team(request)
        query = parse_list_query(request.query_params)
        wanted = await self._filter(team, query)
        if wanted is None:
            return answer([], headers={"X-Total-Running": "0"})
        page = await self._sandboxes.list(wanted)
        headers = {"X-Total-Running": str(await self._sandboxes.count_running(wanted))}
        if page.next is not None:
            headers["X-Next-Token"] = encode_cursor(page.next, ascending=query.ascending)
        return answer([encode_listed(record) for record in page.records], headers=headers)

    async def kill(self, request: Request) -> Response:
        team = await self._team(request)
        await self._sandboxes.kill(team, _sandbox_id(request))
        return nothing()

    async def set_timeout(self, request: Request) -> Response:
        team = await self._team(request)
        body = await _body(request, TimeoutBody)
        await self._sandboxes.set_timeout(team, _sandbox_id(request), body.timeout)
        return nothing()

    async def refresh(self, request: Request) -> Response:
        team = await self._team(request)
        duration = (await _body(request, RefreshBody)).duration or 0
        if not 0 <= duration <= _LONGEST_REFRESH:
            raise InvalidRequest(f"duration must be from 0 to {_LONGEST_REFRESH} seconds")
        await self._sandboxes.refresh(team, _sandbox_id(request), duration)
        return nothing()

    async def _team(self, request: Request) -> Team:
        return await self._keys.authenticate(request.headers.get("X-API-Key"))

    async def _filter(self, team: Team, query: ListQuery) -> SandboxFilter | None:
        """``None`` when it names a template that cannot have any sandbox of the team."""
        template_id = None
        if query.template is not None:
            try:
                row = await self._templates.find(team, parse_template_reference(query.template))
            except (InvalidRequest, Forbidden):
                return None
            if row is None:
                return None
            template_id = row.template_id
        return SandboxFilter(
            team_id=team.team_id,
            states=query.states,
            metadata=query.metadata,
            template_id=template_id,
            started_after=query.started_after,
            ascending=query.ascending,
            limit=query.limit,
            after=query.after,
        )


def _sandbox_id(request: Request) -> SandboxId:
    sandbox_id = parse_sandbox_id(unquote(request.path_params["sandbox_id"]))
    if sandbox_id is None:
        raise InvalidRequest("Invalid sandbox ID")
    return sandbox_id


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not _KEY.fullmatch(key):
        raise InvalidRequest('Invalid Idempotency-Key: it is 1 to 255 of "a" to "z", "0" to "9" and "-"')
    return key


def _server_timing(timings_ms: Mapping[str, float]) -> dict[str, str]:
    """Where the time went, for whoever looks; no header where nothing was measured."""
    timing = ", ".join(f"{name};dur={ms:.2f}" for name, ms in timings_ms.items())
    return {"Server-Timing": timing} if timing else {}


async def _body(request: Request, kind: type[_T]) -> _T:
    """No body at all is the empty object. Raises ``msgspec.DecodeError``."""
    return msgspec.json.decode(await request.body() or b"{}", type=kind)
