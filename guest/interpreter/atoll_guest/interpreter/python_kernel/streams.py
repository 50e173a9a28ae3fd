# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportPrivateUsage=false
"""stdout and stderr of the kernel: a print goes out at once, both in the order of the writes, with
back-pressure.

ipykernel's stream waits 0.2 s before it sends, keeps a buffer per stream (so their order is lost) and lets
it grow without limit. Ours share one list of pending texts. The thread that prints a line sends it itself,
unless something was sent a moment ago: then a second thread sends what has come together when the moment is
over, and so it does with a text without a line end. More than MAX_PENDING characters make the writer send.

What C code and child processes write to file descriptors 1 and 2 arrives through a pipe per stream. A
thread waits for it; `drain` reads what is left when an execution ends, so that `os.system("echo hi")`
belongs to the execution.
"""

import codecs
import contextlib
import os
import select
import threading
import time
from collections import deque
from itertools import groupby
from typing import Any

from ipykernel.iostream import IOPubThread, OutStream

from .publisher import Publisher

MAX_PENDING = 1 << 20
_READ_BYTES = 1 << 16
_MAX_DRAIN_READS = 64
_NEVER_SECONDS = 10.0**8
_MOMENT_SECONDS = 0.002
_FLOOD_SECONDS = 0.008
"""As long as output comes by the hundred lines a moment, where each message would only slow it down."""
_FLOOD_WRITES = 200
_LINE_WRITES = 4
"""`print` writes a line in two or more goes."""
_CHILD_MS = 20
"""How long, in an execution that forked, output of a child that has ended may be under way."""


class OutputThread(IOPubThread):
    """ipykernel's thread is left with what forked children print, and with new connections."""

    def __init__(self, publisher: Publisher) -> None:
        super().__init__(publisher, pipe=True)  # pyright: ignore[reportArgumentType]
        self._event_pipe_gc_seconds = _NEVER_SECONDS  # an idle kernel must not wake up
        self.publisher = publisher
        publisher.serve(self.io_loop)

    def send_multipart(self, *args: Any, **kwargs: Any) -> None:
        if self._is_master_process():
            self.publisher.send_multipart(args[0], is_held=_has_company(args[0]))
        else:
            self._really_send(*args, **kwargs)


def _has_company(frames: Any) -> bool:
    """`busy` is followed by the execution's input, a result by the end of the execution."""
    topic, content = bytes(frames[0]), frames[-1]
    if topic.endswith(b"execute_result"):
        return True
    return topic.endswith(b"status") and isinstance(content, bytes) and b'"busy"' in content


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


_Entry = tuple["SandboxStream", dict[str, Any], str]


class _Pending:
    """Texts written and not yet sent: (stream, parent header, text). One list for both streams.

    Written to by any thread without a lock: to add to a deque, and to take from it, is one step.
    """

    def __init__(self, *, is_in_child: bool = False) -> None:
        self.is_in_child = is_in_child
        self.forked = False
        self._texts: deque[_Entry] = deque()
        self._size = 0
        self._sending = threading.RLock()
        self._is_awaited = False
        self._sent_at = 0.0
        self._moment = _MOMENT_SECONDS

    def add(self, stream: "SandboxStream", parent: dict[str, Any], text: str) -> None:
        self._texts.append((stream, parent, text))
        self._size += len(text)
        if self._size > MAX_PENDING or (text[-1] == "\n" and self._is_alone()):
            self.send()
        elif not (self._is_awaited or self.is_in_child):
            self._is_awaited = True
            stream.publisher.order(self._send_in_a_moment)

    def _is_alone(self) -> bool:
        """Not one of many lines, which travel together."""
        if self.is_in_child:
            return True
        return len(self._texts) <= _LINE_WRITES and time.monotonic() - self._sent_at > self._moment

    def send(self) -> None:
        """All of it; who comes second waits for the first, so that what it sends next follows."""
        with self._sending:
            count, self._size = len(self._texts), 0
            self._moment = _MOMENT_SECONDS if count < _FLOOD_WRITES else _FLOOD_SECONDS
            taken: list[_Entry] = []
            with contextlib.suppress(IndexError):  # a signal's handler has printed, and so sent it
                for _ in range(count):
                    taken.append(self._texts.popleft())  # noqa: PERF401
            for (stream, _), texts in groupby(taken, key=lambda entry: (entry[0], id(entry[1]))):
                entries = list(texts)
                stream.send(entries[0][1], "".join([text for _, _, text in entries]))
                self._sent_at = time.monotonic()

    def _send_in_a_moment(self) -> None:
        time.sleep(self._moment)  # not until something is so, but for more to come
        self._is_awaited = False
        self.send()


_pending = _Pending()
_streams: list["SandboxStream"] = []


def _after_fork() -> None:
    """A child inherits no lock held by another thread, and nothing that its parent will send."""
    global _pending
    _pending = _Pending(is_in_child=True)


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
        _pending.add(self, self.parent_header, string)
        return len(string)

    @property
    def publisher(self) -> Publisher:
        thread: Any = self.pub_thread
        return thread.publisher

    def flush(self) -> None:
        """Everything written is with the readers' sockets when this returns; waits while a reader is slow."""
        if self.pub_thread is not None:
            _pending.send()

    def send(self, parent: dict[str, Any], text: str) -> None:
        """One message."""
        content = {"name": self.name, "text": text}
        self.session.pid = os.getpid()  # sending here is safe after a fork, which the session cannot know
        message = self.session.msg("stream", content, parent=parent)
        self.session.send(self.pub_thread, message, ident=self.topic)

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
