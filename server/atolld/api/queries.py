"""Query strings and page tokens. Pure.

The metadata filter is encoded three times by the official clients: each key and value, then the pairs as a
form, then the form as a query value. The last was undone when the query was read.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import unquote

from atolld.api.schema import SNAPSHOT_SOURCE
from atolld.model.errors import InvalidRequest
from atolld.model.names import parse_template_reference
from atolld.model.records import Cursor
from atolld.model.sandbox import ASLEEP, UP, SandboxId, State, parse_sandbox_id
from atolld.model.team import TeamId
from atolld.store.snapshots import SnapshotFilter, SnapshotRow

_MOST_PER_PAGE = 100
_SHOWN_AS = {"running": UP, "paused": ASLEEP}


@dataclass(frozen=True, slots=True)
class ListQuery:
    states: frozenset[State]
    metadata: Mapping[str, str]
    template: str | None
    started_after: datetime | None
    ascending: bool
    limit: int
    after: Cursor | None


def parse_list_query(query: Mapping[str, str]) -> ListQuery:
    """``GET /v2/sandboxes``. Raises :class:`InvalidRequest`, naming the parameter."""
    order = query.get("order") or "desc"
    if order not in ("asc", "desc"):
        raise InvalidRequest(f'Invalid order "{order}": it is asc or desc')
    token = query.get("nextToken")
    return ListQuery(
        states=_parse_states(query.get("state")),
        metadata=parse_metadata_filter(query.get("metadata") or ""),
        template=query.get("template") or None,
        started_after=_parse_time(query.get("startedAfter")),
        ascending=order == "asc",
        limit=_parse_limit(query.get("limit")),
        after=parse_cursor(token, ascending=order == "asc") if token else None,
    )


def parse_metadata_filter(text: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in unquote(text).split("&") if pair)
    return {unquote(key): unquote(value) for key, _, value in pairs}


def encode_cursor(cursor: Cursor, *, ascending: bool) -> str:
    text = f"{cursor.started_at.isoformat()}__{cursor.sandbox_id}" + ("__asc" if ascending else "")
    return base64.urlsafe_b64encode(text.encode()).decode()


def parse_cursor(token: str, *, ascending: bool) -> Cursor:
    """Raises :class:`InvalidRequest`, for a token of the other order as well."""
    try:
        started_at, sandbox_id, *order = base64.urlsafe_b64decode(token).decode().split("__")
        moment = datetime.fromisoformat(started_at)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest("Invalid nextToken: use the one of the last answer") from error
    parsed = parse_sandbox_id(sandbox_id)
    if parsed is None or moment.tzinfo is None or order != (["asc"] if ascending else []):
        raise InvalidRequest("Invalid nextToken: use the one of the last answer, with the same order")
    return Cursor(moment, SandboxId(parsed))


def parse_snapshot_query(query: Mapping[str, str], team_id: TeamId) -> SnapshotFilter:
    """``GET /snapshots``. Raises :class:`InvalidRequest`, naming the parameter."""
    name = query.get("name")
    reference = parse_template_reference(name) if name else None
    token = query.get("nextToken")
    return SnapshotFilter(
        team_id,
        source=query.get(SNAPSHOT_SOURCE) or None,
        name=None if reference is None else reference.name,
        tag=reference.tag if reference is not None and name and ":" in name else None,
        limit=_parse_limit(query.get("limit")),
        after=_parse_snapshot_cursor(token) if token else None,
    )


def encode_snapshot_cursor(row: SnapshotRow) -> str:
    return base64.urlsafe_b64encode(f"{row.created_at.isoformat()}__{row.build_id}".encode()).decode()


def _parse_snapshot_cursor(token: str) -> tuple[datetime, str]:
    try:
        created_at, build_id = base64.urlsafe_b64decode(token).decode().split("__")
        moment = datetime.fromisoformat(created_at)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest("Invalid nextToken: use the one of the last answer") from error
    if moment.tzinfo is None:
        raise InvalidRequest("Invalid nextToken: use the one of the last answer")
    return moment, build_id


def _parse_states(text: str | None) -> frozenset[State]:
    if not text:
        return UP | ASLEEP
    states: frozenset[State] = frozenset()
    for name in text.split(","):
        if name not in _SHOWN_AS:
            raise InvalidRequest(f'Invalid state "{name[:40]}": it is running or paused')
        states |= _SHOWN_AS[name]
    return states


def _parse_limit(text: str | None) -> int:
    if not text:
        return _MOST_PER_PAGE
    if not (text.isascii() and text.isdecimal() and len(text) < 9 and 1 <= int(text) <= _MOST_PER_PAGE):
        raise InvalidRequest(f"Invalid limit: it is a number from 1 to {_MOST_PER_PAGE}")
    return int(text)


def _parse_time(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequest(f'Invalid startedAfter "{text[:40]}": it is an ISO 8601 time') from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
