"""A real server for one test run: its own state directory and port, the machine's artefacts and templates."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

import httpx
import pytest

MACHINE_HOME = Path(os.environ.get("ATOLL_HOME", "/var/lib/atoll"))
SHARED_ARTEFACTS = ("bin", "cache", "host-key", "roots", "setup.lock", "templates")
"""The host key too: snapshots trust the one they were made with. And the lock: set-up removes left-overs."""
TEST_NETWORK = os.environ.get("ATOLL_TEST_NETWORK", "10.215.0.0/18")


def own_network(number: int) -> str:
    """A range for a server beside the shared one; each module that has such a server has its number."""
    return str(IPv4Network((int(IPv4Network(TEST_NETWORK).network_address) + (number << 16), 20)))


@dataclass
class ServerProcess:
    environ: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self.environ["E2B_API_URL"]

    @property
    def home(self) -> Path:
        return Path(self.environ["ATOLL_HOME"])

    def launch(self, *options: str) -> subprocess.Popen[bytes]:
        with (self.home / "server.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "atolld", "serve", *options],
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def start(self, *options: str) -> None:
        self.process = self.launch(*options)
        deadline = time.monotonic() + 120  # a machine with much else to do takes half a minute
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health", timeout=5).status_code == 204:
                    return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError("the server did not start:\n" + (self.home / "server.log").read_text()[-4000:])

    def kill(self, number: int = signal.SIGKILL) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(timeout=60)

    def domain_environ(self) -> dict[str, str]:
        """The environment of a client that knows the domain and a key, as `./atoll env --domain` has it."""
        deadline = time.monotonic() + 30
        while (told := self.run("atoll", "env", "--domain", "--json")).returncode != 0:
            # https opens a moment after the port that was waited for.
            assert time.monotonic() < deadline, told.stderr + (self.home / "server.log").read_text()[-4000:]
        others = {name: value for name, value in self.environ.items() if not name.startswith("E2B_")}
        return {**others, **json.loads(told.stdout)}

    @contextlib.contextmanager
    def serves_sdks(self) -> Iterator[None]:
        """The published SDKs in this process find this server by their variables."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environ.items():
                if name.startswith("E2B_"):
                    patch.setenv(name, value)
            yield

    def run(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """A command of ours with this server's environment."""
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def server(home: Path, settings: Mapping[str, str] | None = None) -> Iterator[ServerProcess]:
    """A started server; afterwards it and every sandbox of it are gone.

    What lies in ``home`` already is taken as it is, instead of the machine's own.
    """
    for name in SHARED_ARTEFACTS:
        if not (home / name).exists():
            (home / name).symlink_to(MACHINE_HOME / name)
    port = free_port()
    environ = {
        **os.environ,
        "ATOLL_HOME": str(home),
        "ATOLL_PORT": str(port),
        "ATOLL_TLS_PORT": str(free_port()),
        "ATOLL_NETWORK": TEST_NETWORK,
        "E2B_API_URL": f"http://127.0.0.1:{port}",
        "E2B_SANDBOX_URL": f"http://127.0.0.1:{port}",
        **(settings or {}),
    }
    it = ServerProcess(environ)
    registered = it.run("atolld", "setup", timeout=900)
    assert registered.returncode == 0, registered.stdout + registered.stderr
    credentials = (home / "credentials").read_text()
    environ["E2B_API_KEY"] = credentials.partition("E2B_API_KEY=")[2].split()[0]
    try:
        it.start()
        yield it
    finally:
        down = it.run("atolld", "down")
        if it.process is not None and it.process.poll() is None:
            it.kill()
        assert down.returncode == 0, down.stdout + down.stderr
