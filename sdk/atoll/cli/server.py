"""The server of this machine: started in the background when none runs, and the commands that are its own."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NoReturn

from atoll.cli.client import Client
from atoll.cli.failures import Failure
from atoll.cli.http import unreachable
from atoll.cli.settings import Settings

START_TIMEOUT = 60.0
POLL_INTERVAL = 0.02
LOG_LINES = 12


def exec_server(arguments: Sequence[str]) -> NoReturn:
    """Becomes `python -m atolld …`, the program that may touch this machine."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", "atolld", *arguments])  # noqa: S606 (no shell is wanted)


def ensure_server(client: Client) -> float:
    """Starts the server when none answers, and waits for it. Seconds that took; 0 when it ran."""
    if client.is_healthy():
        return 0.0
    settings = client.settings
    if not settings.is_local:
        raise unreachable(settings, "GET /health was not answered")
    begin = time.monotonic()
    with _starting(settings):
        # Whoever held the lock before us may have started it.
        if not client.is_healthy():
            sys.stderr.write(f"atoll: no server runs; starting one in the background (log: {settings.log})\n")
            sys.stderr.flush()
            _start(client)
            took = time.monotonic() - begin
            sys.stderr.write(f"atoll: the server is ready ({took:.1f} s); `./atoll down` stops it\n")
    return time.monotonic() - begin


def _start(client: Client) -> None:
    settings = client.settings
    with _open_append(settings, settings.log) as log:
        offset = log.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "atolld", "serve"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=settings.home,
            start_new_session=True,
        )
    limit = time.monotonic() + START_TIMEOUT
    while not client.is_healthy():
        code = _wait(process)
        # Somebody may have typed `./atoll serve` meanwhile: that server is as good as ours.
        if code is not None and not client.is_healthy():
            raise Failure(
                f"the server could not start (exit code {code})",
                why=tail(settings.log, offset),
                hint="`./atoll doctor` checks this machine; `./atoll serve` shows the server's output",
            )
        if time.monotonic() > limit:
            process.terminate()
            raise Failure(
                f"the server did not answer within {START_TIMEOUT:.0f} s",
                why=tail(settings.log, offset),
                hint="`./atoll doctor` checks this machine; `./atoll serve` shows the server's output",
            )


def _wait(process: subprocess.Popen[bytes]) -> int | None:
    """The exit code, when it ends before the next look at its health is due."""
    try:
        return process.wait(POLL_INTERVAL)
    except subprocess.TimeoutExpired:
        return None


@contextmanager
def _starting(settings: Settings) -> Generator[None]:
    """Held by one command at a time, so that two at once do not start two servers."""
    with _open_append(settings, settings.log.with_name("server.starting")) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _open_append(settings: Settings, path: Path) -> IO[bytes]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
        file.seek(0, os.SEEK_END)
        return file
    except OSError as error:
        raise Failure(
            f"the server's log {path} cannot be written",
            why=str(error.strerror),
            hint="run the command as root, or set ATOLL_HOME to a directory you may write to",
        ) from error


def tail(log: Path, offset: int) -> str:
    """The last lines that were written after ``offset``, indented to stand below an error."""
    try:
        with log.open("rb") as file:
            file.seek(max(offset, log.stat().st_size - 16384))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
    except OSError as error:
        return f"its log {log} cannot be read ({error.strerror})"
    if not lines:
        return f"it said nothing in its log {log}"
    return "its log ends with\n" + "\n".join(f"    {line}" for line in lines[-LOG_LINES:])
