"""The front door of a real server, services in a real sandbox behind it: what passes, what it answers
itself."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BufferedRWPair
from pathlib import Path

import httpx
import pytest
from e2b import CommandHandle, Sandbox

from server_process import ServerProcess

pytestmark = pytest.mark.machine

SERVICE = Path(__file__).parent / "door" / "service.py"
TEMPLATE = "code-interpreter-v1"
OPEN, INSIDE, TLS, TLS_INSIDE, CLOSED = 3000, 3001, 3443, 3444, 3999
SLOW_SECONDS = int(os.environ.get("ATOLL_SLOW_SECONDS", "6"))
"""How long the slow reader reads; its GiB lasts 18 minutes."""
SILENT_SECONDS = int(os.environ.get("ATOLL_SILENT_SECONDS", "3"))
UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
BROWSER = {"Accept": "text/html,*/*", "User-Agent": "Mozilla/5.0 (X11)"}


@dataclass
class Guest:
    """A sandbox with the service on a public port and on one of its loopback, and on two more that speak TLS,
    of which the door was told."""

    sandbox: Sandbox
    server: ServerProcess
    domain_environ: dict[str, str] = field(default_factory=dict[str, str])

    def host(self, port: int) -> str:
        return f"{port}-{self.sandbox.sandbox_id}.example.org"

    def client(self, scheme: str) -> httpx.Client:
        """One that reaches the door in plain HTTP, or through https by the domain."""
        if scheme == "http":
            return httpx.Client(base_url=self.server.url, timeout=20)
        return httpx.Client(verify=self._trust(), timeout=20)

    def url(self, scheme: str, port: int, path: str = "/") -> tuple[str, dict[str, str]]:
        """Where a client of :meth:`client` finds the port, and the headers it needs."""
        if scheme == "http":
            return path, {"Host": self.host(port)}
        return f"https://{self._public(port)}{path}", {}

    def connect(self, scheme: str, port: int) -> tuple[socket.socket, str]:
        """A raw connection to the door and the Host to name on it."""
        if scheme == "http":
            host, at = self.server.url.removeprefix("http://").split(":")
            return socket.create_connection((host, int(at)), 20), self.host(port)
        public = self._public(port)
        raw = socket.create_connection(("127.0.0.1", int(public.rpartition(":")[2])), 20)
        return self._trust().wrap_socket(raw, server_hostname=public.partition(":")[0]), public

    def _public(self, port: int) -> str:
        return f"{port}-{self.sandbox.sandbox_id}.{self.domain_environ['E2B_DOMAIN']}"

    def _trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.domain_environ["SSL_CERT_FILE"])


@pytest.fixture(scope="module")
def guest(atoll: ServerProcess) -> Iterator[Guest]:
    with atoll.serves_sdks():
        sandbox = Sandbox.create(
            TEMPLATE,
            timeout=900 + SLOW_SECONDS + SILENT_SECONDS,
            network={"https_ports": [TLS, TLS_INSIDE]},
        )
    sandbox.files.write("/home/user/service.py", SERVICE.read_bytes())
    places = f"0.0.0.0:{OPEN} 127.0.0.1:{INSIDE} 0.0.0.0:{TLS}:tls 127.0.0.1:{TLS_INSIDE}:tls"
    command = f"python3 service.py {places}"
    service = sandbox.commands.run(command, background=True, timeout=0)
    _wait_ready(service)
    yield Guest(sandbox, atoll, atoll.domain_environ())
    sandbox.kill()


def _wait_ready(service: CommandHandle) -> None:
    for out, _, _ in service:
        if out and "ready" in out:
            return
    raise AssertionError("the service inside ended")


# --- what passes, in plain HTTP and through https

schemes = pytest.mark.parametrize("scheme", ["http", "https"])
ports = pytest.mark.parametrize("port", [OPEN, INSIDE], ids=["public", "loopback"])


@schemes
@ports
def test_requests_reach_services_wherever_they_listen(guest: Guest, scheme: str, port: int) -> None:
    with guest.client(scheme) as client:
        url, headers = guest.url(scheme, port, "/echo")
        for body in (b"", b"x" * 10, os.urandom(300_000)):
            assert client.post(url, content=body, headers=headers).content == body


@schemes
@ports
def test_a_websocket_echoes(guest: Guest, scheme: str, port: int) -> None:
    connection, host = guest.connect(scheme, port)
    with connection, connection.makefile("rb") as reader:
        connection.sendall(f"GET /ws HTTP/1.1\r\nHost: {host}\r\n{UPGRADE}\r\n".encode())
        assert reader.readline().startswith(b"HTTP/1.1 101")
        while reader.readline() != b"\r\n":
            pass
        for message in (b"hello", b"\xff" * 120):
            connection.sendall(b"\x82" + bytes([0x80 | len(message)]) + bytes(4) + message)
            assert reader.read(2 + len(message)) == b"\x82" + bytes([len(message)]) + message
        connection.sendall(b"\x88\x80" + bytes(4))
        assert reader.read() == b"\x88\x00"


@schemes
@ports
def test_server_sent_events_arrive_as_they_are_sent(guest: Guest, scheme: str, port: int) -> None:
    with guest.client(scheme) as client, guest.client(scheme) as other:
        url, headers = guest.url(scheme, port, "/events")
        with client.stream("GET", url, headers=headers) as stream:
            events = (line for line in stream.iter_lines() if line)
            assert next(events) == "data: open"
            for word in ("one", "two"):
                url, headers = guest.url(scheme, port, "/say")
                other.post(url, content=word, headers=headers)
                assert next(events) == f"data: {word}"


@schemes
def test_a_service_sees_its_public_host(guest: Guest, scheme: str) -> None:
    with guest.client(scheme) as client:
        url, headers = guest.url(scheme, OPEN, "/headers")
        seen = client.get(url, headers={**headers, "Cookie": "a=b"}).json()
    assert seen["host"].startswith(f"{OPEN}-{guest.sandbox.sandbox_id}.")
    assert seen["cookie"] == "a=b"


@schemes
@pytest.mark.parametrize("port", [TLS, TLS_INSIDE], ids=["public", "loopback"])
def test_services_that_speak_tls_themselves(guest: Guest, scheme: str, port: int) -> None:
    with guest.client(scheme) as client:
        url, headers = guest.url(scheme, port, "/echo")
        body = os.urandom(300_000)
        assert client.post(url, content=body, headers=headers).content == body
    told = guest.sandbox.get_info().network or {}
    assert sorted(told.get("https_ports", ())) == [TLS, TLS_INSIDE]


def test_a_port_that_speaks_no_tls_though_it_should(guest: Guest) -> None:
    with Sandbox.create(TEMPLATE, timeout=120, network={"https_ports": [OPEN]}) as plain:
        plain.commands.run("python3 -m http.server 3000", background=True)
        host = f"{OPEN}-{plain.sandbox_id}.example.org"
        while b"port is not open" in (answer := ask(guest, host)).content:
            pass
    assert answer.status_code == 502
    assert "does not speak TLS on this port" in answer.json()["message"]


def test_a_masked_host_is_what_services_see_also_after_a_pause(guest: Guest) -> None:
    network = {"mask_request_host": "localhost:${PORT}"}
    with Sandbox.create(TEMPLATE, timeout=120, network=network) as masked:  # type: ignore[arg-type]
        masked.files.write("/home/user/service.py", SERVICE.read_bytes())
        _wait_ready(masked.commands.run(f"python3 service.py 127.0.0.1:{OPEN}", background=True, timeout=0))
        host = f"{OPEN}-{masked.sandbox_id}.example.org"
        for _ in range(2):
            seen = ask(guest, host, "/headers").json()
            assert (seen["host"], seen["x-forwarded-host"]) == (f"localhost:{OPEN}", host)
            assert masked.get_info().network == network
            masked.pause()
            masked.connect()


def test_the_routing_headers_lead_to_a_sandbox_too(guest: Guest) -> None:
    headers = {"E2b-Sandbox-Id": guest.sandbox.sandbox_id, "E2b-Sandbox-Port": str(INSIDE)}
    assert httpx.get(f"{guest.server.url}/", headers=headers).text == "hello"


# --- what the door answers itself


def ask(guest: Guest, host: str, path: str = "/", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.get(f"{guest.server.url}{path}", headers={"Host": host, **named}, timeout=20)


def test_a_closed_port(guest: Guest) -> None:
    answer = ask(guest, guest.host(CLOSED))
    assert answer.status_code == 502
    assert answer.json() == {
        "sandboxId": guest.sandbox.sandbox_id,
        "message": "The sandbox is running but port is not open",
        "port": CLOSED,
        "code": 502,
    }


def test_a_closed_port_is_told_fast(guest: Guest) -> None:
    """Asking the daemon inside as well costs little."""
    with guest.client("http") as client:
        url, headers = guest.url("http", CLOSED)
        began = time.perf_counter()
        for _ in range(50):
            assert client.get(url, headers=headers).status_code == 502
        each = (time.perf_counter() - began) / 50
    print(f"a closed port is told in {each * 1000:.1f} ms")
    assert each < 0.05


def test_an_unknown_sandbox_and_one_that_was_killed(guest: Guest) -> None:
    gone = Sandbox.create(TEMPLATE, timeout=60)
    assert gone.kill()
    for sandbox_id in ("i0unknown", gone.sandbox_id):
        answer = ask(guest, f"49983-{sandbox_id}.example.org", "/health")
        assert answer.status_code == 502
        assert answer.json() == {
            "sandboxId": sandbox_id,
            "message": "The sandbox was not found",
            "code": 502,
        }


@pytest.mark.parametrize(
    ("port", "sandbox_id", "words"),
    [(CLOSED, None, "port is not open"), (OPEN, "i0unknown", "The sandbox was not found")],
)
def test_browsers_get_a_page(guest: Guest, port: int, sandbox_id: str | None, words: str) -> None:
    host = f"{port}-{sandbox_id or guest.sandbox.sandbox_id}.example.org"
    answer = httpx.get(f"{guest.server.url}/", headers={"Host": host, **BROWSER})
    assert answer.status_code == 502
    assert answer.headers["content-type"].startswith("text/html")
    assert words in answer.text


@pytest.mark.parametrize(
    ("host", "headers", "body"),
    [
        ("localhost", {"E2b-Sandbox-Id": "i1"}, "missing header"),
        ("localhost", {"E2b-Sandbox-Port": "80"}, "missing header"),
        ("localhost", {"E2b-Sandbox-Id": "i_1", "E2b-Sandbox-Port": "80"}, "Invalid sandbox ID"),
        ("localhost", {"E2b-Sandbox-Id": "i1", "E2b-Sandbox-Port": "0"}, "Invalid sandbox port"),
        ("99999-i1.example.org", {}, "Invalid sandbox port"),
        ("80-i_1.example.org", {}, "Invalid sandbox ID"),
        ("exa mple.org", {}, "Invalid host"),
    ],
)
def test_bad_routing(guest: Guest, host: str, headers: dict[str, str], body: str) -> None:
    answer = ask(guest, host, **headers)
    assert (answer.status_code, answer.text) == (400, body)


@pytest.mark.parametrize("path", ["/init", "//init", "/%69nit", "/tunnel?port=3001", "/x/../tunnel"])
def test_routes_of_the_daemon_that_are_its_hosts(guest: Guest, path: str) -> None:
    connection, host = guest.connect("http", 49983)
    with connection, connection.makefile("rb") as reader:
        upgrade = "Connection: Upgrade\r\nUpgrade: atoll-tunnel\r\n"
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{upgrade}\r\n".encode())
        assert reader.readline().startswith(b"HTTP/1.1 404")


def test_a_private_sandbox_wants_its_token(guest: Guest) -> None:
    with Sandbox.create(TEMPLATE, timeout=120, network={"allow_public_traffic": False}) as private:
        private.commands.run("python3 -m http.server 3000", background=True)
        token = private.traffic_access_token
        assert token
        host, secured = (
            f"{OPEN}-{private.sandbox_id}.example.org",
            "Sandbox is secured with traffic access token. ",
        )
        missing = ask(guest, host)
        wrong = ask(guest, host, e2b_traffic_access_token="wrong")
        while (right := ask(guest, host, e2b_traffic_access_token=token)).status_code == 502:
            assert "port is not open" in right.text
        daemon = ask(guest, f"49983-{private.sandbox_id}.example.org", "/health")
    assert (missing.status_code, wrong.status_code, right.status_code) == (403, 403, 200)
    secured = "Sandbox is secured with traffic access token. "
    assert [answer.json()["message"] for answer in (missing, wrong)] == [
        secured + "Token header 'e2b-traffic-access-token' is missing",
        secured + "Provided token in header 'e2b-traffic-access-token' is invalid",
    ]
    assert daemon.status_code == 204


# --- many, long and slow


def test_two_hundred_streams_at_once(guest: Guest) -> None:
    """Half of them to a service on the loopback inside; all get what is sent after the last has opened."""
    with contextlib.ExitStack() as stack:
        readers = []
        for number in range(200):
            connection, host = guest.connect("http", (OPEN, INSIDE)[number % 2])
            stack.enter_context(connection)
            connection.sendall(f"GET /events HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            readers.append(stack.enter_context(connection.makefile("rb")))
        for reader in readers:
            _read_until(reader, b"data: open\n")
        httpx.post(f"{guest.server.url}/say", content="all", headers={"Host": guest.host(OPEN)}, timeout=20)
        for reader in readers:
            _read_until(reader, b"data: all\n")


def _read_until(reader: object, line: bytes) -> None:
    while (got := reader.readline()) != line:  # type: ignore[attr-defined]
        assert got, "the stream ended"


@pytest.mark.timeout(300 + SILENT_SECONDS)
def test_streams_may_be_silent_for_long(guest: Guest) -> None:
    """Events and a tunnel, in plain HTTP and through https, to both kinds of ports."""
    with contextlib.ExitStack() as stack:
        streams, tunnels = [], []
        for scheme in ("http", "https"):
            for port in (OPEN, INSIDE):
                streams.append(_silent(stack, *guest.connect(scheme, port), "/events", ""))
                tunnels.append(_silent(stack, *guest.connect(scheme, port), "/ws", UPGRADE))
        for stream in streams:
            _read_until(stream, b"data: open\n")
        time.sleep(SILENT_SECONDS)
        httpx.post(f"{guest.server.url}/say", content="at last", headers={"Host": guest.host(OPEN)})
        for stream in streams:
            _read_until(stream, b"data: at last\n")
        for tunnel in tunnels:
            tunnel.write(b"\x82\x82" + bytes(4) + b"hi")
            tunnel.flush()
            assert tunnel.read(4) == b"\x82\x02hi"


def _silent(
    stack: contextlib.ExitStack, connection: socket.socket, host: str, path: str, more: str
) -> BufferedRWPair:
    """What is to be read on ``path``, once its answer has begun."""
    stack.enter_context(connection)
    connection.settimeout(20 + SILENT_SECONDS)
    both = stack.enter_context(connection.makefile("rwb"))
    both.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode())
    both.flush()
    while both.readline() != b"\r\n":
        pass
    return both


@pytest.mark.parametrize("port", [OPEN, INSIDE], ids=["public", "loopback"])
@pytest.mark.timeout(300 + SLOW_SECONDS)
def test_a_slow_reader_costs_the_server_no_memory(guest: Guest, port: int) -> None:
    """1 MB/s of 1 GiB, for a while: what the service could send in that time is many times as much."""
    connection, host = guest.connect("http", port)
    with connection:
        idle = _resident_mib(guest.server)
        connection.sendall(f"GET /bytes?{2**30} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        began, taken, most = time.monotonic(), 0, 0.0
        while (passed := time.monotonic() - began) < SLOW_SECONDS:
            taken += len(connection.recv(min(65536, max(1, int(passed * 1e6) - taken))))
            most = max(most, _resident_mib(guest.server))
            time.sleep(0.02)
    print(f"{taken / 1e6:.1f} MB read in {SLOW_SECONDS} s; the server grew by {most - idle:.1f} MiB")
    assert taken > 0.6e6 * SLOW_SECONDS
    assert most - idle < 20


def _resident_mib(server: ServerProcess) -> float:
    assert server.process is not None
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
