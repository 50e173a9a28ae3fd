"""Takes a snapshot to another machine, and takes one in.

The daemon in a snapshot obeys the host that it was taken on, by a key that must not leave it. So a snapshot
is restored once before it is written out, in the workshop, without network, and told to obey a key made for
the parcel; whoever takes it in does the same the other way round. That the snapshot runs is thereby known
before anybody relies on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from atolld.builds.artefacts import Artefacts
from atolld.builds.builder import parse_features
from atolld.builds.files import replace_text, scratch, sync
from atolld.builds.keys import hash_file
from atolld.builds.parcel import Header, Source, read_end, read_file, read_header, write_parcel
from atolld.builds.tools import run_tool
from atolld.builds.workshop import load_host_key, open_workshop
from atolld.config import Config
from atolld.model.errors import InvalidRequest
from atolld.model.sandbox import Identity, new_sandbox_id
from atolld.model.template import Build, Manifest, StoredFile, encode_manifest
from atolld.node import GuestClient, Node, StartSpec, check_free_space, list_used_images

OpenNodeFor = Callable[[Config, GuestClient], AbstractAsyncContextManager[Node]]
"""Opens a node whose sandboxes' daemons obey that client."""


class Transfer:
    def __init__(self, config: Config, open_node: OpenNodeFor) -> None:
        self._config = config
        self._open_node = open_node
        self._own_key = load_host_key(config.home / "host-key")

    async def send(self, build: Build, name: str, out: IO[bytes], *, with_root: bool) -> None:
        """Writes ``build`` to ``out``. Raises what a start of it raises, and :class:`HostError`."""
        key = Ed25519PrivateKey.generate()
        with scratch(self._config.home) as directory:
            moved = await self._hand_over(build, self._own_key, key, directory / "snapshot")
            files = {name: moved.snapshot_path / name for name in moved.manifest.snapshot}
            header = Header(moved.manifest, name, key.private_bytes_raw(), with_root)
            await asyncio.to_thread(write_parcel, out, header, files, moved.root_path)

    async def receive(
        self, source: Source, snapshot_id: str, template_id: str, name: str | None
    ) -> tuple[Build, str]:
        """Makes the snapshot ``snapshot_id`` of ``template_id`` out of what ``source`` holds; and the name it
        has, ``name`` where that is given.

        Raises :class:`InvalidRequest` when it is nothing that this machine can run, ``CapacityUnavailable``
        when it is too large for its disk, and what a start raises; nothing of it is left then.
        """
        header = await asyncio.to_thread(read_header, source)
        called = name or header.name
        await self._check_machine(header.manifest)
        await asyncio.to_thread(self._check_room, header)
        with scratch(self._config.home) as directory:
            root, is_new = await asyncio.to_thread(self._read_all, source, header, directory)
            try:
                build = self._describe(header, directory, root, snapshot_id, template_id, called)
                key = Ed25519PrivateKey.from_private_bytes(header.host_key)
                moved = await self._hand_over(build, key, self._own_key, directory / "moved/snapshot")
                return await asyncio.to_thread(self._keep, moved, snapshot_id), called
            except BaseException:
                if is_new:
                    shutil.rmtree(root.parent, ignore_errors=True)
                raise

    def _describe(
        self, header: Header, directory: Path, root: Path, snapshot_id: str, template_id: str, called: str
    ) -> Build:
        manifest = replace(
            header.manifest,
            build_id=snapshot_id,
            template_id=template_id,
            name=called.partition(":")[0] or template_id,
            root_image=str(root.relative_to(self._config.home / "roots")),
        )
        return Build(manifest, directory, root)

    def undo(self, build: Build) -> None:
        """Of :meth:`receive`."""
        shutil.rmtree(build.directory, ignore_errors=True)
        used = list_used_images(self._config.home)
        if build.root_path.parent != self._config.home / "roots" and build.manifest.root_image not in used:
            shutil.rmtree(build.root_path.parent, ignore_errors=True)

    async def _hand_over(
        self, build: Build, obeyed: Ed25519PrivateKey, to: Ed25519PrivateKey, directory: Path
    ) -> Build:
        """A copy of ``build`` in ``directory`` whose daemon obeys ``to``."""
        await asyncio.to_thread(directory.mkdir, 0o700, parents=True)
        sandbox_id = new_sandbox_id()
        manifest = build.manifest
        identity = Identity(sandbox_id, manifest.template_id, manifest.build_id, "")
        spec = StartSpec(identity, manifest.resources, build, allow_internet=False, may_claim=False)
        new_key = GuestClient(to).public_key
        with open_workshop(self._config) as config:
            self._lend_hashes(config)
            async with self._open_node(config, GuestClient(obeyed)) as node:
                await node.start(spec)
                try:
                    await node.hand_over(sandbox_id, new_key)
                    await node.snapshot(sandbox_id, directory)
                finally:
                    await node.stop(sandbox_id)
        vouched = await asyncio.to_thread(_vouch, directory)
        moved = replace(manifest, host_key=new_key, snapshot=vouched, bases=())
        return Build(moved, directory.parent, build.root_path)

    def _lend_hashes(self, workshop: Config) -> None:
        """What the server has hashed need not be hashed again; it knows by its times whether it changed."""
        (workshop.home / "run").mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(self._config.home / "run/verified.json", workshop.home / "run/verified.json")

    async def _check_machine(self, manifest: Manifest) -> None:
        runsc = Artefacts(self._config.home).runsc
        features = parse_features(await run_tool([runsc, "cpu-features"], report=lambda _: None))
        why = ""
        if manifest.runsc_sha256 != await asyncio.to_thread(hash_file, runsc):
            why = f"it was taken with another runsc ({manifest.runsc_sha256[:16]}) than the one in use here"
        elif manifest.fingerprint != GuestClient(self._own_key).snapshot_fingerprint:
            why = "it was taken by another version of Atoll, which makes its sandboxes differently"
        if why:
            raise InvalidRequest(
                f"the snapshot cannot run here: {why}; use the same version on both machines"
            )
        if missing := sorted(set(manifest.cpu_features) - set(features)):
            raise InvalidRequest(
                f"the snapshot cannot run here: it needs CPU features this machine lacks "
                f"({', '.join(missing)}); use a machine that has them"
            )

    def _check_room(self, header: Header) -> None:
        needed = 2 * sum(stored.size for stored in header.manifest.snapshot.values())
        if header.with_root and self._find_root(header.manifest) is None:
            needed += header.manifest.root.size
        check_free_space(self._config.home, (needed >> 20) + 1, "the import")

    def _read_all(self, source: Source, header: Header, directory: Path) -> tuple[Path, bool]:
        """Every file to where it belongs; the root image, and whether it was not here before."""
        files = directory / "snapshot"
        files.mkdir()
        for name, stored in sorted(header.manifest.snapshot.items()):
            read_file(source, stored.size, stored.sha256, files / name)
        root = self._find_root(header.manifest)
        if header.with_root:
            made = directory / Path(header.manifest.root_image).name
            read_file(source, header.manifest.root.size, header.manifest.root.sha256, made)
            read_end(source)
            return (root, False) if root else (self._keep_root(header.manifest, made), True)
        read_end(source)
        if root is None:
            raise InvalidRequest(
                f"the snapshot stands on the root image {header.manifest.root_image}, which this machine "
                "does not have, or not the same: export it with --with-root"
            )
        return root, False

    def _find_root(self, manifest: Manifest) -> Path | None:
        """The same contents under the same name, which a snapshot has in it."""
        name = Path(manifest.root_image).name
        for path in (self._config.home / "roots" / name, self._own_place(manifest)):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_size == manifest.root.size and hash_file(path) == manifest.root.sha256:
                    return path
        return None

    def _keep_root(self, manifest: Manifest, made: Path) -> Path:
        """In a folder of its own: here, an image of that name may be another one."""
        place = self._own_place(manifest)
        place.parent.mkdir(parents=True, exist_ok=True)
        sync(made)
        made.rename(place)
        sync(place.parent)
        return place

    def _own_place(self, manifest: Manifest) -> Path:
        folder = f"imported-{manifest.root.sha256[:16]}"
        return self._config.home / "roots" / folder / Path(manifest.root_image).name

    def _keep(self, moved: Build, snapshot_id: str) -> Build:
        manifest = replace(moved.manifest, created_at=datetime.now(UTC).isoformat())
        replace_text(moved.directory / "manifest.json", encode_manifest(manifest))
        final = self._config.home / "snapshots" / snapshot_id
        final.parent.mkdir(exist_ok=True, mode=0o700)
        moved.directory.rename(final)
        sync(final.parent)
        return Build(manifest, final, moved.root_path)


def _vouch(directory: Path) -> dict[str, StoredFile]:
    return {path.name: StoredFile(path.stat().st_size, hash_file(path)) for path in directory.iterdir()}
