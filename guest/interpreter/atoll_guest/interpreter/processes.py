"""Starts child processes and notices their end without polling and without a thread: SIGCHLD, then wait4
per child.

wait4 also tells the memory a child had at most, which an answer about a memory limit needs.
"""

import asyncio
import contextlib
import errno
import functools
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@functools.cache
def _dying_with_us() -> tuple[str, ...]:
    """A prefix of a command: the system kills its process when ours ends, however that happens. A function
    run between fork and exec could ask for the same, but would cost a copy of this process's memory map.
    """
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "KILL", "--") if setpriv else ()


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: `code` (negative: killed by that signal), `max_rss_mib` at its largest."""

    code: int
    max_rss_mib: int

    def __str__(self) -> str:
        if self.code >= 0:
            return f"exit code {self.code}"
        try:
            return f"killed by {signal.Signals(-self.code).name}"
        except ValueError:
            return f"killed by signal {-self.code}"


class Child:
    """A started process, leader of its own session; `exit` is done when it has ended."""

    def __init__(self, popen: "subprocess.Popen[bytes]", exited: "asyncio.Future[Exit]") -> None:
        self._popen = popen
        self.pid = popen.pid
        self.exit = exited

    @property
    def alive(self) -> bool:
        return not self.exit.done()

    def signal(self, number: int) -> None:
        """To the process and the processes it started in its group."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def reap(self) -> None:
        """If it has ended, say so."""
        try:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        except ChildProcessError:
            pid, status, usage = self.pid, 0, None
        if pid == 0:
            return
        self._popen.returncode = os.waitstatus_to_exitcode(status)
        if not self.exit.done():
            self.exit.set_result(Exit(self._popen.returncode, usage.ru_maxrss // 1024 if usage else 0))


class Children:
    """All children of this service. Open it in the main thread's loop."""

    def __init__(self) -> None:
        self._children: set[Child] = set()

    def open(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap)

    def close(self) -> None:
        """Kills what still runs."""
        for child in self._children:
            child.signal(signal.SIGKILL)
        asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)

    def start(self, argv: Sequence[str], *, cwd: str, env: Mapping[str, str], log: Path) -> Child:
        """Standard output and error go to the file `log`. Raises OSError (no such program, no such
        folder).
        """
        if shutil.which(argv[0], path=env.get("PATH")) is None:
            raise FileNotFoundError(errno.ENOENT, "No such program", argv[0])
        with log.open("wb") as sink:
            popen = subprocess.Popen(
                [*_dying_with_us(), *argv],
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )
        child = Child(popen, asyncio.get_running_loop().create_future())
        self._children.add(child)
        child.exit.add_done_callback(lambda _: self._children.discard(child))
        return child

    def _reap(self) -> None:
        for child in list(self._children):
            child.reap()
