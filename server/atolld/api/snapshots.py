"""The routes of snapshots that were taken of sandboxes."""

from __future__ import annotations

from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from atolld.api.answers import answer, nothing
from atolld.api.queries import encode_snapshot_cursor, parse_snapshot_query
from atolld.api.schema import encode_snapshot
from atolld.control.keys import Keys
from atolld.control.sandboxes import Sandboxes
from atolld.model.team import Team


class SnapshotRoutes:
    def __init__(self, sandboxes: Sandboxes, keys: Keys) -> None:
        self._copies = sandboxes.copies
        self._keys = keys

    def routes(self) -> list[Route]:
        return [
            Route("/snapshots", self.list, methods=["GET"]),
            Route("/templates/{template_id}", self.delete, methods=["DELETE"]),
        ]

    async def list(self, request: Request) -> Response:
        team = await self._team(request)
        page = await self._copies.list(parse_snapshot_query(request.query_params, team.team_id))
        headers = {"X-Next-Token": encode_snapshot_cursor(page.rows[-1])} if page.more else {}
        return answer([encode_snapshot(row, team) for row in page.rows], headers=headers)

    async def delete(self, request: Request) -> Response:
        team = await self._team(request)
        await self._copies.delete(team, unquote(request.path_params["template_id"]))
        return nothing()

    async def _team(self, request: Request) -> Team:
        return await self._keys.authenticate(request.headers.get("X-API-Key"))
