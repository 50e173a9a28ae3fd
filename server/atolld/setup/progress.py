"""Shows what set-up does: living lines on a terminal, a line per step elsewhere; and all in a log file."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table

from atolld.setup.steps import Step

_KEPT_LOGS = 20


class Progress(Protocol):
    """Told by the runner; ``report`` takes a line of a step's tools."""

    def started(self, step: Step) -> None: ...

    def ended(self, step: Step, seconds: float, error: BaseException | None) -> None: ...

    def report(self, step: Step, line: str) -> None: ...


class Log:
    """The log file: every line with the seconds since the start and its step's name."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        for old in sorted(directory.glob("setup-*.log"))[: -_KEPT_LOGS + 1]:
            old.unlink(missing_ok=True)
        self.path = directory / f"setup-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}.log"
        self._file: TextIO = self.path.open("w", buffering=1)
        self._start = time.monotonic()

    def write(self, step: Step, line: str) -> None:
        self._file.write(f"{time.monotonic() - self._start:8.2f} {step.name}: {line}\n")

    def close(self) -> None:
        self._file.close()


class LineProgress:
    """A line when a step begins and one when it ends."""

    def __init__(self, log: Log, out: TextIO) -> None:
        self._log = log
        self._out = out

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._out.flush()

    def started(self, step: Step) -> None:
        self._log.write(step, f"begins: {step.title}")
        print(f"  … {step.title}", file=self._out, flush=True)

    def ended(self, step: Step, seconds: float, error: BaseException | None) -> None:
        self._log.write(step, "done" if error is None else f"failed: {error}")
        print(f"  {_mark(error)} {step.title}  {seconds:.1f} s", file=self._out, flush=True)

    def report(self, step: Step, line: str) -> None:
        self._log.write(step, line)


class LiveProgress:
    """Finished steps stay as lines; below them those at work, with their time and their tool's last words."""

    def __init__(self, log: Log, console: Console) -> None:
        self._log = log
        self._console = console
        self._since: dict[str, tuple[Step, float]] = {}
        self._last: dict[str, str] = {}
        self._live = Live(get_renderable=self._draw, console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def started(self, step: Step) -> None:
        self._log.write(step, f"begins: {step.title}")
        self._since[step.name] = (step, time.monotonic())

    def ended(self, step: Step, seconds: float, error: BaseException | None) -> None:
        self._log.write(step, "done" if error is None else f"failed: {error}")
        self._since.pop(step.name, None)
        style = "green" if error is None else "red"
        self._console.print(f"  [{style}]{_mark(error)}[/] {step.title}  [dim]{seconds:.1f} s[/]")

    def report(self, step: Step, line: str) -> None:
        self._log.write(step, line)
        if line.strip():
            self._last[step.name] = line.strip()

    def _draw(self) -> Table:
        table = Table.grid(padding=(0, 1))
        table.add_column()
        table.add_column(no_wrap=True)
        table.add_column(justify="right")
        table.add_column(no_wrap=True, overflow="ellipsis", style="dim")
        now = time.monotonic()
        for step, since in self._since.values():
            last = self._last.get(step.name, "").replace("[", "\\[")
            table.add_row("  …", step.title, f"{now - since:.0f} s", last)
        return table


def open_progress(log: Log) -> LineProgress | LiveProgress:
    """Speaks on standard error: standard output belongs to the command that set-up precedes."""
    console = Console(stderr=True)
    return LiveProgress(log, console) if console.is_terminal else LineProgress(log, sys.stderr)


def _mark(error: BaseException | None) -> str:
    return "✓" if error is None else "✗"
