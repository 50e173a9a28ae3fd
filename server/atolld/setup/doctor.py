"""``atolld doctor [--json]``: checks what Atoll needs by doing it; exit code 1 when something is missing.

``--deep`` compares what is there instead: rows, files, processes, kernel objects, hashes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from atolld.builds.builder import OpenNode
from atolld.config import read_config
from atolld.model.errors import AtollError
from atolld.setup.checks.deep import examine_deep
from atolld.setup.checks.finding import Check, Finding, Patient, Verdict, fail
from atolld.setup.checks.kernel import KERNEL, check_root
from atolld.setup.checks.registry import REGISTRY
from atolld.setup.checks.resources import RESOURCES

CHECKS: Sequence[Check] = (*KERNEL, *RESOURCES, *REGISTRY)
_STYLES = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAILED: "red"}


def run(
    argv: Sequence[str],
    open_node: OpenNode,
    more: Sequence[Check] = (),
    environ: Mapping[str, str] = os.environ,
    is_serving: Callable[[Path], bool] = lambda home: False,
) -> int:
    """``more``: checks of rooms that this one does not know. ``is_serving``: whether a server of that state
    directory runs."""
    parser = argparse.ArgumentParser(
        "atoll doctor", description="Check this machine by doing what Atoll does."
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument("--deep", action="store_true", help="compare what is there: rows, files, processes")
    parser.add_argument("--no-hashes", action="store_true", help="with --deep: do not read every file")
    arguments = parser.parse_args(argv)
    try:
        config = read_config(environ)
        if arguments.deep:
            findings = asyncio.run(examine_deep(config, serving=is_serving, hashes=not arguments.no_hashes))
        else:
            findings = asyncio.run(examine(Patient(config, environ, open_node), (*CHECKS, *more)))
    except AtollError as error:
        print(f"atoll: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _tell(findings)
    return 1 if any(finding.verdict is Verdict.FAILED for finding in findings) else 0


async def examine(patient: Patient, checks: Sequence[Check]) -> list[Finding]:
    """Side by side, in the order of ``checks``; without root nothing else can be tried."""
    if (root := await check_root(patient)).verdict is not Verdict.OK:
        return [root]
    return list(await asyncio.gather(*(_examine(patient, check) for check in checks)))


async def _examine(patient: Patient, check: Check) -> Finding:
    try:
        return await check(patient)
    except OSError as error:
        name = check.__name__.removeprefix("check_").replace("_", " ")
        return fail(name, f"could not be checked ({error})", "mend that first, then ./atoll doctor")


def _tell(findings: Sequence[Finding]) -> None:
    console = Console(highlight=False, markup=False, soft_wrap=True)
    for finding in findings:
        console.print(f"{finding.verdict:<8}", style=_STYLES[finding.verdict], end=" ")
        console.print(f"{finding.name:<19}{finding.detail}")
        if finding.mend:
            console.print(f"{'':<28}→ {finding.mend}")
