"""What the front door does for a sandbox's ports: another Host, TLS."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("sandboxes", sa.Column("mask_host", sa.String))
    op.add_column("sandboxes", sa.Column("https_ports", sa.JSON, nullable=False, server_default="[]"))
