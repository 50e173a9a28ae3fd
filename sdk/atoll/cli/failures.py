"""How a command fails: what happened, why, what to do. Never a traceback."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from typing import NoReturn

EXIT_TIMEOUT = 124
"""As coreutils' `timeout` has it."""


class Failure(Exception):
    """Ends the command. ``hint`` is what to do next, ``exit_code`` never 0."""

    def __init__(self, what: str, *, why: str = "", hint: str = "", exit_code: int = 1) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.hint = hint
        self.exit_code = exit_code

    def render(self, colour: bool) -> str:
        """The text for standard error, newline included."""
        mark = "\033[1;31merror:\033[0m" if colour else "error:"
        lines = [f"{mark} {self.what}"]
        lines += [f"  why: {self.why}"] if self.why else []
        lines += [f"  what to do: {self.hint}"] if self.hint else []
        return "\n".join(lines) + "\n"


def leave(failure: Failure) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.write(failure.render(is_coloured()))
    raise SystemExit(failure.exit_code)


def leave_fault(error: Exception) -> NoReturn:
    """A mistake in this program. The details go to a file, which a report of it should come with."""
    with tempfile.NamedTemporaryFile("w", prefix="atoll-fault-", suffix=".txt", delete=False) as file:
        traceback.print_exception(error, file=file)
    leave(
        Failure(
            f"this is a fault in atoll itself ({type(error).__name__}: {error})",
            hint=f"please report it with the file {file.name}",
            exit_code=70,
        )
    )


def is_coloured() -> bool:
    return sys.stderr.isatty() and "NO_COLOR" not in os.environ
