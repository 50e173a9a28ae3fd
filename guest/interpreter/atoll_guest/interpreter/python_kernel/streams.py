# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportPrivateUsage=false
"""stdout and stderr of the kernel: every print goes out at once, both in the order of the writes, with
back-pressure.

ipykernel's stream waits 0.2 s before it sends, keeps a buffer per stream (so their order is lost) and lets
it grow without limit. Ours share one list of pending texts; the output thread sends all of it as soon as it
gets to it, so prints in quick succession still travel together; a text without a line end waits a moment
for it. More than MAX_PENDING characters make the writer wait.

What C code and child processes write to file descriptors 1 and 2 arrives through a pipe per stream. A
thread waits for it; `drain` reads what is left when an execution ends, so that `os.system("echo hi")`
belongs to the execution.
"""

import codecs
import os
import select
import threading
from typing import Any

from ipykernel.iostream import IOPubThread, OutStream

MAX_PENDING = 1 << 20
_READ_BYTES = 1 << 16
_MAX_DRAIN_READS = 64
_NEVER_SECONDS = 10.0**8
_SOON_SECONDS = 0.002
"""How long a text that is no whole line waits for its rest: `print` writes the line's end separately."""
_CHILD_MS = 20
"""How long, in an execution that forked, output of a child that has ended may be under way."""
_NONE, _SOON, _NOW = 0, 1, 2


class OutputThread(IOPubThread):
    """One wake-up serves all that is to be done by then; messages that something follows at once need none.

    The periodic clean-up is done by `collect_pipes`: an idle kernel must not wake up.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._is_woken = False
        super().__init__(*args, **kwargs)
        self._event_pipe_gc_seconds = _NEVER_SECONDS

    def schedule(self, f: Any) -> None:
        if not self.thread.is_alive():
            f()
            return
        self._events.append(f)
        if self._is_woken:
            return
        self._is_woken = True
        try:
            self._event_pipe.send(b"")
        except BaseException:  # an interrupt: the next one wakes it
            self._is_woken = False
            raise

    def _handle_event(self, msg: Any) -> None:
        self._is_woken = False
        super()._handle_event(msg)

    def send_multipart(self, *args: Any, **kwargs: Any) -> None:
        if self.thread.is_alive() and _is_patient(args[0]):
            self._events.append(lambda: self._really_send(*args, **kwargs))
        else:
            super().send_multipart(*args, **kwargs)


def _is_patient(frames: Any) -> bool:
    """`busy` is followed by the execution's input, a result by the end of the execution."""
    topic, content = bytes(frames[0]), frames[-1]
    if topic.endswith(b"execute_result"):
        return True
    return topic.endswith(b"status") and isinstance(content, bytes) and b'"busy"' in content


def collect_pipes(thread: Any) -> None:
    """Let go of what ended threads left at the output thread."""
    if len(thread._event_pipes) > 1:
        thread.schedule(lambda: thread.io_loop.add_callback(thread._event_pipe_gc))


def drain(thread: Any) -> None:
    """Take in what other processes and C code have written so far."""
    for stream in _streams:
        stream.read_pipe()
    if _pending.forked:
        _pending.forked = False
        taken = threading.Event()
        thread.schedule(lambda: _take_from_children(thread, taken))
        taken.wait()


def _take_from_children(thread: Any, taken: threading.Event) -> None:
    """In the output thread: forked children send what they print through a socket of it."""
    try:
        while thread._pipe_in.socket.poll(_CHILD_MS):
            thread._pipe_in.flush()
    finally:
        taken.set()


_Entry = tuple["SandboxStream", dict[str, Any], list[str]]


class _Pending:
    """Texts written and not yet sent: (stream, parent header, pieces). One list for both streams."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.entries: list[_Entry] = []
        self.size = 0
        self.urgency = _NONE
        self.forked = False

    def add(self, stream: "SandboxStream", parent: dict[str, Any], text: str) -> int:
        """How soon sending must be scheduled (_NONE: it is already)."""
        with self.lock:
            last = self.entries[-1] if self.entries else None
            if last is not None and last[0] is stream and last[1] is parent:
                last[2].append(text)
            else:
                self.entries.append((stream, parent, [text]))
            self.size += len(text)
            wanted = _NOW if text.endswith("\n") else _SOON
            if wanted <= self.urgency:
                return _NONE
            self.urgency = wanted
            return wanted

    def take(self) -> list[_Entry]:
        with self.lock:
            taken, self.entries = self.entries, []
            self.size = 0
            self.urgency = _NONE
            return taken


_pending = _Pending()
_streams: list["SandboxStream"] = []


def _after_fork() -> None:
    """A child inherits no lock held by another thread, and nothing that its parent will send."""
    global _pending
    _pending = _Pending()


def _note_fork() -> None:
    _pending.forked = True


os.register_at_fork(after_in_child=_after_fork, after_in_parent=_note_fork)


class SandboxStream(OutStream):
    """See the module's text."""

    def __init__(self, session: Any, pub_thread: Any, name: str, **kwargs: Any) -> None:
        self._pipe_lock = threading.Lock()
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        kwargs["echo"] = None  # the original streams lead to the kernel's log, which must not grow
        super().__init__(session, pub_thread, name, **kwargs)
        _streams.append(self)

    def write(self, string: str) -> int:
        if not isinstance(string, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"write() argument must be str, not {type(string)}")
        if self.pub_thread is None:
            raise ValueError("I/O operation on closed file")
        if not string:
            return 0
        urgency = _pending.add(self, self.parent_header, string)
        if urgency:
            self._schedule(urgency)
        if _pending.size > MAX_PENDING:
            self._wait_sent()
        return len(string)

    def _schedule(self, urgency: int) -> None:
        thread: Any = self.pub_thread
        if urgency == _NOW:
            thread.schedule(_send_pending)
        elif thread.thread.is_alive():  # not in a forked child: there the line's end, or the exit, sends it
            thread.schedule(lambda: thread.io_loop.call_later(_SOON_SECONDS, _send_pending))

    def flush(self) -> None:
        """Everything written is with ZeroMQ when this returns; waits as long as the reader is slow."""
        if _pending.entries:
            self._wait_sent()

    def _wait_sent(self) -> None:
        thread: Any = self.pub_thread
        if thread is None or threading.current_thread() is thread.thread or not thread.thread.is_alive():
            _send_pending()
            return
        sent = threading.Event()
        thread.schedule(_send_pending)
        thread.schedule(sent.set)
        sent.wait()

    def send(self, parent: dict[str, Any], text: str) -> None:
        """One message; in the output thread, or in a forked child."""
        content = {"name": self.name, "text": text}
        self.session.pid = os.getpid()  # sending here is safe after a fork, which the session cannot know
        message = self.session.msg("stream", content, parent=parent)
        self.session.send(_Direct(self.pub_thread), message, ident=self.topic)

    def _watch_pipe_fd(self) -> None:
        """The thread that waits for the pipe; ipykernel's reads small bits and echoes them."""
        os.set_blocking(self._pipe, False)
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        while self._should_watch:
            poll.poll()
            if not self.read_pipe():
                return

    @property
    def _pipe(self) -> int:
        assert self._fid is not None  # set before the thread starts
        return self._fid

    def read_pipe(self) -> bool:
        """What is there now; False when the pipe is closed."""
        if not self._should_watch:
            return False
        with self._pipe_lock:
            for _ in range(_MAX_DRAIN_READS):
                try:
                    data = os.read(self._pipe, _READ_BYTES)
                except BlockingIOError:
                    return True
                except OSError:
                    return False
                if not data:
                    return False
                self.write(self._decoder.decode(data))
        return True


class _Direct:
    """The output thread's socket, for `Session.send`, without another trip through the thread's queue."""

    def __init__(self, thread: Any) -> None:
        self._thread = thread

    def send_multipart(self, frames: Any, *args: Any, **kwargs: Any) -> None:
        self._thread._really_send(frames, *args, **kwargs)


def _send_pending() -> None:
    for stream, parent, pieces in _pending.take():
        stream.send(parent, "".join(pieces))
