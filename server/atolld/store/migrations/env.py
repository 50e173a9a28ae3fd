"""Alembic's entry. The connection, already in its transaction, comes from :mod:`atolld.store.migrate`."""

from __future__ import annotations

from alembic import context

from atolld.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=False,  # the caller's transaction holds everything
)
context.run_migrations()
