"""Parts of the Python environment that the first command does not need: extras of pyproject.toml."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from atolld.builds.registries import Registries
from atolld.builds.sources import Clone
from atolld.builds.tools import Report, run_tool


@dataclass(frozen=True, slots=True)
class Extra:
    """``program`` is what the extra brings into the environment's ``bin``."""

    name: str
    program: str
    clone: Clone
    uv: Path
    environ: Mapping[str, str]
    registries: Registries

    def is_done(self) -> bool:
        return Path(sys.executable).with_name(self.program).exists()

    async def run(self, report: Report) -> None:
        install = [self.uv, "pip", "install", "--python", sys.executable, "--require-hashes"]
        locked = ["-r", self.clone.root / "pyproject.toml", "-c", self.clone.lock, "--extra", self.name]
        env = self.registries.installer_environment(self.environ)
        await run_tool([*install, *locked], report=report, env=env)
