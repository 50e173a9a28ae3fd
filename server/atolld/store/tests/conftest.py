from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from atolld.model.records import Deadline, SandboxRecord
from atolld.model.sandbox import Resources, State, new_sandbox_id
from atolld.model.team import TeamId
from atolld.store import Store

NOW = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncGenerator[Store]:
    opened = await Store.open(tmp_path / "atoll.db")
    yield opened
    await opened.close()


@pytest.fixture
def starting() -> Callable[..., SandboxRecord]:
    """Makes records; keyword arguments replace the usual fields."""

    def make(second: float = 0, **fields: object) -> SandboxRecord:
        values: dict[str, object] = {
            "sandbox_id": new_sandbox_id(),
            "team_id": TeamId("t1"),
            "template_id": "base",
            "build_id": "b1",
            "alias": "base",
            "state": State.STARTING,
            "incarnation": 1,
            "started_at": NOW + timedelta(seconds=second),
            "deadline": Deadline(NOW + timedelta(seconds=300), 1300.0, "boot"),
            "resources": Resources(),
            "envd_version": "0.6.13",
            "access_token": "secret",
        }
        return SandboxRecord(**(values | fields))  # type: ignore[arg-type]

    return make
