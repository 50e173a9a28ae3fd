"""Creates that are sent twice: a key of the caller's stands for one sandbox, however often it comes.

The key is claimed in the transaction that makes the sandbox's row, so no crash comes between the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, and_, delete, select
from sqlalchemy.dialects.sqlite import insert

from atolld.model.errors import Conflict, Unprocessable
from atolld.model.records import SandboxRecord
from atolld.model.sandbox import EndReason
from atolld.store.inline import InlineConnection
from atolld.store.tables import idempotency_keys, sandboxes

KEPT = timedelta(hours=24)
"""How long a key stands for its sandbox."""


@dataclass(frozen=True, slots=True)
class OnlyOnce:
    key: str
    body_hash: str
    """Of all that was asked for, lower-case hex."""
    now: datetime


async def claim_key(connection: InlineConnection, record: SandboxRecord, once: OnlyOnce) -> Row[Any] | None:
    """The sandbox's row that the key stands for; ``None`` when it stands for ``record`` from now on.

    A create that failed made nothing, so the next one with its key tries again. Raises
    :class:`Unprocessable` when the key came with another request.
    """
    keys = idempotency_keys.c
    mine = and_(keys.team_id == record.team_id, keys.key == once.key)
    await connection.execute(delete(idempotency_keys).where(keys.created_at < once.now - KEPT))
    known = (await connection.execute(select(idempotency_keys).where(mine))).one_or_none()
    if known is not None:
        if known.body_hash != once.body_hash:
            raise Unprocessable(
                "This Idempotency-Key came with another request before: use a new one",
                error_code="idempotency_request_mismatch",
            )
        made = select(sandboxes).where(sandboxes.c.sandbox_id == known.sandbox_id)
        row = (await connection.execute(made)).one_or_none()
        if row is None:
            raise Conflict(
                "What became of the first request with this Idempotency-Key is not known: list your "
                "sandboxes, and use a new key",
                error_code="idempotency_outcome_unknown",
            )
        if row.end_reason != EndReason.START_FAILED.value:
            return row
    values = {
        "team_id": record.team_id,
        "key": once.key,
        "body_hash": once.body_hash,
        "sandbox_id": record.sandbox_id,
        "created_at": once.now,
    }
    statement = insert(idempotency_keys).values(**values)
    await connection.execute(statement.on_conflict_do_update(["team_id", "key"], set_=values))
    return None
