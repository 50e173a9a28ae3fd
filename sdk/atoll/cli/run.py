"""`run`: one sandbox, one piece of code, its output as it happens."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from atoll.cli import pictures
from atoll.cli.client import Client
from atoll.cli.failures import EXIT_TIMEOUT, Failure
from atoll.cli.guest import Guest
from atoll.cli.http import open_http
from atoll.cli.interrupts import DeadlinePassed, Interrupted, deadline, interruptible, uninterrupted
from atoll.cli.server import ensure_server
from atoll.cli.settings import Settings
from atoll.cli.transcript import Transcript
from atoll_wire.api import NewSandbox
from atoll_wire.executions import Request


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for. ``timeout``: seconds the sandbox lives, which is what the code may take."""

    code: str
    template: str
    timeout: int
    envs: Mapping[str, str]
    out: Path | None = None
    keep: bool = False
    as_json: bool = False
    timing: bool = False


def run(settings: Settings, plan: Plan) -> int:
    """The exit code: 0, 1 when the code failed, 130 after Ctrl-C. Raises :class:`Failure`."""
    if plan.out is not None:
        pictures.make_directory(plan.out)
    transcript = Transcript(plan.out, plan.as_json)
    try:
        with interruptible(), Client(settings) as client:
            with _timed(transcript, "server"):
                ensure_server(client)
            with _sandbox(client, plan, transcript) as guest:
                _follow(guest, plan, transcript)
    except Interrupted as interrupted:
        transcript.interrupted = True
        transcript.close(plan.timing)
        return interrupted.exit_code
    transcript.close(plan.timing)
    return 1 if transcript.error else 0


def read_code(code: str | None, file: Path | None) -> str:
    """The code of the one source that was given; ``-`` is standard input. Raises :class:`Failure`."""
    if (code is None) == (file is None):
        what = "there is no code to run" if code is None else "there is code as an argument and in a file"
        hint = "give one of: `run CODE`, `run -f FILE`, `run -` (standard input)"
        raise Failure(what, hint=hint, exit_code=2)
    if code is not None and code != "-":
        return code
    path = None if file is None or str(file) == "-" else file
    source = "standard input" if path is None else str(path)
    try:
        data = sys.stdin.buffer.read() if path is None else path.read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        why = str(error.strerror)
        raise Failure(f"{source} cannot be read", why=why, hint="check the path", exit_code=2) from error
    except UnicodeDecodeError as error:
        hint = "save the code as UTF-8"
        raise Failure(f"{source} is no UTF-8 text", why=str(error), hint=hint, exit_code=2) from error


def _follow(guest: Guest, plan: Plan, transcript: Transcript) -> None:
    with (
        _timed(transcript, "run"),
        _limited(plan.timeout - transcript.timings_ms["create"] / 1000),
        closing(guest.execute(Request(plan.code), plan.timeout)) as events,
    ):
        for event in events:
            transcript.add(event)


@contextmanager
def _sandbox(client: Client, plan: Plan, transcript: Transcript) -> Generator[Guest]:
    """A sandbox for the code. Whatever happens, it is killed at the end, unless it is to be kept."""
    new = NewSandbox(plan.template, plan.timeout, plan.envs, {"atoll.cli": "run"})
    try:
        # A create that is cut off would leave a sandbox whose id we never learn.
        with uninterrupted(), _timed(transcript, "create"):
            created = client.create(new)
            transcript.sandbox_id = created.sandbox.sandbox_id
        transcript.create_ms = dict(created.timings_ms)
        with open_http(client.settings.sandbox_url) as http:
            yield Guest(client.settings, http, created.sandbox.sandbox_id, created.sandbox.access_token)
    finally:
        _end_sandbox(client, plan, transcript)


def _end_sandbox(client: Client, plan: Plan, transcript: Transcript) -> None:
    sandbox_id = transcript.sandbox_id
    if sandbox_id is None:
        return
    if plan.keep:
        transcript.note(
            f"the sandbox {sandbox_id} is kept for up to {plan.timeout} s: use it with `./atoll sandbox exec "
            f"{sandbox_id} COMMAND`, end it with `./atoll sandbox kill {sandbox_id}`"
        )
        return
    try:
        with uninterrupted(), _timed(transcript, "kill"):
            client.kill(sandbox_id)
    except Failure as failure:
        # The outcome of the code matters more than this; the server ends the sandbox when its time is over.
        transcript.note(f"the sandbox {sandbox_id} could not be killed: {failure.what}")


@contextmanager
def _limited(seconds: float) -> Generator[None]:
    try:
        with deadline(max(seconds, 0.001)):
            yield
    except DeadlinePassed:
        raise Failure(
            "the code was not done in time",
            why="the sandbox's time was over, so it was stopped",
            hint="give it more time with --timeout SECONDS",
            exit_code=EXIT_TIMEOUT,
        ) from None


@contextmanager
def _timed(transcript: Transcript, name: str) -> Generator[None]:
    begin = time.perf_counter()
    try:
        yield
    finally:
        transcript.timings_ms[name] = (time.perf_counter() - begin) * 1000
