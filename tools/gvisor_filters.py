#!/usr/bin/env python3
"""Makes gvisor/filter_precompiled.go anew, or checks that it is what the generator gives.

    .venv/bin/python tools/gvisor_filters.py            after a change of the patches or of gVisor's version
    .venv/bin/python tools/gvisor_filters.py --check    exit code 1 when the file is another; a minute or two

Compiling the filters takes 16 ms of every start of a sandbox, so they are compiled ahead, as gVisor's own
releases do; making them takes a minute, which is why they are committed and not made by set-up.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "server"))

from atolld.builds.registries import read_registries
from atolld.builds.sources import Clone
from atolld.builds.tools import isolated, run_tool
from atolld.config import DEFAULT_HOME
from atolld.setup.gvisor import Gvisor
from atolld.setup.patches import apply_series
from atolld.setup.toolchain import Toolchain, find_uv, parse_go_version

_GENERATOR = "runsc/boot/filter/generate"


def open_toolchain() -> Toolchain:
    """The compiler that set-up uses."""
    home = Path(os.environ.get("ATOLL_HOME") or DEFAULT_HOME)
    return Toolchain(home, Clone(), find_uv(), os.environ, read_registries(os.environ))


async def generate() -> str:
    """The file's text. Raises :class:`~atolld.model.errors.HostError`."""
    gvisor, toolchain = Gvisor(Clone()), open_toolchain()
    go = await toolchain.ensure(print)
    key = gvisor.filters_key(parse_go_version(await run_tool([go, "version"], report=print)))
    with tempfile.TemporaryDirectory(prefix="gvisor-filters-") as directory:
        tree = Path(directory, "gvisor")
        shutil.copytree(
            await gvisor.fetch(toolchain, Path(directory), print), tree, copy_function=shutil.copyfile
        )
        apply_series(gvisor.patches, tree)
        (tree / _GENERATOR).mkdir()
        shutil.copyfile(gvisor.filters.with_name("precompile.go"), tree / _GENERATOR / "main.go")
        made = Path(directory, "generate")
        build = [go, "build", "-trimpath", "-buildvcs=false", "-o", made, f"./{_GENERATOR}"]
        await run_tool(build, report=print, env=toolchain.environment() | {"CGO_ENABLED": "0"}, cwd=tree)
        lines: list[str] = []
        # As process 1, which is what a sandbox is in its namespace: gVisor writes the number into a filter.
        printed = await run_tool(isolated([str(made)]), report=lines.append)
    head, newline, rest = printed.partition("\n")
    return f"{head}{newline}// For {key}.\n{rest}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Compile the seccomp filters of our runsc ahead.")
    parser.add_argument("--check", action="store_true", help="change nothing; fail when the file is another")
    arguments = parser.parse_args()
    path = Gvisor(Clone()).filters
    made = asyncio.run(generate())
    if not arguments.check:
        path.write_text(made)
        return 0
    if path.is_file() and path.read_text() == made:
        return 0
    print(f"{path} is not what the generator gives: run tools/gvisor_filters.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
