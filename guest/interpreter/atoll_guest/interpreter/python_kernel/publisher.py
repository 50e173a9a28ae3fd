"""The kernel's output socket: ZeroMQ's PUB on a unix socket, written by whoever has something to say.

libzmq would hand each message to a thread of its own; two changes of thread a print, about a millisecond each
in gVisor. Who publishes waits while a reader is slow (libzmq's PUB drops).

An interrupt may strike the main thread between any two bytecodes. What a socket has taken is therefore noted
inside one call (`list.extend` over `map`), so that no message is ever sent twice or in half.
"""

import logging
import queue
import select
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from atoll_guest.interpreter import zmtp

_log = logging.getLogger(__name__)
_SEND_BUFFER_BYTES = 256 * 1024
_PIECE_BYTES = 1 << 20
_SMALL_BYTES = 64 * 1024
"""Up to here one system call is worth a copy."""


class _Reader:
    """One connection: bytes of whole messages, the first of which may be under way."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self.connection = connection
        self.is_subscribed = False
        self.is_gone = False
        self._greeting_bytes = zmtp.GREETING_SIZE
        self._decoder = zmtp.Decoder()
        self._waiting: deque[bytes] = deque()
        self._under_way: tuple[bytes, list[int]] = (b"", [])
        self._is_pushing = False

    def greet(self) -> None:
        """A fresh connection's buffer has room for it."""
        self.connection.send(zmtp.GREETING + zmtp.encode_ready("PUB"))

    def take_in(self) -> None:
        """What it asks for: whoever subscribes to anything gets all, as Jupyter's clients want."""
        try:
            data = self.connection.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.is_gone = True
            return
        skipped = min(self._greeting_bytes, len(data))
        self._greeting_bytes -= skipped
        try:
            for message in self._decoder.feed(data[skipped:]):
                self.is_subscribed = self.is_subscribed or message[0][:1] == b"\x01"
        except zmtp.ZmtpError:
            self.is_gone = True

    def add(self, pieces: Sequence[bytes]) -> None:
        self._waiting.extend(pieces)

    @property
    def is_behind(self) -> bool:
        return bool(self._waiting) and not self.is_gone

    def push(self) -> bool:
        """Hand over what the socket takes; whether that was all. Under the publisher's lock."""
        if self._is_pushing:
            return True  # a signal's handler that prints: what it interrupted goes on to send it
        self._is_pushing = True
        try:
            while self._waiting and not self.is_gone:
                if self._waiting[0] is not self._under_way[0]:
                    self._under_way = (self._waiting[0], [])
                data, taken = self._under_way
                position = sum(taken)
                if position == len(data):
                    self._waiting.popleft()
                    continue
                piece = memoryview(data)[position : position + _PIECE_BYTES]
                taken.extend(map(self.connection.send, (piece,)))
        except BlockingIOError:
            return False
        except OSError:
            self.is_gone = True
        finally:
            self._is_pushing = False
        return True


class Publisher:
    """Looks to ipykernel like the ZeroMQ socket it takes the place of."""

    def __init__(self, path: str, context: Any) -> None:
        self.context = context
        self._lock = threading.RLock()
        self._readers: list[_Reader] = []
        self._held: list[bytes] = []
        self._orders: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen()
        self._listener.setblocking(False)
        threading.Thread(target=self._work, name="Output", daemon=True).start()

    def serve(self, loop: Any) -> None:
        """Take connections in a tornado loop."""
        self._loop = loop
        loop.add_handler(self._listener, self._accept, loop.READ)

    def close(self) -> None:
        self._listener.close()
        for reader in self._readers:
            reader.connection.close()
        self._readers = []

    def _accept(self, _socket: Any, _events: Any) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return  # it has hung up already
        reader = _Reader(connection)
        reader.greet()
        with self._lock:
            self._readers.append(reader)
        self._loop.add_handler(connection, partial(self._take_in, reader), self._loop.READ)

    def _take_in(self, reader: _Reader, _socket: Any, _events: Any) -> None:
        reader.take_in()
        if reader.is_gone:
            self._loop.remove_handler(reader.connection)
            with self._lock:
                self._readers.remove(reader)
            reader.connection.close()

    # --- publishing

    def send_multipart(self, frames: Sequence[Any], *, is_held: bool = False, **_options: Any) -> None:
        """Waits while a reader is slow. A held message goes with the one that follows it."""
        parts = [frame if isinstance(frame, bytes) else bytes(frame) for frame in frames]
        pieces = zmtp.encode_pieces(parts)
        with self._lock:
            pieces, self._held = [*self._held, *pieces], []
            if is_held:
                self._held = pieces
                return
            if sum(map(len, pieces)) < _SMALL_BYTES:
                pieces = [b"".join(pieces)]
            for reader in self._readers:
                if reader.is_subscribed:
                    reader.add(pieces)
        self._finish()

    def _push(self) -> bool:
        with self._lock:
            return sum(reader.push() for reader in self._readers) == len(self._readers)

    def _finish(self) -> None:
        """An interrupt of the wait leaves the rest for the next message; each execution's end is one."""
        while not self._push():
            poll = select.poll()
            with self._lock:
                for reader in (each for each in self._readers if each.is_behind):
                    poll.register(reader.connection, select.POLLOUT)
            poll.poll()

    def order(self, work: Callable[[], None]) -> None:
        """Have something done by the output thread, which sleeps otherwise."""
        self._orders.put(work)

    def _work(self) -> None:
        while True:
            work = self._orders.get()
            try:
                work()
            except Exception:
                _log.exception("output of the code could not be sent")
