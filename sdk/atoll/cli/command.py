"""`sandbox exec`: a command in a sandbox, with this command's input, output and exit code."""

from __future__ import annotations

import os
import re
import shlex
import stat
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import IO

from atoll.cli.client import Client
from atoll.cli.failures import Failure
from atoll.cli.guest import Guest
from atoll.cli.http import open_http
from atoll.cli.interrupts import Interrupted, interruptible, uninterrupted
from atoll.cli.settings import Settings
from atoll_wire.connect import Code, ConnectError
from atoll_wire.process import Ended, Output, Start, Started

INPUT_CHUNK = 64 << 10
# As Go names them in `signal: killed`.
SIGNALS = {
    "hangup": 1,
    "interrupt": 2,
    "quit": 3,
    "aborted": 6,
    "killed": 9,
    "segmentation fault": 11,
    "terminated": 15,
}


@dataclass(frozen=True, slots=True)
class Command:
    """``timeout``: seconds until it is killed; ``None``: never. ``background``: do not wait for it."""

    words: Sequence[str]
    envs: Mapping[str, str]
    cwd: str | None = None
    user: str | None = None
    timeout: int | None = None
    background: bool = False


def execute(settings: Settings, sandbox_id: str, command: Command) -> int:
    """The command's exit code. Raises :class:`Failure`."""
    with interruptible(), Client(settings) as client, open_http(settings.sandbox_url) as http:
        token = client.get(sandbox_id).access_token
        guest = Guest(settings, http, sandbox_id, token)
        start = Start(
            cmd="/bin/bash",
            args=("-l", "-c", join_words(command.words)),
            envs=command.envs,
            cwd=command.cwd,
            stdin=not command.background and is_piped(sys.stdin.buffer),
        )
        return _follow(guest, start, command)


def join_words(words: Sequence[str]) -> str:
    """One word is a line for the shell; several are a command and its arguments, each quoted. A leading
    ``--`` only says that our own options are over."""
    words = words[1:] if words[0] == "--" and len(words) > 1 else words
    return words[0] if len(words) == 1 else shlex.join(words)


def is_piped(stream: IO[bytes]) -> bool:
    """Whether there is input to pass on: a pipe, a file or a socket, not a terminal or `/dev/null`."""
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


def exit_code(ended: Ended) -> int:
    """As a shell has it: 128 and the signal's number when a signal ended the command."""
    if ended.exited or ended.exit_code >= 0:
        return ended.exit_code
    found = re.match(r"signal: ([a-z ]+)", ended.status)
    return 128 + SIGNALS.get(found[1].strip() if found else "", 9)


def _follow(guest: Guest, start: Start, command: Command) -> int:
    pid: int | None = None
    try:
        with closing(guest.start(start, command.user, command.timeout)) as events:
            for event in events:
                match event:
                    case Started(started) if command.background:
                        sys.stderr.write(f"atoll: running in the background with pid {started}\n")
                        return 0
                    case Started(started):
                        pid = started
                        if start.stdin:
                            _pass_input(guest, pid)
                    case Output(stream, data):
                        target = sys.stderr.buffer if stream == "stderr" else sys.stdout.buffer
                        target.write(data)
                        target.flush()
                    case Ended():
                        return exit_code(event)
                    case _:
                        pass
    except Interrupted as interrupted:
        _kill(guest, pid)
        return interrupted.exit_code
    except BrokenPipeError:
        _kill(guest, pid)
        raise
    raise Failure(
        "the command's end was not told",
        why="the stream ended without it",
        hint="try again; if it happens again, the template's daemon is too old: `./atoll setup` rebuilds it",
    )


def _kill(guest: Guest, pid: int | None) -> None:
    if pid is None:
        return
    try:
        with uninterrupted():
            guest.send_signal(pid, "SIGNAL_SIGKILL")
    except ConnectError as error:
        if error.code is not Code.NOT_FOUND:
            sys.stderr.write(f"atoll: the command (pid {pid}) could not be killed: {error.message}\n")


def _pass_input(guest: Guest, pid: int) -> None:
    """Sends our input from a thread of its own, since reading it may block for ever."""
    threading.Thread(target=_send_input, args=(guest, pid, sys.stdin.buffer), daemon=True).start()


def _send_input(guest: Guest, pid: int, source: IO[bytes]) -> None:
    try:
        while data := os.read(source.fileno(), INPUT_CHUNK):
            guest.send_input(pid, data)
        guest.close_stdin(pid)
    except ConnectError as error:
        # The command may end before it has read all of its input.
        if error.code is not Code.NOT_FOUND:
            sys.stderr.write(f"atoll: the command's input could not be sent: {error.message}\n")
    except (Failure, OSError) as error:
        sys.stderr.write(f"atoll: the command's input could not be sent: {error}\n")
