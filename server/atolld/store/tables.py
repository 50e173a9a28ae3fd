"""The tables. A change here needs a migration: `tests/test_migrations.py` compares the two."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    TypeDecorator,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Instant(TypeDecorator[datetime]):
    """An aware datetime, kept as whole microseconds since 1970 UTC: exact to sort and to page by."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> int | None:
        return None if value is None else (value - _EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: int | None, dialect: Any) -> datetime | None:
        return None if value is None else _EPOCH + timedelta(microseconds=value)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _reference(
    name: str, target: str, *, primary_key: bool = False, index: bool | None = None
) -> Column[str]:
    key = ForeignKey(target, ondelete="CASCADE")
    return Column(name, String, key, primary_key=primary_key, nullable=False, index=index)


teams = Table(
    "teams",
    metadata,
    Column("team_id", String, primary_key=True),
    Column("slug", String, nullable=False, unique=True),
    Column("name", String, nullable=False),
    Column("created_at", Instant, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", String, primary_key=True),
    _reference("team_id", "teams.team_id"),
    Column("name", String, nullable=False),
    Column("hash", String, nullable=False, unique=True),
    Column("created_at", Instant, nullable=False),
)

templates = Table(
    "templates",
    metadata,
    Column("template_id", String, primary_key=True),
    _reference("team_id", "teams.team_id"),
    Column("public", Boolean, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
)

template_names = Table(
    "template_names",
    metadata,
    _reference("team_id", "teams.team_id", primary_key=True),
    Column("name", String, primary_key=True),
    _reference("template_id", "templates.template_id", index=True),
)

builds = Table(
    "builds",
    metadata,
    Column("build_id", String, primary_key=True),
    _reference("template_id", "templates.template_id", index=True),
    Column("status", String, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("finished_at", Instant),
    # Set for a snapshot that was taken of a sandbox: it can be started from as any build can.
    Column("source_sandbox_id", String),
)

template_tags = Table(
    "template_tags",
    metadata,
    _reference("template_id", "templates.template_id", primary_key=True),
    Column("tag", String, primary_key=True),
    _reference("build_id", "builds.build_id"),
    Column("created_at", Instant, nullable=False),
)

sandboxes = Table(
    "sandboxes",
    metadata,
    Column("sandbox_id", String, primary_key=True),
    Column("team_id", String, nullable=False),
    Column("template_id", String, nullable=False),
    Column("build_id", String, nullable=False),
    Column("alias", String),
    Column("state", String, nullable=False),
    Column("incarnation", Integer, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("deadline_at", Instant, nullable=False),
    Column("deadline_ticks", Float, nullable=False),
    Column("boot_id", String, nullable=False),
    Column("vcpu", Integer, nullable=False),
    Column("memory_mib", Integer, nullable=False),
    Column("disk_mib", Integer, nullable=False),
    Column("envd_version", String, nullable=False),
    Column("access_token", String),
    Column("allow_internet", Boolean, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("envs", JSON, nullable=False),
    Column("end_reason", String),
    Column("end_detail", String),
    Column("ended_at", Instant),
    Column("traffic_token", String),
    Column("timeout", Integer, nullable=False, server_default="300"),
    Column("auto_pause", Boolean, nullable=False, server_default="0"),
    Column("auto_resume", Boolean, nullable=False, server_default="0"),
    Column("snapshot_id", String),
    Column("paused_at", Instant),
    Column("mask_host", String),
    Column("https_ports", JSON, nullable=False, server_default="[]"),
    Column("auto_pause_memory", Boolean, nullable=False, server_default="1"),
    Column("without_memory", Boolean, nullable=False, server_default="0"),
    Column("guest_silent", Boolean, nullable=False, server_default="0"),
    Column("comes_back", Boolean, nullable=False, server_default="0"),
    # Rows outlive teams and templates: no foreign keys, so that the reason of an end is never lost.
    Index(None, "team_id", "state", "started_at", "sandbox_id"),
    Index(None, "state"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("team_id", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("body_hash", String, nullable=False),
    Column("sandbox_id", String, nullable=False),
    Column("created_at", Instant, nullable=False),
)
