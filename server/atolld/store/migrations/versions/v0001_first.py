"""The first form: teams and keys, templates and builds, sandboxes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "teams",
        sa.Column("team_id", sa.String, nullable=False),
        sa.Column("slug", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("team_id", name="pk_teams"),
        sa.UniqueConstraint("slug", name="uq_teams_slug"),
    )
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.String, nullable=False),
        sa.Column("team_id", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("hash", sa.String, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("key_id", name="pk_api_keys"),
        sa.UniqueConstraint("hash", name="uq_api_keys_hash"),
        _foreign_key("api_keys", "team_id", "teams.team_id"),
    )
    _create_templates()
    _create_sandboxes()


def _create_templates() -> None:
    op.create_table(
        "templates",
        sa.Column("template_id", sa.String, nullable=False),
        sa.Column("team_id", sa.String, nullable=False),
        sa.Column("public", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("template_id", name="pk_templates"),
        _foreign_key("templates", "team_id", "teams.team_id"),
    )
    op.create_table(
        "template_names",
        sa.Column("team_id", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("template_id", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("team_id", "name", name="pk_template_names"),
        _foreign_key("template_names", "team_id", "teams.team_id"),
        _foreign_key("template_names", "template_id", "templates.template_id"),
    )
    op.create_index("ix_template_names_template_id", "template_names", ["template_id"])
    op.create_table(
        "builds",
        sa.Column("build_id", sa.String, nullable=False),
        sa.Column("template_id", sa.String, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("finished_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("build_id", name="pk_builds"),
        _foreign_key("builds", "template_id", "templates.template_id"),
    )
    op.create_index("ix_builds_template_id", "builds", ["template_id"])
    op.create_table(
        "template_tags",
        sa.Column("template_id", sa.String, nullable=False),
        sa.Column("tag", sa.String, nullable=False),
        sa.Column("build_id", sa.String, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("template_id", "tag", name="pk_template_tags"),
        _foreign_key("template_tags", "template_id", "templates.template_id"),
        _foreign_key("template_tags", "build_id", "builds.build_id"),
    )


def _create_sandboxes() -> None:
    op.create_table(
        "sandboxes",
        sa.Column("sandbox_id", sa.String, nullable=False),
        sa.Column("team_id", sa.String, nullable=False),
        sa.Column("template_id", sa.String, nullable=False),
        sa.Column("build_id", sa.String, nullable=False),
        sa.Column("alias", sa.String),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("incarnation", sa.Integer, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("deadline_at", sa.BigInteger, nullable=False),
        sa.Column("deadline_ticks", sa.Float, nullable=False),
        sa.Column("boot_id", sa.String, nullable=False),
        sa.Column("vcpu", sa.Integer, nullable=False),
        sa.Column("memory_mib", sa.Integer, nullable=False),
        sa.Column("disk_mib", sa.Integer, nullable=False),
        sa.Column("envd_version", sa.String, nullable=False),
        sa.Column("access_token", sa.String),
        sa.Column("allow_internet", sa.Boolean, nullable=False),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("envs", sa.JSON, nullable=False),
        sa.Column("end_reason", sa.String),
        sa.Column("end_detail", sa.String),
        sa.Column("ended_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("sandbox_id", name="pk_sandboxes"),
    )
    op.create_index(
        "ix_sandboxes_team_id_state_started_at_sandbox_id",
        "sandboxes",
        ["team_id", "state", "started_at", "sandbox_id"],
    )
    op.create_index("ix_sandboxes_state", "sandboxes", ["state"])


def _foreign_key(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [target], name=f"fk_{table}_{column}", ondelete="CASCADE")
