"""What a template's name stands for: a finished build on this machine's disk."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from atolld.model.errors import BuildDamaged, Forbidden, NotFound
from atolld.model.names import TemplateReference, parse_template_reference
from atolld.model.team import LOCAL_TEAM, LOCAL_TEAM_NAME, Team
from atolld.model.template import Build, Manifest, parse_manifest
from atolld.store import Store
from atolld.store.templates import TemplateRow


@dataclass(frozen=True, slots=True)
class Resolved:
    build: Build
    name: str | None
    """The name the template is known by; ``None`` for one without."""


class Templates:
    def __init__(self, store: Store, home: Path) -> None:
        self._store = store
        self._home = home
        self._builds: dict[str, tuple[int, Build]] = {}
        """By build id, with the time its manifest was written."""

    async def resolve(self, team: Team, text: str) -> Resolved:
        """Raises :class:`NotFound`, :class:`Forbidden`, :class:`BuildDamaged`, or ``InvalidRequest``."""
        reference = parse_template_reference(text)
        row = await self.find(team, reference)
        if row is None:
            raise NotFound(
                f'Template "{reference}" not found: `./atoll setup` makes base and code-interpreter-v1'
            )
        if row.build_id is None:
            raise NotFound(f'Template "{reference}" has no finished build with the tag "{reference.tag}"')
        return Resolved(await self._build(row.template_id, row.build_id), row.name)

    async def find(self, team: Team, reference: TemplateReference) -> TemplateRow | None:
        """The team's own template before a public one; raises :class:`Forbidden` for another team's."""
        rows = await self._store.templates.find(reference.name, tag=reference.tag, team_slug=reference.team)
        usable = [row for row in rows if row.team_id == team.team_id] + [row for row in rows if row.public]
        if rows and not usable:
            raise Forbidden(f'Template "{reference}" belongs to another team, which has not made it public')
        return usable[0] if usable else None

    async def ready(self) -> list[Build]:
        """The builds that sandboxes start from by default; damaged ones are left out."""
        rows = await self._store.templates.default_builds()
        found = await asyncio.gather(
            *(self._build(row.template_id, row.build_id) for row in rows), return_exceptions=True
        )
        return [build for build in found if isinstance(build, Build)]

    async def _build(self, template_id: str, build_id: str) -> Build:
        path = manifest_path(self._home, template_id, build_id)
        try:
            written = os.stat(path).st_mtime_ns
        except OSError:
            written = 0  # reading it tells what is wrong
        known, build = self._builds.get(build_id, (None, None))
        if build is None or known != written:
            build = await asyncio.to_thread(load_build, self._home, template_id, build_id)
            self._builds[build_id] = written, build
        return build


def manifest_path(home: Path, template_id: str, build_id: str) -> Path:
    """Of a template's build; of a snapshot of a sandbox when there is none."""
    built = home / "templates" / template_id / build_id / "manifest.json"
    taken = home / "snapshots" / build_id / "manifest.json"
    return taken if taken.is_file() and not built.is_file() else built


def load_build(home: Path, template_id: str, build_id: str) -> Build:
    """Reads the manifest; the files it vouches for are verified where they are restored.

    Raises :class:`BuildDamaged` when there is none that can be read.
    """
    path = manifest_path(home, template_id, build_id)
    try:
        manifest = parse_manifest(path.read_text())
    except (OSError, ValueError) as error:
        raise BuildDamaged(
            f"build {build_id} of template {template_id} cannot be read ({error}): "
            "`./atoll setup` makes it anew"
        ) from error
    return Build(manifest, path.parent, home / "roots" / manifest.root_image)


async def register_build(store: Store, manifest: Manifest) -> None:
    """Makes a finished build the one its template's name stands for; idempotent.

    The template is the local operator's, and public. Raises ``Conflict`` when the name is another template's.
    """
    now = datetime.now(UTC)
    team = await store.teams.ensure(LOCAL_TEAM, LOCAL_TEAM_NAME, now)
    await store.templates.register(
        team.team_id, manifest.template_id, manifest.name, manifest.build_id, public=True, now=now
    )
