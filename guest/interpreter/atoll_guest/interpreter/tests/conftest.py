"""Fixtures: a real service with a real Python kernel, in this process's loop or as its own process."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SOURCE_ROOT = Path(__file__).parents[3]


class Client:
    """A plain HTTP client of one running service."""

    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self.pid = pid

    def call(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body)
        connection.request(method, path, data, {"Content-Type": "application/json", **headers})
        response = connection.getresponse()
        answer = response.status, response.read()
        connection.close()
        return answer

    def execute(self, code: str, **fields: Any) -> list[dict[str, Any]]:
        status, body = self.call("POST", "/execute", {"code": code, **fields})
        assert status == 200, body
        return [json.loads(line) for line in body.splitlines()]

    def stdout(self, code: str, **fields: Any) -> str:
        events = self.execute(code, **fields)
        return "".join(event["text"] for event in events if event["type"] == "stdout")

    def main_text(self, code: str, **fields: Any) -> str:
        return next(e["text"] for e in self.execute(code, **fields) if e.get("is_main_result"))

    def open_execute(self, code: str, **fields: Any) -> http.client.HTTPConnection:
        """Sent; the answer is not read."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("POST", "/execute", json.dumps({"code": code, **fields}))
        return connection


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_service(**environ: str) -> "tuple[subprocess.Popen[bytes], Client]":
    """As a template starts it. Returns when `/health` answers."""
    port = free_port()
    env = {
        **os.environ,
        "PYTHONPATH": str(SOURCE_ROOT),
        "ATOLL_INTERPRETER_PORT": str(port),
        "ATOLL_PRELOAD": "",
        "MPLBACKEND": "",
        **environ,
    }
    env.pop("PYTEST_CURRENT_TEST", None)  # ipykernel would leave the file descriptors alone
    process = subprocess.Popen([sys.executable, "-P", "-m", "atoll_guest.interpreter"], env=env)
    client = Client(port, process.pid)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if client.call("GET", "/health") == (200, b'"OK"'):
                return process, client
        except OSError:
            time.sleep(0.05)
    process.kill()
    raise AssertionError(f"the service did not start (exit code {process.wait()})")


def stop_service(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    finally:
        process.kill()


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """One service for all tests of the session that leave it as it was."""
    folder = tmp_path_factory.mktemp("home")
    process, client = start_service(ATOLL_INTERPRETER_CWD=str(folder))
    yield client
    stop_service(process)
