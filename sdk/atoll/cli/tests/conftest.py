"""A double of the server: a real HTTP server on loopback whose answers a test scripts."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

from atoll.cli.app import main
from atoll_wire import connect, executions, process

KEY = "e2b_" + "0" * 40
TOKEN = "token-of-the-sandbox"
SANDBOX_ID = "i" + "0" * 20


def listed(sandbox_id: str = SANDBOX_ID, **changes: object) -> dict[str, object]:
    return {
        "templateID": "base",
        "sandboxID": sandbox_id,
        "clientID": "atoll",
        "startedAt": "2026-01-01T00:00:00Z",
        "endAt": "2026-01-01T00:05:00Z",
        "cpuCount": 2,
        "memoryMB": 1024,
        "diskSizeMB": 10240,
        "envdVersion": "0.6.13",
        "state": "running",
        "metadata": {},
        **changes,
    }


class Seen(NamedTuple):
    """A request the double got."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Double:
    """What the server will say. An answer is a status and a JSON value; a stream is its body in chunks."""

    port: int = 0
    create: tuple[int, object] = (
        201,
        {
            "templateID": "base",
            "sandboxID": SANDBOX_ID,
            "clientID": "atoll",
            "envdVersion": "0.6.13",
            "envdAccessToken": TOKEN,
        },
    )
    create_headers: dict[str, str] = field(default_factory=dict[str, str])
    pages: list[list[object]] = field(default_factory=lambda: [[listed()]])
    ended: dict[str, str] | None = None
    """Told with the 404 of a sandbox."""
    sandboxes: set[str] = field(default_factory=lambda: {SANDBOX_ID})
    execution: list[bytes] = field(default_factory=list[bytes])
    execution_status: tuple[int, object] | None = None
    process: list[bytes] = field(default_factory=list[bytes])
    cut: bool = False
    """Ends a stream without the end that HTTP wants."""
    wait: bool = False
    """Leaves a stream open after its last chunk, until ``hold`` is set."""
    hold: threading.Event = field(default_factory=threading.Event)
    seen: list[Seen] = field(default_factory=list[Seen])

    def paths(self, method: str) -> list[str]:
        return [request.path for request in self.seen if request.method == method]

    def says(self, *events: executions.Event) -> None:
        self.execution = [executions.encode_event(event) for event in (*events, executions.End())]

    def process_says(self, *events: process.Event, error: connect.ConnectError | None = None) -> None:
        self.process = [connect.encode_envelope(process.encode_event(event)) for event in events]
        self.process.append(connect.encode_end(error))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    double: Double

    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.double.seen.append(Seen(self.command, self.path, headers, body))
        if "e2b-sandbox-id" in headers:
            self.answer_sandbox(headers)
        elif self.path == "/health":
            self.answer(204)
        elif headers.get("x-api-key") != KEY:
            self.answer(401, {"code": 401, "message": "Invalid API key"})
        else:
            self.answer_api()

    do_GET = do_POST = do_DELETE = handle_any

    def answer_api(self) -> None:
        double = self.double
        sandbox_id = self.path.removeprefix("/sandboxes/")
        unknown = {"code": 404, "message": f'Sandbox "{sandbox_id}" doesn\'t exist'}
        if self.command == "POST":
            self.answer(*double.create, double.create_headers)
        elif self.path.startswith("/v2/sandboxes"):
            page = double.pages.pop(0) if double.pages else []
            self.answer(200, page, {"X-Next-Token": "more" if double.pages else ""})
        elif sandbox_id not in double.sandboxes:
            self.answer(404, unknown | ({} if double.ended is None else {"ended": double.ended}))
        elif self.command == "DELETE":
            double.sandboxes.discard(sandbox_id)
            self.answer(204)
        else:
            self.answer(200, listed(sandbox_id, envdAccessToken=TOKEN))

    def answer_sandbox(self, headers: dict[str, str]) -> None:
        double = self.double
        if headers.get("x-access-token") != TOKEN:
            self.answer(401, {"code": 401, "message": "unauthorized access"})
        elif self.path == "/execute" and double.execution_status is not None:
            self.answer(*double.execution_status)
        elif self.path == "/execute":
            self.stream(double.execution, "application/x-ndjson")
        elif self.path == "/process.Process/Start":
            self.stream(double.process, connect.STREAM_CONTENT_TYPE)
        else:
            self.answer(200, {})

    def answer(self, status: int, value: object = None, headers: dict[str, str] | None = None) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode() if value is not None else b""
        self.send_response(status)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, chunks: list[bytes], content_type: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for chunk in chunks:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            self.wfile.flush()
        if self.double.wait:
            self.double.hold.wait(30)
        if not self.double.cut:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = self.double.cut


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is part of the tests."""


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """State of a machine that has been set up, and an environment that says nothing else."""
    for name in list(os.environ):
        if name.startswith(("E2B_", "ATOLL_")):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    (home / "credentials").write_text(f"E2B_API_KEY={KEY}\n")
    monkeypatch.setenv("ATOLL_HOME", str(home))
    return home


@pytest.fixture
def server(home: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Double]:
    double = Double()
    handler = type("ScriptedHandler", (Handler,), {"double": double})
    http = QuietServer(("127.0.0.1", 0), handler)
    double.port = http.server_address[1]
    monkeypatch.setenv("ATOLL_PORT", str(double.port))
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield double
    double.hold.set()
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def atoll(home: Path, capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs a command in this process."""

    def command(*arguments: str) -> Ended:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = capfd.readouterr()
        code = ended.value.code
        assert code is None or isinstance(code, int), code
        assert "Traceback" not in err or "NameError" in err
        return Ended(code or 0, out, err)

    return command
