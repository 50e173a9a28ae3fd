"""`test`: every check of the project, one after the other, with its time.

A failing step sets the exit code and the later ones still run: a contributor sees all that is wrong at once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from atoll.cli.failures import Failure
from atoll.cli.settings import read_settings

PROJECT = Path(__file__).resolve().parents[3]
MISSING_TOOL = 127


@dataclass(frozen=True, slots=True)
class Step:
    name: str
    command: Sequence[str]
    directory: Path = PROJECT


@dataclass(frozen=True, slots=True)
class Done:
    name: str
    exit_code: int
    seconds: float


def plan_steps(bin_directory: Path, quick: bool, pytest_arguments: Sequence[str]) -> list[Step]:
    """``bin_directory``: where the environment's tools are. ``quick``: what needs neither root nor runsc."""

    def tool(name: str) -> str:
        return str(bin_directory / name)

    envd = PROJECT / "guest" / "envd"
    selected = ["-m", "not machine"] if quick else []
    return [
        Step("ruff check", [tool("ruff"), "check"]),
        Step("ruff format", [tool("ruff"), "format", "--check"]),
        Step("pyright", [tool("pyright")]),
        Step("import rules", [tool("lint-imports")]),
        Step("go vet", ["go", "vet", "./..."], envd),
        Step("go test", ["go", "test", "./..."], envd),
        Step("pytest", [tool("pytest"), *selected, *pytest_arguments]),
    ]


def check(quick: bool, pytest_arguments: Sequence[str]) -> int:
    """The exit code of the first step that failed, 0 when none did."""
    if not (PROJECT / "pyproject.toml").is_file():
        raise Failure(
            "there is no project to test",
            why=f"{PROJECT} has no pyproject.toml",
            hint="run `./atoll test` in a clone of the repository",
        )
    environ = environment(os.environ, read_settings().home)
    bin_directory = Path(sys.executable).parent
    done = [_run(step, environ) for step in plan_steps(bin_directory, quick, pytest_arguments)]
    _summarise(done)
    return next((step.exit_code for step in done if step.exit_code != 0), 0)


def environment(environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """Ours, with the environment's tools first, then the Go that set-up fetched, if any."""
    fetched = sorted(home.glob("bin/go-*/bin"), key=lambda directory: directory.stat().st_mtime, reverse=True)
    places = [Path(sys.executable).parent, *fetched, environ.get("PATH", os.defpath), "/usr/local/go/bin"]
    return {**environ, "PATH": os.pathsep.join(map(str, places))}


def _run(step: Step, environ: Mapping[str, str]) -> Done:
    print(f"── {step.name}", flush=True)
    begin = time.monotonic()
    program = shutil.which(step.command[0], path=environ["PATH"])
    if program is None:
        print(f"{step.command[0]} is not installed: `./atoll setup --all` installs what the tests need")
        code = MISSING_TOOL
    else:
        code = subprocess.run(
            [program, *step.command[1:]], cwd=step.directory, env=environ, check=False
        ).returncode
    seconds = time.monotonic() - begin
    print(
        f"── {step.name}: {'ok' if code == 0 else f'failed (exit code {code})'}, {seconds:.1f} s", flush=True
    )
    return Done(step.name, code, seconds)


def _summarise(done: Sequence[Done]) -> None:
    print()
    for step in done:
        print(f"{'ok' if step.exit_code == 0 else 'FAILED':<8}{step.name:<16}{step.seconds:>8.1f} s")
    failed = [step.name for step in done if step.exit_code != 0]
    print(f"failed: {', '.join(failed)}" if failed else "everything passed", flush=True)
