#!/usr/bin/env python3
"""Tries our patches on another version of gVisor: what fits, what does not and why, whether it builds.

    .venv/bin/python tools/gvisor_move.py v0.0.0-20261001000000-0123456789ab
    .venv/bin/python tools/gvisor_move.py go            the newest commit of gVisor's branch for Go

Leaves the tree with one commit a patch, and what was rejected in FILE.rej.NUMBER, in a directory it names;
when all is mended there, `git format-patch`-like diffs of the commits are the new series. Needs git.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from gvisor_filters import open_toolchain

from atolld.builds.sources import Clone
from atolld.builds.tools import run_tool
from atolld.model.errors import HostError
from atolld.setup.gvisor import MODULE, Gvisor

_GIT = ("git", "-c", "user.name=atoll", "-c", "user.email=atoll@localhost")


async def move(version: str) -> int:
    toolchain, gvisor = open_toolchain(), Gvisor(Clone())
    directory = Path(tempfile.mkdtemp(prefix="gvisor-move-"))
    go, env = await toolchain.ensure(print), toolchain.environment() | {"CGO_ENABLED": "0"}
    command = [go, "mod", "download", "-json", f"{MODULE}@{version}"]
    printed = await run_tool(command, report=lambda line: None, env=env, cwd=directory)
    found = json.loads(printed[printed.index("{") : printed.rindex("}") + 1])
    tree = directory / "gvisor"
    shutil.copytree(found["Dir"], tree, copy_function=shutil.copyfile)
    print(f'VERSION = "{found["Version"]}"\nSUM = "{found["Sum"]}"\nThe tree is {tree}')
    _git(tree, "init", "--quiet")
    _commit(tree, "as published")
    broken = [patch.name for patch in sorted(gvisor.patches.glob("*.patch")) if not _try(tree, patch)]
    print("builds:" if not broken else f"rejected in part: {', '.join(broken)}; what builds of it:")
    try:
        build = [go, "build", "-trimpath", "-buildvcs=false", "-o", directory / "runsc", "./runsc"]
        await run_tool(build, report=print, env=env, cwd=tree)
    except HostError as error:
        print(error)
        return 1
    print(f"yes: {directory / 'runsc'}")
    return 1 if broken else 0


def _try(tree: Path, patch: Path) -> bool:
    done = _git(tree, "apply", "--reject", "--recount", "--whitespace=nowarn", str(patch))
    rejected = sorted(tree.rglob("*.rej"))
    print(f"{patch.name}: {'fits' if done.returncode == 0 else 'does not fit'}")
    for path in rejected:
        print(f"  {path.relative_to(tree)}\n{path.read_text()}")
        path.rename(f"{path}.{patch.name[:4]}")
    if done.returncode != 0 and not rejected:
        print(done.stderr)
    _commit(tree, patch.stem)
    return done.returncode == 0


def _commit(tree: Path, what: str) -> None:
    _git(tree, "add", "--all", "--", ".", ":!*.rej")
    _git(tree, "commit", "--quiet", "--allow-empty", "--message", what)


def _git(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*_GIT, *arguments], cwd=tree, capture_output=True, text=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        sys.exit(asyncio.run(move(sys.argv[1])))
    except HostError as error:
        sys.exit(str(error))
