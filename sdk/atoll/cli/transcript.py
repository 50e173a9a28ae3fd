"""What a run shows: each event as it comes, or all of it at the end as one JSON document."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from atoll.cli import pictures
from atoll.cli.output import print_json
from atoll_wire.executions import Count, Event, Failure, Result, Stderr, Stdout

# IPython's heading, whose lines the wire joins without a separator.
_HEADING = re.compile(r"^(-{60,})(?=\S)|(Traceback \(most recent call last\))(?=\S)", re.MULTILINE)


@dataclass(slots=True)
class Transcript:
    """``out``: where results are saved; ``None``: nowhere."""

    out: Path | None
    as_json: bool
    sandbox_id: str | None = None
    interrupted: bool = False
    error: Failure | None = None
    execution_count: int | None = None
    timings_ms: dict[str, float] = field(default_factory=dict[str, float])
    """Our steps, in order."""
    create_ms: dict[str, float] = field(default_factory=dict[str, float])
    """The parts of the step ``create``, as the server tells them; ``warm`` is there when a sandbox waited."""
    _stdout: list[str] = field(default_factory=list[str])
    _stderr: list[str] = field(default_factory=list[str])
    _results: list[dict[str, object]] = field(default_factory=list[dict[str, object]])
    _saved: list[str] = field(default_factory=list[str])
    _number: int = 0
    _at_line_start: bool = True

    def add(self, event: Event) -> None:
        """Raises :class:`~atoll.cli.failures.Failure` when a result cannot be saved."""
        match event:
            case Count(count):
                self.execution_count = count
            case Stdout(text):
                self._write(text, self._stdout, sys.stdout)
            case Stderr(text):
                self._write(text, self._stderr, sys.stderr)
            case Result():
                self._add_result(event)
            case Failure():
                self.error = event
                if not self.as_json:
                    self._tell(tidy_traceback(event.traceback) or f"{event.name}: {event.value}")
            case _:
                pass

    def close(self, timing: bool) -> None:
        """Prints what is told at the end."""
        if self.as_json:
            print_json(self._document())
        if timing:
            self._tell_timings()

    def note(self, text: str) -> None:
        """Something of ours to say; on standard error, so that it never mixes with the code's output."""
        self._tell(f"atoll: {text}")

    def _write(self, text: str, kept: list[str], stream: object) -> None:
        if self.as_json:
            kept.append(text)
            return
        target = sys.stdout if stream is sys.stdout else sys.stderr
        target.write(text)
        target.flush()
        self._at_line_start = text.endswith("\n") if text else self._at_line_start

    def _add_result(self, result: Result) -> None:
        self._number += 1
        if self.out is not None:
            saved = pictures.save(pictures.plan_files(result, self._number), self.out)
            self._saved += map(str, saved)
            for path in saved if not self.as_json else ():
                self.note(f"saved {path}")
        if self.as_json:
            self._results.append(
                {**result.formats, "isMainResult": result.is_main, "extra": dict(result.extra)}
            )
        else:
            self._show(result)

    def _show(self, result: Result) -> None:
        files = pictures.plan_files(result, self._number)
        has_picture = any(name in result.formats for name in ("png", "jpeg", "svg"))
        protocol = pictures.terminal_protocol(os.environ) if sys.stdout.isatty() else None
        drawn = pictures.draw(result, protocol) if protocol else None
        text = result.text("text")
        if drawn is not None:
            self._print(drawn)
        elif text is not None and not has_picture:
            self._print(text if text.endswith("\n") else text + "\n")
        if self.out is None and drawn is None and (has_picture or text is None) and files:
            sizes = ", ".join(f"{name} ({len(content) / 1000:.1f} kB)" for name, content in files.items())
            self.note(f"not shown: {sizes}; --out DIR saves it")

    def _print(self, text: str) -> None:
        if not self._at_line_start:
            text = "\n" + text
        self._write(text, self._stdout, sys.stdout)

    def _tell(self, text: str) -> None:
        """A whole line on standard error."""
        if not self._at_line_start:
            sys.stdout.write("\n")
            self._at_line_start = True
        sys.stdout.flush()
        sys.stderr.write(text if text.endswith("\n") else text + "\n")
        sys.stderr.flush()

    def _tell_timings(self) -> None:
        for name, value in self.timings_ms.items():
            self._tell(f"{name:<14}{value:10.1f} ms")
            if name == "create":
                for part, part_ms in self.create_ms.items():
                    told = "       yes" if part == "warm" else f"{part_ms:10.1f} ms"
                    self._tell(f"  {part:<12}{told}")
        self._tell(f"{'together':<14}{sum(self.timings_ms.values()):10.1f} ms")

    def _document(self) -> dict[str, object]:
        error = self.error
        return {
            "sandboxID": self.sandbox_id,
            "executionCount": self.execution_count,
            "stdout": "".join(self._stdout),
            "stderr": "".join(self._stderr),
            "results": self._results,
            "error": None
            if error is None
            else {"name": error.name, "value": error.value, "traceback": error.traceback},
            "interrupted": self.interrupted,
            "saved": self._saved,
            "timingsMs": {name: round(value, 1) for name, value in self.timings_ms.items()},
            "createMs": {name: round(value, 1) for name, value in self.create_ms.items()},
        }


def tidy_traceback(text: str) -> str:
    """With its heading on lines of its own again."""
    return _HEADING.sub(lambda found: found[0] + "\n", text)
