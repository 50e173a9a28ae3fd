"""The baseline of `./atoll bench create`: a bare ``runsc restore`` of a template's snapshot.

No slot, no pool, no limits, an empty network namespace, nobody inside is asked anything: only what runsc
itself needs, by its own command.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from atolld.config import Config
from atolld.control.templates import Templates
from atolld.daemon.parts import build_guest, runsc_binary
from atolld.model.errors import HostError
from atolld.model.team import LOCAL_TEAM, LOCAL_TEAM_NAME
from atolld.model.template import Build
from atolld.node.runtime.bundle import HOST_DIRECTORY, build_config, runsc_flags
from atolld.node.runtime.protocol import NO_LINK, ContainerSpec
from atolld.store import Store

_TIMEOUT = 60.0
_NAME = "bare"


@dataclass(frozen=True, slots=True)
class BareRestore:
    binary: Path
    build: Build
    args: tuple[str, ...]

    def run(self) -> float:
        """Milliseconds until the command says that the sandbox is restored."""
        with tempfile.TemporaryDirectory(prefix="atoll-bench-") as name:
            directory = Path(name)
            flags = runsc_flags(str(directory / "runsc"), self._prepare(directory))
            restore = ["--detach", "--background", f"--image-path={self.build.snapshot_path}"]
            try:
                begin = time.perf_counter()
                self._runsc(directory, *flags, "restore", f"--bundle={directory}", *restore, _NAME)
                return (time.perf_counter() - begin) * 1000
            finally:
                self._runsc(directory, *flags, "delete", "--force", _NAME)

    def _prepare(self, directory: Path) -> ContainerSpec:
        spec = ContainerSpec(
            name=_NAME,
            directory=directory,
            root_image=self.build.root_path.resolve(),
            resources=self.build.manifest.resources,
            link=NO_LINK,
            cgroup_path="",
            args=self.args,
        )
        config = json.loads(json.dumps(build_config(spec)))
        config["linux"]["namespaces"] = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")]
        del config["linux"]["cgroupsPath"], config["linux"]["resources"]
        (directory / HOST_DIRECTORY).mkdir()
        (directory / "config.json").write_text(json.dumps(config))
        return spec

    def _runsc(self, directory: Path, *arguments: str) -> None:
        log = directory / "command.log"
        with log.open("ab") as output:
            done = subprocess.run(
                [self.binary, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.build.root_path.parent,
                timeout=_TIMEOUT,
                check=False,
            )
        if done.returncode != 0:
            raise HostError(f"runsc failed ({done.returncode}): {log.read_text()[-1000:].strip()}")


async def _find(config: Config, template: str) -> Build:
    store = await Store.open(config.home / "atoll.db")
    try:
        team = await store.teams.ensure(LOCAL_TEAM, LOCAL_TEAM_NAME, datetime.now(UTC))
        return (await Templates(store, config.home).resolve(team, template)).build
    finally:
        await store.close()


def bench_restore(config: Config, template: str, n: int) -> Sequence[float]:
    """Raises ``HostError`` when runsc cannot restore it, ``NotFound`` for an unknown template."""
    build = asyncio.run(_find(config, template))
    bare = BareRestore(runsc_binary(config).resolve(), build, build_guest(config).command)
    return [bare.run() for _ in range(n)]
