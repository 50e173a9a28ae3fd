"""A server that replaces a running one: nothing is refused, nothing is cut, sandboxes go on."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pyqwest
import pytest
from e2b import Sandbox

from server_process import ServerProcess, own_network, server

pytestmark = [pytest.mark.machine, pytest.mark.timeout(300)]

SERVICE = Path(__file__).parent / "door" / "service.py"
TEMPLATE = "code-interpreter-v1"


@pytest.fixture(scope="module")
def atoll(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One of its own, whose address range lies beside that of the other suites."""
    with server(tmp_path_factory.mktemp("atoll-home"), {"ATOLL_NETWORK": own_network(2)}) as it:
        yield it


@dataclass
class Stream:
    """An open `/events` of the service inside."""

    connection: socket.socket
    lines: Iterator[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.lines = iter(self.connection.makefile("rb"))

    def read_until(self, line: bytes) -> None:
        assert any(got == line for got in self.lines), "the stream ended"

    def close(self) -> None:
        """Although a reader of it is kept."""
        self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()

    @property
    def has_ended(self) -> bool:
        with contextlib.suppress(OSError):
            return not any(line == b"data: never\n" for line in self.lines)
        return True


def open_stream(atoll: ServerProcess, sandbox: Sandbox, domain: dict[str, str] | None = None) -> Stream:
    """In plain HTTP, or by the domain over https."""
    host, _, port = atoll.url.removeprefix("http://").partition(":")
    name = f"3000-{sandbox.sandbox_id}.example.org"
    if domain is None:
        connection = socket.create_connection((host, int(port)), 30)
    else:
        name = f"3000-{sandbox.sandbox_id}.{domain['E2B_DOMAIN']}"
        raw = socket.create_connection((host, int(name.rpartition(":")[2])), 30)
        trust = ssl.create_default_context(cafile=domain["SSL_CERT_FILE"])
        connection = trust.wrap_socket(raw, server_hostname=name.partition(":")[0])
    connection.sendall(f"GET /events HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
    stream = Stream(connection)
    stream.read_until(b"data: open\n")
    return stream


def start_service(sandbox: Sandbox) -> None:
    sandbox.files.write("/home/user/service.py", SERVICE.read_bytes())
    service = sandbox.commands.run("python3 service.py 0.0.0.0:3000", background=True, timeout=0)
    assert any("ready" in (out or "") for out, _, _ in service)
    service.disconnect()


class Visitors:
    """Ask again and again until told to leave; each keeps what went wrong."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.visits = 0
        self._leave = threading.Event()
        self._threads: list[threading.Thread] = []

    def send(self, name: str, ask: Callable[[], int]) -> None:
        """``ask`` returns the status it got."""

        def go() -> None:
            while not self._leave.is_set():
                try:
                    if (status := ask()) != 200:
                        self.failures.append(f"{name}: {status}")
                except Exception as error:
                    self.failures.append(f"{name}: {error!r} at {time.time():.1f}")
                self.visits += 1
                time.sleep(0.01)

        self._threads.append(threading.Thread(target=go))
        self._threads[-1].start()

    def leave(self) -> None:
        self._leave.set()
        for thread in self._threads:
            thread.join()


def replace(atoll: ServerProcess, *, busy: bool = True) -> ServerProcess:
    """Starts another server in the place of this one, ``busy`` with streams; returns when it has the machine
    and answers."""
    old, successor = atoll.process, ServerProcess(atoll.environ)
    successor.start("--replace")
    assert successor.process is not None
    deadline = time.monotonic() + 60
    while _holder(atoll) != successor.process.pid:
        assert time.monotonic() < deadline, (atoll.home / "server.log").read_text()[-4000:]
        time.sleep(0.05)
    assert old is not None
    assert not busy or old.poll() is None, "the old server ended although streams are open"
    return successor


def _holder(atoll: ServerProcess) -> int | None:
    with contextlib.suppress(ValueError):
        return json.loads((atoll.home / "run" / "server.pid").read_text())["pid"]
    return None


def _caddy(atoll: ServerProcess) -> int | None:
    """The process that has the https port."""
    port = f":{int(atoll.environ['ATOLL_TLS_PORT']):04X} "
    listening = [
        line for line in Path("/proc/net/tcp").read_text().splitlines() if f"{port}00000000:0000 0A" in line
    ]
    inode = f"socket:[{listening[0].split()[9]}]"
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(os.readlink(link) == inode for link in (process / "fd").iterdir()):
                return int(process.name)
    return None


def test_a_replaced_server_refuses_nothing_and_cuts_nothing(
    atoll: ServerProcess, sdk_environment: None
) -> None:
    old, domain = atoll.process, atoll.domain_environ()
    assert old is not None
    with Sandbox.create(TEMPLATE, timeout=600) as kept, Sandbox.create(TEMPLATE, timeout=600) as killed:
        for sandbox in (kept, killed):
            start_service(sandbox)
        streams = [open_stream(atoll, kept) for _ in range(10)]
        streams += [open_stream(atoll, kept, domain) for _ in range(10)]
        doomed = [open_stream(atoll, killed), open_stream(atoll, killed, domain)]
        command = kept.commands.run("while read x; do echo got $x; done", background=True, stdin=True)
        visitors = _send_visitors(atoll, kept, domain)
        caddy = _caddy(atoll)
        try:
            successor = replace(atoll)
            visited = visitors.visits
            assert _caddy(atoll) == caddy, "https goes on by the same Caddy"
            httpx.post(
                f"{atoll.url}/say", content="after", headers={"Host": f"3000-{kept.sandbox_id}.example.org"}
            )
            for stream in streams:
                stream.read_until(b"data: after\n")
            kept.commands.send_stdin(command.pid, "one\n")
            assert next(out for out, _, _ in command if out) == "got one\n"
            with Sandbox.create(TEMPLATE, timeout=60) as fresh:
                assert fresh.commands.run("echo fresh").stdout == "fresh\n"
            assert killed.kill()
            assert [stream.has_ended for stream in doomed] == [True, True]
            successor_domain = successor.domain_environ()
            streams.append(open_stream(atoll, kept, successor_domain))
            while visitors.visits < visited + 200:
                time.sleep(0.05)
        finally:
            visitors.leave()
        assert visitors.failures == [], "\n".join(visitors.failures)
        command.disconnect()
        for stream in streams:
            stream.close()
        assert old.wait(timeout=40) == 0, "nothing is open any more"
        atoll.process = successor.process
        assert kept.commands.run("echo lives").stdout == "lives\n"


def _send_visitors(atoll: ServerProcess, sandbox: Sandbox, domain: dict[str, str]) -> Visitors:
    visitors = Visitors()
    key = {"X-API-Key": atoll.environ["E2B_API_KEY"]}
    host = {"Host": f"3000-{sandbox.sandbox_id}.example.org"}
    public = f"https://3000-{sandbox.sandbox_id}.{domain['E2B_DOMAIN']}/echo"
    trust = ssl.create_default_context(cafile=domain["SSL_CERT_FILE"])
    kept = httpx.Client(timeout=60)
    # The published SDK's own transport, over HTTP/2.
    root = Path(domain["SSL_CERT_FILE"]).read_bytes()
    sdk = pyqwest.SyncClient(pyqwest.SyncHTTPTransport(tls_ca_cert=root))

    def once(method: str, url: str, **named: Any) -> int:
        return httpx.request(method, url, timeout=60, **named).status_code

    one = f"{atoll.url}/sandboxes/{sandbox.sandbox_id}"
    visitors.send("new connections", lambda: once("POST", f"{atoll.url}/echo", content=b"x", headers=host))
    visitors.send("new connections, API", lambda: once("GET", one, headers=key))
    visitors.send("new connections, https", lambda: once("POST", public, content=b"x", verify=trust))
    visitors.send("one connection", lambda: kept.post(f"{atoll.url}/echo", headers=host).status_code)
    visitors.send("one connection, API", lambda: kept.get(one, headers=key).status_code)
    visitors.send("HTTP/2", lambda: sdk.get(public, timeout=30).status)
    return visitors


def test_whatever_moves_meanwhile_arrives(atoll: ServerProcess, sdk_environment: None) -> None:
    """Creates, pauses, resumes, resumes by traffic, deadlines: each begun before, while and after another
    server takes over."""
    old, atoll.process = atoll.process, atoll.process
    lifecycle: Any = {"on_timeout": "pause", "auto_resume": True}
    visitors = Visitors()
    with (
        Sandbox.create(TEMPLATE, timeout=600) as slept,
        Sandbox.create(TEMPLATE, timeout=600, lifecycle=lifecycle) as woken,
    ):
        slept.files.write("kept", "kept")

        def create_and_kill() -> int:
            with Sandbox.create(TEMPLATE, timeout=60, retries=0) as made:
                return 200 if made.commands.run("echo made").stdout == "made\n" else 0

        def pause_and_resume() -> int:
            slept.pause(retries=0)
            slept.connect(retries=0)
            return 200 if slept.files.read("kept") == "kept" else 0

        def pause_and_be_woken() -> int:
            woken.pause(retries=0)
            return 200 if woken.commands.run("echo woken").stdout == "woken\n" else 0

        for ask in (create_and_kill, pause_and_resume, pause_and_be_woken):
            visitors.send(ask.__name__, ask)
        try:
            for _ in range(3):
                visited = visitors.visits
                while visitors.visits < visited + 5:
                    time.sleep(0.05)
                replaced = atoll.process
                atoll.process = replace(atoll, busy=False).process
                assert replaced is not None
                assert replaced.wait(timeout=60) == 0
        finally:
            visitors.leave()
        assert visitors.failures == [], "\n".join(visitors.failures)
    assert old is not atoll.process
    assert Sandbox.list().next_items() == []


@pytest.mark.parametrize("seconds", [0.6, 0.9, 1.3, 1.8], ids="killed after {} s".format)
def test_a_successor_that_dies_leaves_the_old_server(
    atoll: ServerProcess, sdk_environment: None, seconds: float
) -> None:
    successor = ServerProcess(atoll.environ)

    def fail() -> None:
        launched = successor.launch("--replace")
        with contextlib.suppress(subprocess.TimeoutExpired):
            launched.wait(timeout=seconds)
        launched.kill()
        launched.wait()

    _survive(atoll, fail)


def test_a_successor_that_cannot_serve_leaves_the_old_server(
    atoll: ServerProcess, sdk_environment: None
) -> None:
    """Of what it is missing it learns when it has the machine already."""
    successor = ServerProcess(
        {**atoll.environ, "ATOLL_TLS": "on", "ATOLL_TLS_CERT": "/no", "ATOLL_TLS_KEY": "/no"}
    )
    _survive(atoll, lambda: _fails(successor.launch("--replace")))
    assert "/no is missing" in (atoll.home / "server.log").read_text()


def _fails(launched: subprocess.Popen[bytes]) -> None:
    assert launched.wait(timeout=60) == 1


def _survive(atoll: ServerProcess, fail: Callable[[], None]) -> None:
    """Nobody notices, streams and sandboxes go on; the next one takes over as ever."""
    with Sandbox.create(TEMPLATE, timeout=600) as kept, Sandbox.create(TEMPLATE, timeout=600) as killed:
        for sandbox in (kept, killed):
            start_service(sandbox)
        domain = atoll.domain_environ()
        streams = [open_stream(atoll, kept), open_stream(atoll, kept, domain)]
        doomed = open_stream(atoll, killed)
        visitors = _send_visitors(atoll, kept, domain)
        try:
            fail()
            visited = visitors.visits
            while visitors.visits < visited + 100:
                time.sleep(0.05)
            httpx.post(
                f"{atoll.url}/say", content="after", headers={"Host": f"3000-{kept.sandbox_id}.example.org"}
            )
            for stream in streams:
                stream.read_until(b"data: after\n")
            with Sandbox.create(TEMPLATE, timeout=60) as fresh:
                assert fresh.commands.run("echo fresh").stdout == "fresh\n"
            assert killed.kill()
            assert doomed.has_ended
        finally:
            visitors.leave()
        assert visitors.failures == [], "\n".join(visitors.failures)
        assert atoll.process is not None
        assert atoll.process.poll() is None
        assert _holder(atoll) == atoll.process.pid
        for stream in streams:
            stream.close()


def test_a_server_with_another_address_does_not_take_over(atoll: ServerProcess) -> None:
    other = ServerProcess({**atoll.environ, "ATOLL_PORT": "1"})
    told = other.run("atolld", "serve", "--replace")
    assert told.returncode == 1
    assert "give both one ATOLL_PORT" in told.stderr
    assert httpx.get(f"{atoll.url}/health").status_code == 204


def test_with_nobody_to_replace_it_just_starts(atoll: ServerProcess) -> None:
    atoll.kill(15)
    atoll.start("--replace")
    assert httpx.get(f"{atoll.url}/health").status_code == 204
