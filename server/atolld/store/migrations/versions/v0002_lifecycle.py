"""Pause, resume, snapshots of sandboxes, and creates that are sent twice."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("builds", sa.Column("source_sandbox_id", sa.String))
    for column in (
        sa.Column("traffic_token", sa.String),
        sa.Column("timeout", sa.Integer, nullable=False, server_default="300"),
        sa.Column("auto_pause", sa.Boolean, nullable=False, server_default="0"),
        sa.Column("auto_resume", sa.Boolean, nullable=False, server_default="0"),
        sa.Column("snapshot_id", sa.String),
        sa.Column("paused_at", sa.BigInteger),
    ):
        op.add_column("sandboxes", column)
    op.create_table(
        "idempotency_keys",
        sa.Column("team_id", sa.String, nullable=False),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("body_hash", sa.String, nullable=False),
        sa.Column("sandbox_id", sa.String, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("team_id", "key", name="pk_idempotency_keys"),
    )
