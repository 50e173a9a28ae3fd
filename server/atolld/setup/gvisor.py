"""The pinned gVisor with our changes: a copy of its module, patched, its seccomp filters compiled ahead.

`gvisor/` of the clone holds the patches and the filters, with a README that says what each is for.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from atolld.builds.keys import key_of, key_of_files
from atolld.builds.sources import Clone
from atolld.builds.tools import Report, run_tool
from atolld.model.errors import HostError
from atolld.setup.patches import PatchError, apply_series
from atolld.setup.toolchain import Toolchain

MODULE = "gvisor.dev/gvisor"
VERSION = "v0.0.0-20260905035102-160fafc42237"
SUM = "h1:AU5+CtCvnBnxdZRNcZt1NfSLqgkXZVT3N/u6u1aXg44="
"""What ``go.sum`` would say of it: the hash of every file of the module."""

FILTERS = "runsc/boot/filter/filter_precompiled.go"
"""In the module; there without any filter in it."""

_LEVEL_LENGTH = 8
_LEVEL = re.compile(r"\+atoll\.([0-9a-f]+)")
_FILTERS_KEY = re.compile(r"(?m)^// For (.+)\.$")


@dataclass(frozen=True, slots=True)
class Gvisor:
    """Our changes, as they lie in a clone."""

    clone: Clone

    @property
    def patches(self) -> Path:
        return self.clone.root / "gvisor/patches"

    @property
    def filters(self) -> Path:
        """Generated; `tools/gvisor_filters.py` makes and checks it."""
        return self.clone.root / "gvisor/filter_precompiled.go"

    @property
    def level(self) -> str:
        """Names all of our changes: 8 hex digits that change with any of them."""
        files = [*self.patches.glob("*.patch"), self.filters]
        return key_of(VERSION, key_of_files(self.clone.root, files))[:_LEVEL_LENGTH]

    @property
    def version(self) -> str:
        """What our runsc answers to ``--version``."""
        return f"{VERSION}+atoll.{self.level}"

    def filters_key(self, go_version: tuple[int, int]) -> str:
        """What the filters depend on: gVisor, the patches, the compiler's version."""
        patches = key_of_files(self.patches, self.patches.glob("*.patch"))
        return f"gVisor {VERSION}, patches {patches}, go{go_version[0]}.{go_version[1]}"

    def recorded_filters_key(self) -> str:
        """What the generated file says that it was made for."""
        match = _FILTERS_KEY.search(self.filters.read_text())
        return match[1] if match else ""

    async def fetch(self, toolchain: Toolchain, directory: Path, report: Report) -> Path:
        """The pinned module as it is published, in Go's cache. Raises :class:`HostError` if it is another."""
        go = await toolchain.ensure(report)
        command = [go, "mod", "download", "-json", f"{MODULE}@{VERSION}"]
        printed = await run_tool(command, report=report, env=toolchain.environment(), cwd=directory)
        found = json.loads(printed[printed.index("{") : printed.rindex("}") + 1])
        if found.get("Sum") != SUM:
            raise HostError(
                f"{MODULE}@{VERSION} has the hash {found.get('Sum')} instead of {SUM}: what the module proxy"
                " gave is not gVisor as it was published. Set GOPROXY to one that you trust and try again"
            )
        return Path(found["Dir"])

    def prepare(self, module: Path, tree: Path) -> None:
        """Copies the module to ``tree`` and makes our changes there. Raises :class:`HostError`."""
        shutil.copytree(module, tree, copy_function=shutil.copyfile)
        try:
            apply_series(self.patches, tree)
        except PatchError as error:
            raise HostError(f"our patches do not fit gVisor {VERSION}: {error}") from error
        shutil.copyfile(self.filters, tree / FILTERS)

    async def build(self, toolchain: Toolchain, directory: Path, report: Report) -> Path:
        """Our runsc, made in the empty ``directory``. Raises :class:`HostError`."""
        module = await self.fetch(toolchain, directory, report)
        tree = directory / "gvisor"
        self.prepare(module, tree)
        made = directory / "runsc"
        go = await toolchain.ensure(report)
        # The roots are the longer way to the first sandbox: where processors are few, they go first.
        command = ["nice", "-n", "10", go, "build", "-trimpath", "-buildvcs=false"]
        command += [f"-ldflags=-X {MODULE}/runsc/version.version={self.version}", "-o", made, "./runsc"]
        env = toolchain.environment() | {"CGO_ENABLED": "0"}
        await run_tool(command, report=report, env=env, cwd=tree)
        return made


def parse_level(version_text: str) -> str:
    """``runsc version v…+atoll.1a2b3c4d`` → ``1a2b3c4d``; empty for a runsc without our changes."""
    match = _LEVEL.search(version_text)
    return match[1] if match else ""
