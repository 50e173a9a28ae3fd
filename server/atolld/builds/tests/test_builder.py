from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from atolld.builds.artefacts import Artefacts
from atolld.builds.builder import Builder, parse_features
from atolld.builds.keys import hash_file
from atolld.builds.roots import Root
from atolld.builds.templates import TEMPLATES
from atolld.config import Config
from atolld.model.errors import HostError
from atolld.model.template import StoredFile
from atolld.node import Node
from atolld.node.doubles import FakeMachine

CODE = TEMPLATES["code-interpreter-v1"]


def ignore(line: str) -> None:
    pass


class Site:
    """A state directory with a runsc and a root image, and a node of doubles."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.machine: FakeMachine | None = None
        self.failing: str | None = None
        self.put_runsc("1111")
        image = home / "roots/code-interpreter-v1-0.erofs"
        image.parent.mkdir()
        image.write_bytes(bytes(1024) + b"\xe2\xe1\xf5\xe0")
        self.root = Root(CODE.root.name, "0", image, StoredFile(image.stat().st_size, "cafe"))

    def put_runsc(self, mark: str) -> None:
        made = self.home / "made"
        made.write_text(f"#!/bin/sh\n# {mark}\necho sse2,avx\n")
        made.chmod(0o755)
        artefacts = Artefacts(self.home)
        key = hash_file(made)[:16]
        artefacts.keep("runsc", key, made)
        artefacts.use("runsc", key)

    def builder(self) -> Builder:
        return Builder(Config(home=self.home), Artefacts(self.home), {"PIP_CERT": "/ca"}, self.open_node)

    @asynccontextmanager
    async def open_node(self, config: Config) -> AsyncGenerator[Node]:
        self.machine = FakeMachine(config.home)
        if self.failing:
            self.machine.runtime.fail[self.failing] = 1
        await self.machine.node.open()
        try:
            yield self.machine.node
        finally:
            await self.machine.node.close()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def test_a_build_runs_its_start_command_and_is_found_afterwards(site: Site):
    manifest = await site.builder().build(CODE, site.root, ignore)
    assert site.builder().find(CODE, site.root) == manifest
    assert manifest.start_command == CODE.start_command
    assert manifest.envs["PIP_CERT"] == "/ca"
    assert manifest.envs["PATH"].startswith("/opt/python/bin:")
    assert manifest.cpu_features == ("avx", "sse2")
    assert {"checkpoint.img", "pages_meta.img", "pages.img"} <= set(manifest.snapshot)


@pytest.mark.parametrize("verb", ["create", "start", "checkpoint"])
async def test_a_failure_leaves_no_build_and_no_sandbox(site: Site, verb: str):
    site.failing = verb
    with pytest.raises(HostError):
        await site.builder().build(CODE, site.root, ignore)
    assert not list((site.home / "templates").glob("*/*"))
    assert not (site.home / "run/build").exists()
    assert site.machine is not None
    assert not site.machine.slots.leased


async def test_another_runsc_wants_a_new_build_of_the_same_root(site: Site):
    await site.builder().build(CODE, site.root, ignore)
    site.put_runsc("2222")
    assert site.builder().find(CODE, site.root) is None


CHANGES: list[Callable[[Root], Root]] = [
    lambda root: dataclasses.replace(root, file=StoredFile(root.file.size, "beef")),
    lambda root: dataclasses.replace(root, path=root.path.with_name("other.erofs")),
]


@pytest.mark.parametrize("change", CHANGES)
async def test_another_root_wants_a_new_build(site: Site, change: Callable[[Root], Root]):
    await site.builder().build(CODE, site.root, ignore)
    assert site.builder().find(CODE, change(site.root)) is None


async def test_another_start_command_wants_a_new_build(site: Site):
    await site.builder().build(CODE, site.root, ignore)
    changed = dataclasses.replace(CODE, start_command="sleep 1")
    assert site.builder().find(changed, site.root) is None


async def test_another_host_key_wants_a_new_build(site: Site):
    await site.builder().build(CODE, site.root, ignore)
    (site.home / "host-key").write_bytes(bytes(32))
    assert site.builder().find(CODE, site.root) is None


async def test_a_damaged_build_does_not_count(site: Site):
    manifest = await site.builder().build(CODE, site.root, ignore)
    directory = site.home / "templates" / CODE.template_id / manifest.build_id
    (directory / "snapshot/pages.img").write_bytes(b"")
    assert site.builder().find(CODE, site.root) is None


async def test_the_last_build_but_one_is_kept_and_older_ones_go(site: Site):
    built = [await site.builder().build(CODE, site.root, ignore) for _ in range(3)]
    kept = {path.name for path in (site.home / "templates" / CODE.template_id).iterdir()}
    assert kept == {manifest.build_id for manifest in built[1:]}
    assert site.builder().used_images() == {site.root.path.name}


def test_cpu_features_are_words_between_commas():
    assert parse_features("sse2,avx\n") == ("avx", "sse2")
