"""Options that several commands have, and what is done with them. Cheap to import: every command does."""

from __future__ import annotations

from typing import Annotated, NoReturn

import typer

from atoll.cli.failures import Failure

INTERPRETER_TEMPLATE = "code-interpreter-v1"
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Settings of a command that is the server's: see :func:`hand_over`."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def hand_over(command: str, *arguments: str) -> NoReturn:
    """Becomes the server's command."""
    from atoll.cli.server import exec_server

    exec_server([command, *arguments])


def positive(value: int, option: str) -> int:
    if value < 1:
        raise Failure(f"{option} {value} is too small", hint=f"give {option} a number from 1 on", exit_code=2)
    return value
