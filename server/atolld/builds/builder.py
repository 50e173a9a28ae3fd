"""Builds a template: boots its root, runs its start command until it is ready, and keeps the snapshot.

A build is a directory ``templates/<template_id>/<build_id>/``. It is made under another name and renamed when
its manifest, written last, vouches for every file in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from atolld.builds.artefacts import Artefacts
from atolld.builds.files import replace_text, sync, unfinished
from atolld.builds.keys import hash_file
from atolld.builds.roots import Root
from atolld.builds.templates import TEMPLATES, TemplateRecipe
from atolld.builds.tools import Report, run_tool
from atolld.builds.workshop import load_host_key, open_workshop
from atolld.config import Config
from atolld.model.sandbox import new_sandbox_id
from atolld.model.template import Manifest, StoredFile, encode_manifest, parse_manifest
from atolld.node import GuestClient, Node, list_used_images

OpenNode = Callable[[Config], AbstractAsyncContextManager[Node]]
"""Opens a node of this machine for the time of a build."""

ENVD_VERSION = "0.6.13"
_USER = "user"
_HOME = "/home/user"
_READY_WITHIN = 300.0


class Builder:
    """Builds for one state directory. ``envs`` are the variables every sandbox starts with."""

    def __init__(
        self, config: Config, artefacts: Artefacts, envs: Mapping[str, str], open_node: OpenNode
    ) -> None:
        self._config = config
        self._artefacts = artefacts
        self._envs = envs
        self._open_node = open_node
        # There is one workshop.
        self._building = asyncio.Lock()

    def find(self, template: TemplateRecipe, root: Root | None) -> Manifest | None:
        """The newest build of ``template`` on ``root`` that the runsc in use can restore, if any."""
        runsc = self._artefacts.current_key("runsc")
        if root is None or runsc is None:
            return None
        fitting = [
            manifest
            for manifest in self._builds(template)
            if manifest.root == root.file
            and manifest.root_image == root.path.name
            and manifest.runsc_sha256.startswith(runsc.rpartition("-")[2])  # its level comes before
            and self._described(manifest) == self._wanted(template)
        ]
        return max(fitting, key=lambda manifest: manifest.created_at, default=None)

    async def build(self, template: TemplateRecipe, root: Root, report: Report) -> Manifest:
        """Raises ``HostError`` or ``GuestUnresponsive``; nothing of the sandbox or the build is left then."""
        build_id = str(uuid.uuid4())
        directory = self._directory(template) / build_id
        with unfinished(directory) as work:
            snapshot = work / "snapshot"
            snapshot.mkdir()
            await self._run_template(template, root, snapshot, report)
            manifest = await self._describe(template, build_id, root, snapshot, report)
            replace_text(work / "manifest.json", encode_manifest(manifest))
            work.rename(directory)
            sync(directory.parent)
        self._remove_superseded(template, manifest)
        return manifest

    def used_images(self) -> set[str]:
        """The root images that builds, sandboxes and their snapshots stand on, by file name."""
        built = {m.root_image for template in TEMPLATES.values() for m in self._builds(template)}
        return built | list_used_images(self._config.home)

    def forget(self, template: TemplateRecipe) -> None:
        """Removes the template's builds; sandboxes that run of them go on."""
        shutil.rmtree(self._directory(template), ignore_errors=True)

    # -- one build ------------------------------------------------------------------------------------------

    async def _run_template(
        self, template: TemplateRecipe, root: Root, snapshot: Path, report: Report
    ) -> None:
        async with self._building:
            with open_workshop(self._config) as config:
                async with self._open_node(config) as node:
                    await self._take_snapshot(node, template, root, snapshot, report)

    async def _take_snapshot(
        self, node: Node, template: TemplateRecipe, root: Root, directory: Path, report: Report
    ) -> None:
        sandbox_id = new_sandbox_id()
        envs = {"PATH": template.path}
        started = await node.boot(
            root_path=root.path, resources=template.resources, envs=envs, sandbox_id=sandbox_id
        )
        try:
            report(f"booted in {sum(started.timings_ms.values()):.0f} ms")
            await node.start_up(sandbox_id, self._wanted(template), _READY_WITHIN, report)
            await node.snapshot(sandbox_id, directory)
        finally:
            await node.stop(sandbox_id)

    async def _describe(
        self, template: TemplateRecipe, build_id: str, root: Root, snapshot: Path, report: Report
    ) -> Manifest:
        runsc = self._artefacts.runsc
        features = await run_tool([runsc, "cpu-features"], report=report)
        return replace(
            self._wanted(template),
            build_id=build_id,
            created_at=datetime.now(UTC).isoformat(),
            root_image=root.path.name,
            root=root.file,
            snapshot=await asyncio.to_thread(_vouch_all, snapshot),
            runsc_sha256=await asyncio.to_thread(hash_file, runsc),
            runsc_patch_level=self._artefacts.runsc_patch_level,
            cpu_features=parse_features(features),
        )

    def _wanted(self, template: TemplateRecipe) -> Manifest:
        """The manifest of a build of ``template``, without what only a build knows."""
        guest = GuestClient(load_host_key(self._config.home / "host-key"))
        return Manifest(
            template_id=template.template_id,
            build_id="",
            name=template.name,
            created_at="",
            resources=template.resources,
            root_image="",
            root=StoredFile(0, ""),
            snapshot={},
            runsc_sha256="",
            cpu_features=(),
            envd_version=ENVD_VERSION,
            default_user=_USER,
            workdir=_HOME,
            envs=self._variables(template),
            start_command=template.start_command,
            ready_command=template.ready_command,
            warmup=template.warmup,
            fingerprint=guest.snapshot_fingerprint,
            host_key=guest.public_key,
        )

    def _described(self, manifest: Manifest) -> Manifest:
        """What of ``manifest`` its recipe decides; the rest as :meth:`_wanted` has it."""
        nothing = StoredFile(0, "")
        return replace(
            manifest,
            build_id="",
            created_at="",
            root_image="",
            root=nothing,
            snapshot={},
            runsc_sha256="",
            runsc_patch_level="",
            cpu_features=(),
        )

    def _variables(self, template: TemplateRecipe) -> dict[str, str]:
        return {**self._envs, "PATH": template.path}

    # -- all builds -----------------------------------------------------------------------------------------

    def _directory(self, template: TemplateRecipe) -> Path:
        return self._config.home / "templates" / template.template_id

    def _builds(self, template: TemplateRecipe) -> Iterator[Manifest]:
        for path in self._directory(template).glob("*/manifest.json"):
            with contextlib.suppress(OSError, ValueError):
                manifest = parse_manifest(path.read_text())
                files = ((path.parent / "snapshot" / name, kept) for name, kept in manifest.snapshot.items())
                if all(file.stat().st_size == kept.size for file, kept in files):
                    yield manifest

    def _remove_superseded(self, template: TemplateRecipe, current: Manifest) -> None:
        """Keeps the newest build but one: a server that runs may be about to restore it."""
        others = sorted(
            (manifest for manifest in self._builds(template) if manifest.build_id != current.build_id),
            key=lambda manifest: manifest.created_at,
        )
        for manifest in others[:-1]:
            shutil.rmtree(self._directory(template) / manifest.build_id, ignore_errors=True)


def parse_features(text: str) -> tuple[str, ...]:
    """``runsc cpu-features`` prints them on one line, a comma between two."""
    return tuple(sorted(filter(None, text.strip().split(","))))


def _vouch_all(directory: Path) -> dict[str, StoredFile]:
    return {path.name: StoredFile(path.stat().st_size, hash_file(path)) for path in directory.iterdir()}
