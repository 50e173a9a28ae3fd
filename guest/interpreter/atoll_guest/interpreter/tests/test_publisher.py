# pyright: reportUnknownMemberType=false
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

pytest.importorskip("tornado")
from tornado.ioloop import IOLoop

from atoll_guest.interpreter import zmtp
from atoll_guest.interpreter.python_kernel.publisher import Publisher


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    loops: list[IOLoop] = []
    made: list[Publisher] = []
    ready = threading.Event()

    def serve() -> None:
        loop = IOLoop(make_current=False)
        loops.append(loop)
        made.append(Publisher(str(tmp_path / "socket"), None))
        made[0].serve(loop)
        loop.add_callback(ready.set)
        loop.start()
        loop.close()

    thread = threading.Thread(target=serve)
    thread.start()
    assert ready.wait(10)
    yield made[0]
    loops[0].add_callback(loops[0].stop)
    thread.join(10)
    made[0].close()


def connect(path: Path) -> socket.socket:
    """A subscriber that has been greeted; what it subscribes to counts a moment later."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(str(path / "socket"))
    connection.settimeout(10)
    connection.sendall(zmtp.GREETING + zmtp.encode_ready("SUB") + zmtp.encode_message([zmtp.SUBSCRIBE_ALL]))
    expected = len(zmtp.GREETING + zmtp.encode_ready("PUB"))
    greeting = b""
    while len(greeting) < expected:
        greeting += connection.recv(expected - len(greeting))
    zmtp.check_greeting(greeting[: zmtp.GREETING_SIZE])
    return connection


def receive(connection: socket.socket, count: int) -> list[list[bytes]]:
    decoder = zmtp.Decoder()
    messages: list[list[bytes]] = []
    while len(messages) < count:
        messages += decoder.feed(connection.recv(1 << 20))
    return messages


def wait_subscribed(publisher: Publisher, connection: socket.socket) -> None:
    """Says something until it is heard."""
    connection.settimeout(0.02)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        publisher.send_multipart([b"?"])
        try:
            receive(connection, 1)
        except TimeoutError:
            continue
        connection.settimeout(10)
        return
    raise AssertionError("the subscription was not seen")


def test_zeromqs_own_subscriber_reads_it(publisher: Publisher, tmp_path: Path) -> None:
    with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        subscriber.linger = 0
        subscriber.subscribe(b"")
        subscriber.connect(f"ipc://{tmp_path}/socket")
        deadline = time.monotonic() + 10
        while not subscriber.poll(20):
            assert time.monotonic() < deadline
            publisher.send_multipart([b"topic", memoryview(b"x" * 300), b""])
        assert subscriber.recv_multipart() == [b"topic", b"x" * 300, b""]


def test_a_held_message_goes_with_the_next(publisher: Publisher, tmp_path: Path) -> None:
    with connect(tmp_path) as connection:
        wait_subscribed(publisher, connection)
        publisher.send_multipart([b"one"], is_held=True)
        connection.settimeout(0.05)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(10)
        publisher.send_multipart([b"two"])
        assert receive(connection, 2) == [[b"one"], [b"two"]]


def test_who_publishes_waits_for_a_slow_reader_and_nothing_is_lost(
    publisher: Publisher, tmp_path: Path
) -> None:
    sent = [[b"%d" % number, bytes([number]) * 200_000] for number in range(50)]
    with connect(tmp_path) as connection:
        wait_subscribed(publisher, connection)
        sender = threading.Thread(target=lambda: [publisher.send_multipart(parts) for parts in sent])
        sender.start()
        sender.join(0.2)
        assert sender.is_alive()
        assert receive(connection, len(sent)) == sent
        sender.join(10)
        assert not sender.is_alive()


def test_a_reader_that_leaves_holds_nobody_up(publisher: Publisher, tmp_path: Path) -> None:
    connection = connect(tmp_path)
    wait_subscribed(publisher, connection)
    sender = threading.Thread(target=lambda: [publisher.send_multipart([b"x" * 100_000]) for _ in range(50)])
    sender.start()
    sender.join(0.1)
    connection.close()
    sender.join(10)
    assert not sender.is_alive()


def test_who_speaks_something_else_is_let_go(publisher: Publisher, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(tmp_path / "socket"))
        connection.settimeout(10)
        connection.sendall(zmtp.GREETING + b"\x04\x07\x05ERROR\x00")
        while connection.recv(4096):
            pass
    publisher.send_multipart([b"still there"])
