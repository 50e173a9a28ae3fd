"""Runs a tool of the machine: its output goes to the log, its death is ours too.

Every tool is started so that the kernel kills it when we die, whatever way we die: a set-up that was killed
leaves no process behind. :func:`isolated` adds a mount and a process namespace of the tool's own, so that its
mounts and all its children vanish with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from atolld.model.errors import HostError

Report = Callable[[str], None]
"""Takes one line of text for the log."""

_TAIL_LINES = 8
_DIE_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")
_ISOLATION = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child=KILL")


def isolated(arguments: Sequence[str]) -> list[str]:
    """The command line that runs ``arguments`` with mounts and processes of its own."""
    return [*_ISOLATION, "--mount-proc", "--", *arguments]


async def run_tool(
    arguments: Sequence[str | os.PathLike[str]],
    *,
    report: Report,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: bytes | None = None,
) -> str:
    """The tool's output (standard output and error together), which ``report`` got line by line as well.

    ``env`` replaces the environment. Raises :class:`HostError` when the tool is missing or fails.
    """
    command = [os.fspath(argument) for argument in arguments]
    report("$ " + " ".join(command))
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *_DIE_WITH_US,
            *command,
            stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=None if env is None else dict(env),
            cwd=cwd,
            start_new_session=True,
        )
    )
    try:
        process = await asyncio.shield(starting)
    except asyncio.CancelledError:
        await _kill(await starting)  # it runs, though nobody has been told: with all that it started
        raise
    except FileNotFoundError as error:
        raise HostError(f"{error.filename or 'setpriv'} is missing: install util-linux") from error
    try:
        output = await _follow(process, report, stdin)
        status = await process.wait()
    except BaseException:
        await _kill(process)
        raise
    if status != 0:
        raise failure(command, status, output)
    return output


def failure(command: Sequence[str], status: int, output: str) -> HostError:
    """What to say of a tool that ended with ``status``; a full disk is named as such."""
    tail = "\n".join(f"    {line}" for line in deque(output.splitlines(), _TAIL_LINES))
    ended = f"was killed by signal {-status}" if status < 0 else f"exited with {status}"
    if "No space left on device" in output:
        return HostError(
            f"the disk is full: {command[0]} {ended}. Free some space and run the same again\n{tail}"
        )
    return HostError(f"{command[0]} {ended}\n{tail}")


async def _follow(process: asyncio.subprocess.Process, report: Report, stdin: bytes | None) -> str:
    if stdin is not None and process.stdin is not None:
        process.stdin.write(stdin)
        process.stdin.close()
    assert process.stdout is not None
    lines: list[str] = []
    while raw := await _read_line(process.stdout):
        line = raw.decode(errors="replace").rstrip()
        lines.append(line)
        report(line)
    return "\n".join(lines)


async def _read_line(stream: asyncio.StreamReader) -> bytes:
    """One line, or what came of it when the line is longer than the reader's buffer (progress bars are)."""
    try:
        return await stream.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        return error.partial
    except asyncio.LimitOverrunError as error:
        return await stream.readexactly(error.consumed)


async def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await asyncio.shield(process.wait())
