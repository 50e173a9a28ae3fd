"""What pid 1 of a container prints: its last words, when it ends by itself.

They go into a file without a name in memory, one for each container. What is written there counts as the
container's own memory, so a guest that writes without end meets its own limit and not the host's disk; a pipe
would stop a daemon that nobody listens to. It is opened for appending because the kernel inside writes at the
offset that a snapshot remembers, of another file. The container keeps it open, so a server that comes back
finds it among the descriptors of its process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Generator
from pathlib import Path

_NAME = "last-words"
_LOOKED_AT = 256 << 10
"""Bytes from the end: Go tells of every goroutine after it has told why."""
_TOLD = 2000
"""Characters."""
_WHY = re.compile(r"^(?:panic|fatal error|runtime|SIG[A-Z]+): ", re.MULTILINE)


@contextlib.contextmanager
def nothing() -> Generator[int]:
    """An empty file without a name, for standard input."""
    file = os.memfd_create("nothing", os.MFD_CLOEXEC)
    try:
        yield file
    finally:
        os.close(file)


class Words:
    def __init__(self) -> None:
        self._files: dict[str, int] = {}

    def open(self, name: str) -> int:
        """The file of a container that is to be, as a descriptor that stays ours."""
        self.close(name)
        file = self._files[name] = os.memfd_create(_NAME, os.MFD_CLOEXEC)
        fcntl.fcntl(file, fcntl.F_SETFL, os.O_APPEND)
        return file

    def find(self, name: str, pid: int) -> None:
        """The file of a container that an earlier server made; it may have none."""
        if name in self._files:
            return
        with contextlib.suppress(OSError):
            for link in Path(f"/proc/{pid}/fd").iterdir():
                if os.readlink(link).startswith(f"/memfd:{_NAME}"):
                    self._files[name] = os.open(link, os.O_RDONLY | os.O_CLOEXEC)
                    return

    def read(self, name: str) -> str:
        file = self._files.get(name)
        if file is None:
            return ""
        size = os.fstat(file).st_size
        return choose_words(os.pread(file, _LOOKED_AT, max(0, size - _LOOKED_AT)).decode("utf-8", "replace"))

    def close(self, name: str) -> None:
        """Idempotent."""
        file = self._files.pop(name, None)
        if file is not None:
            os.close(file)


def choose_words(said: str) -> str:
    """From the line that gives the reason, where Go gives one; else the end."""
    why = _WHY.search(said)
    return said[-_TOLD:] if why is None else said[why.start() :][:_TOLD]
