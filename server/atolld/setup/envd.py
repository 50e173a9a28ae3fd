"""The guest daemon, built from the clone and kept under the hash of its sources."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from atolld.builds.artefacts import Artefacts
from atolld.builds.keys import key_of_files
from atolld.builds.sources import Clone
from atolld.builds.tools import Report, run_tool
from atolld.setup.toolchain import Toolchain


@dataclass(frozen=True, slots=True)
class Envd:
    artefacts: Artefacts
    clone: Clone
    toolchain: Toolchain

    def key(self) -> str:
        return key_of_files(self.clone.envd, self.clone.envd_files())

    def path(self) -> Path:
        """Where the daemon of this clone lies once it is built."""
        return self.artefacts.path("envd", self.key())

    def is_done(self) -> bool:
        return self.path().is_file() and self.artefacts.current_key("envd") == self.key()

    async def run(self, report: Report) -> None:
        key = self.key()
        if not self.path().is_file():
            go = await self.toolchain.ensure(report)
            with tempfile.TemporaryDirectory(dir=self.artefacts.home) as directory:
                made = Path(directory, "envd")
                command = [go, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", made, "."]
                env = self.toolchain.environment() | {"CGO_ENABLED": "0"}
                await run_tool(command, report=report, env=env, cwd=self.clone.envd)
                self.artefacts.keep("envd", key, made)
        self.artefacts.use("envd", key)
