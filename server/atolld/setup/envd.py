"""The guest daemon, built from the clone and kept under the hash of its sources."""

from __future__ import annotations

from pathlib import Path

from atolld.builds.artefacts import Artefacts
from atolld.builds.files import scratch
from atolld.builds.keys import key_of_files
from atolld.builds.sources import Clone
from atolld.builds.tools import Report, run_tool
from atolld.model.errors import HostError
from atolld.setup.toolchain import Toolchain


class Envd:
    def __init__(self, artefacts: Artefacts, clone: Clone, toolchain: Toolchain) -> None:
        self._artefacts = artefacts
        self._clone = clone
        self._toolchain = toolchain
        # Once, so that all steps of one set-up speak of the same daemon.
        self._key = self._sources_key()

    @property
    def path(self) -> Path:
        """Where the daemon of this clone lies once it is built."""
        return self._artefacts.path("envd", self._key)

    def is_done(self) -> bool:
        return self.path.is_file() and self._artefacts.current_key("envd") == self._key

    async def run(self, report: Report) -> None:
        if not self.path.is_file():
            with scratch(self._artefacts.home) as directory:
                self._artefacts.keep("envd", self._key, await self._build(directory, report))
        self._artefacts.use("envd", self._key)

    async def _build(self, directory: Path, report: Report) -> Path:
        go = await self._toolchain.ensure(report)
        made = directory / "envd"
        command = [go, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", made, "."]
        env = self._toolchain.environment() | {"CGO_ENABLED": "0"}
        await run_tool(command, report=report, env=env, cwd=self._clone.envd)
        if self._sources_key() != self._key:
            raise HostError(f"{self._clone.envd} was changed while it was built: run the same again")
        return made

    def _sources_key(self) -> str:
        return key_of_files(self._clone.envd, self._clone.envd_files())
