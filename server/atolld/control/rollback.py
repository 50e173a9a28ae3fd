"""Rollback: a running sandbox becomes again what it was when one of its snapshots was taken.

Its id, tokens, deadline and settings stay; its processes, memory and files are the snapshot's, and what
happened since is gone. The sandbox runs on until the snapshot's is ready to take its place, so a rollback
that fails changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from atolld.control.lives import Lives
from atolld.control.templates import Templates
from atolld.model.errors import Conflict, NotFound
from atolld.model.names import parse_template_reference
from atolld.model.records import SandboxRecord
from atolld.model.sandbox import Event
from atolld.model.team import Team
from atolld.model.template import Build
from atolld.node import Node, StartSpec
from atolld.store import Store
from atolld.store.snapshots import SnapshotFilter

_log = structlog.get_logger(__name__)


class Rollbacks:
    def __init__(self, *, store: Store, node: Node, lives: Lives, templates: Templates) -> None:
        self._store = store
        self._node = node
        self._lives = lives
        self._templates = templates

    async def find(self, team: Team, record: SandboxRecord, text: str) -> Build:
        """The snapshot of this sandbox called ``text``; raises :class:`NotFound` when it has none such."""
        reference = parse_template_reference(text)
        taken = await self._store.snapshots.list(
            SnapshotFilter(team.team_id, source=record.sandbox_id, name=reference.name, tag=reference.tag)
        )
        if not taken or reference.team not in (None, team.slug):
            raise NotFound(
                f'Sandbox {record.sandbox_id} has no snapshot "{reference}": list those taken of it'
            )
        return (await self._templates.resolve(team, text)).build

    async def roll_back(
        self, record: SandboxRecord, build: Build
    ) -> tuple[SandboxRecord, Mapping[str, float]]:
        """Raises :class:`Conflict` when it does not run, or no longer; what a start raises."""
        spec = StartSpec(record.identity, record.resources, build, record.allow_internet, may_claim=False)
        rolling = await self._store.sandboxes.transition(record, Event.ROLLBACK)
        with self._lives.moving(record.sandbox_id):
            try:
                started = await self._node.rollback(spec)
            except BaseException:
                await self._lives.shielded(self._go_on(rolling))
                raise
            running = await self._store.sandboxes.transition(rolling, Event.ROLLBACK_DONE)
            self._lives.adopt(running, started.address, running.deadline.ticks)
        _log.info(
            "control.sandbox.rolled_back",
            sandbox_id=record.sandbox_id,
            snapshot_id=build.manifest.build_id,
        )
        return running, started.timings_ms

    async def _go_on(self, rolling: SandboxRecord) -> None:
        try:
            await self._store.sandboxes.transition(rolling, Event.ROLLBACK_DONE)
        except Conflict:
            return  # it is being ended
