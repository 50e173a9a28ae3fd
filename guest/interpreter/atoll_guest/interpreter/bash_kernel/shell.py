"""The bash process and the pipes to it.

bash runs interactively (so that an interrupt abandons the code and returns to its top level), without
terminal, and reads from its standard input one line per execution: read the code from descriptor 3, run it,
write the status to descriptor 4. The code's own standard input is empty, and it does not see the two
descriptors.
"""

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Callable

_READ_BYTES = 1 << 16
_RUN = 'IFS= read -r -d "" __atoll_code <&3; eval "$__atoll_code" 3<&- 4>&- </dev/null\n'
_REPORT = "printf '%s\\n' \"$?\" >&4\n"  # a line of its own: bash goes on with it after an interrupt
_START = 'exec /bin/bash --norc --noprofile --noediting -i 3<&"$0" 4>&"$1"'
_SET_UP = "PS1= PS2= ; set +o history +m; shopt -s expand_aliases\n"

Write = Callable[[str, bytes], None]
"""Takes the stream's name and what was written to it."""


class ShellEnded(Exception):
    """The code ended bash (`exit`, `exec`, `set -e` and an error); `status` is its exit status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"bash ended with status {status}")
        self.status = status


class Shell:
    """Started by the constructor. Raises OSError without bash."""

    def __init__(self) -> None:
        code_read, self._code = os.pipe()
        self._status, status_write = os.pipe()
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", _START, str(code_read), str(status_write)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(code_read, status_write),
            preexec_fn=_default_signals,
        )
        os.close(code_read)
        os.close(status_write)
        self._outputs = {_fd(self._process.stdout): "stdout", _fd(self._process.stderr): "stderr"}
        for descriptor in self._outputs:
            os.set_blocking(descriptor, False)
        self.run(_SET_UP, lambda _name, _data: None)  # bash complains that it has no terminal

    def run(self, code: str, write: Write) -> int:
        """Run the code; the status of its last command. Raises ShellEnded; an interrupt makes the status
        130.
        """
        self._send(code)
        poll = select.poll()
        for descriptor in (*self._outputs, self._status):
            poll.register(descriptor, select.POLLIN)
        status = b""
        while not status.endswith(b"\n"):
            for descriptor, _ in poll.poll():
                if descriptor == self._status:
                    data = os.read(self._status, 64)
                    if not data:
                        self._read_rest(write)
                        raise ShellEnded(self._process.wait())
                    status += data
                elif not self._read(descriptor, write):
                    poll.unregister(descriptor)
        self._read_rest(write)
        return int(status)

    def _send(self, code: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write((_RUN + _REPORT).encode())
        self._process.stdin.flush()
        data = memoryview(code.replace("\0", "").encode() + b"\0")
        while data:
            data = data[os.write(self._code, data) :]

    def _read_rest(self, write: Write) -> None:
        for descriptor in self._outputs:
            self._read(descriptor, write)

    def _read(self, descriptor: int, write: Write) -> bool:
        """What is there now; False at its end."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(descriptor, _READ_BYTES):
                write(self._outputs[descriptor], data)
            return False
        return True

    def interrupt(self) -> None:
        """Safe in a signal handler. The service has sent the signal to all of the process group already."""

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        os.close(self._code)
        os.close(self._status)


def _fd(stream: object) -> int:
    return stream.fileno()  # type: ignore[attr-defined]


def _default_signals() -> None:
    """The kernel ignores interrupts; bash and its children must not inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
