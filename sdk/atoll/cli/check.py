"""`test`: every check of the project, each with its time.

A failing step sets the exit code and the later ones still run: a contributor sees all that is wrong at once.
"""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from atoll.cli.failures import Failure
from atoll.cli.settings import read_settings

PROJECT = Path(__file__).resolve().parents[3]
MISSING_TOOL = 127
LAST_OUTPUT = 2.0
"""Seconds that output may take to arrive after its step has ended."""


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
    selected = ["-m", "not machine and not slow"] if quick else []
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
    """The exit code of the first step that failed, 0 when none did.

    The last step, pytest, runs beside the others when ``quick``. Otherwise it comes after them, since some of
    its tests measure time.
    """
    if not (PROJECT / "pyproject.toml").is_file():
        raise Failure(
            "there is no project to test",
            why=f"{PROJECT} has no pyproject.toml",
            hint="run `./atoll test` in a clone of the repository",
        )
    environ = environment(os.environ, read_settings().home)
    *checks, tests = plan_steps(Path(sys.executable).parent, quick, pytest_arguments)
    if quick:
        with Running(tests, environ) as running:
            done = [Running(step, environ).finish() for step in checks]
            done.append(running.finish())
    else:
        done = [Running(step, environ).finish() for step in (*checks, tests)]
    _summarise(done)
    return next((step.exit_code for step in done if step.exit_code != 0), 0)


def environment(environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """Ours, with the environment's tools first, then the Go that set-up fetched, if any."""
    fetched = sorted(home.glob("bin/go-*/bin"), key=lambda directory: directory.stat().st_mtime, reverse=True)
    places = [Path(sys.executable).parent, *fetched, environ.get("PATH", os.defpath), "/usr/local/go/bin"]
    colours = {"PY_COLORS": "1"} if sys.stdout.isatty() else {}
    return {**environ, **colours, "PATH": os.pathsep.join(map(str, places))}


class Running:
    """A step at work. Its output is kept until :meth:`finish`, which then prints it as it comes."""

    def __init__(self, step: Step, environ: Mapping[str, str]) -> None:
        self._step = step
        self._begin = time.monotonic()
        self._output: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._ended = self._begin
        self._process: subprocess.Popen[bytes] | None = None
        program = shutil.which(step.command[0], path=environ["PATH"])
        if program is not None:
            self._process = subprocess.Popen(
                [program, *step.command[1:]],
                cwd=step.directory,
                env=environ,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            threading.Thread(target=self._watch, args=(self._process,), daemon=True).start()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait()

    def finish(self) -> Done:
        name = self._step.name
        print(f"── {name}", flush=True)
        code = self._follow()
        seconds = self._ended - self._begin
        outcome = "ok" if code == 0 else f"failed (exit code {code})"
        print(f"── {name}: {outcome}, {seconds:.1f} s", flush=True)
        return Done(name, code, seconds)

    def _follow(self) -> int:
        if self._process is None:
            print(f"{self._step.command[0]} is missing: `./atoll setup --all` installs what the tests need")
            return MISSING_TOOL
        with self:
            while (chunk := self._output.get()) is not None:
                sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()
            return self._process.wait()

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        reader = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
        reader.start()
        process.wait()
        # A program that the step left behind may hold the pipe open: it is not waited for.
        reader.join(LAST_OUTPUT)
        self._ended = time.monotonic()
        self._output.put(None)

    def _read(self, output: IO[bytes]) -> None:
        while chunk := os.read(output.fileno(), 65536):
            self._output.put(chunk)


def _summarise(done: Sequence[Done]) -> None:
    print()
    for step in done:
        print(f"{'ok' if step.exit_code == 0 else 'FAILED':<8}{step.name:<16}{step.seconds:>8.1f} s")
    failed = [step.name for step in done if step.exit_code != 0]
    print(f"failed: {', '.join(failed)}" if failed else "everything passed", flush=True)
