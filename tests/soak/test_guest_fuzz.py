"""The daemon's parsers against Go's fuzzer, `ATOLL_FUZZ_SECONDS` (60) each, side by side."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ENVD = Path(__file__).parents[2] / "guest" / "envd"
SECONDS = int(os.environ.get("ATOLL_FUZZ_SECONDS", "60"))
TARGETS = {
    "FuzzEnvelope": "./internal/connectrpc",
    "FuzzUnpack": "./internal/directories",
    "FuzzMultipart": "./internal/files",
    "FuzzResolve": "./internal/paths",
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SECONDS + 300)]


def test_no_input_breaks_a_parser() -> None:
    go = shutil.which("go") or "/usr/local/go/bin/go"
    running = {
        target: subprocess.Popen(
            [go, "test", "-run=^$", f"-fuzz=^{target}$", f"-fuzztime={SECONDS}s", "-parallel=1", package],
            cwd=ENVD,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for target, package in TARGETS.items()
    }
    said = {target: process.communicate()[0] for target, process in running.items()}
    broken = {target: said[target] for target, process in running.items() if process.returncode != 0}
    assert broken == {}, "\n".join(broken.values())
