"""How a sandbox sleeps: with or without its memory, until a call or until the server is back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    for name, default in (
        ("auto_pause_memory", "1"),
        ("without_memory", "0"),
        ("guest_silent", "0"),
        ("comes_back", "0"),
    ):
        op.add_column("sandboxes", sa.Column(name, sa.Boolean, nullable=False, server_default=default))
