"""zstd as a pipe: the `zstd` program, on every processor, so that nothing has to fit into memory."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Generator
from typing import IO

from atolld.model.errors import HostError, InvalidRequest

_LEVEL = "-3"
"""Memory of Python processes shrinks to a quarter; higher levels take several times as long for little."""


@contextlib.contextmanager
def squeezed(out: IO[bytes]) -> Generator[IO[bytes]]:
    """What is written to it lands in ``out``, compressed."""
    with _start(["zstd", "--quiet", "--stdout", _LEVEL, "-T0"], stdin=subprocess.PIPE, stdout=out) as process:
        assert process.stdin is not None
        try:
            yield process.stdin
            process.stdin.close()
        except BrokenPipeError:
            pass  # it says why below
        if process.wait() != 0:
            raise HostError(f"the file cannot be written: {_said(process)}")


class Unsqueezed:
    """The contents of a compressed stream, read in order."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def read(self, size: int) -> bytes:
        """Shorter than ``size`` at the end only. Raises :class:`InvalidRequest` when the stream is broken."""
        assert self._process.stdout is not None
        data = self._process.stdout.read(size)
        if len(data) < size and self._process.wait() != 0:
            raise InvalidRequest(f"the file cannot be imported, it is damaged: {_said(self._process)}")
        return data


@contextlib.contextmanager
def unsqueezed(source: IO[bytes]) -> Generator[Unsqueezed]:
    command = ["zstd", "--quiet", "--stdout", "--decompress", "--memory=128MB"]
    with _start(command, stdin=source, stdout=subprocess.PIPE) as process:
        yield Unsqueezed(process)


@contextlib.contextmanager
def _start(
    command: list[str], *, stdin: IO[bytes] | int, stdout: IO[bytes] | int
) -> Generator[subprocess.Popen[bytes]]:
    try:
        process = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE)
    except FileNotFoundError as error:
        raise HostError("zstd is missing: apt-get install zstd") from error
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        process.wait()


def _said(process: subprocess.Popen[bytes]) -> str:
    assert process.stderr is not None
    return (
        process.stderr.read().decode("utf-8", "replace").strip()[-300:]
        or f"zstd ended ({process.returncode})"
    )
