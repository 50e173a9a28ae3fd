"""What code inside a sandbox must not reach, tried from inside.

Other hosts are network namespaces that the test makes, with listeners in them: nothing leaves the machine.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest
from e2b import Sandbox

from server_process import ServerProcess

pytestmark = pytest.mark.machine

PRIVATE_HOST = "10.199.77.2"
"""A made-up neighbour on a private network."""
NAMESPACE = "atoll-test-neighbour"


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, timeout=10, capture_output=True)


@contextlib.contextmanager
def listener(address: str, port: int = 0) -> Iterator[int]:
    """A host service that says `reached` to whoever connects."""
    with socket.create_server((address, port)) as server:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.sendall(b"reached")

        threading.Thread(target=answer, daemon=True).start()
        yield server.getsockname()[1]


@pytest.fixture(scope="module")
def neighbour() -> Iterator[str]:
    """Another host on a private network, one hop behind this machine, with a server on port 8000."""
    ip("netns", "add", NAMESPACE)
    try:
        ip("link", "add", "atolltest0", "type", "veth", "peer", "name", "eth0", "netns", NAMESPACE)
        ip("addr", "add", "10.199.77.1/30", "dev", "atolltest0")
        ip("link", "set", "atolltest0", "up")
        ip("-n", NAMESPACE, "addr", "add", f"{PRIVATE_HOST}/30", "dev", "eth0")
        ip("-n", NAMESPACE, "link", "set", "eth0", "up")
        ip("-n", NAMESPACE, "route", "add", "default", "via", "10.199.77.1")
        server = subprocess.Popen(
            ["ip", "netns", "exec", NAMESPACE, "python3", "-m", "http.server", "8000"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_open(PRIVATE_HOST, 8000)
            yield PRIVATE_HOST
        finally:
            server.kill()
            server.wait()
    finally:
        ip("netns", "delete", NAMESPACE)


@pytest.fixture(scope="module")
def sandbox(atoll: ServerProcess) -> Iterator[Sandbox]:
    with atoll.serves_sdks():
        it = Sandbox.create(timeout=300)
    yield it
    it.kill()


def wait_open(address: str, port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            return socket.create_connection((address, port), 2).close()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def reaches(sandbox: Sandbox, address: str, port: int, user: str = "root") -> bool:
    code = f"import socket; socket.create_connection(('{address}', {port}), 2).close()"
    return sandbox.commands.run(f'python3 -c "{code}" 2>&-; echo $?', user=user).stdout == "0\n"


def default_gateway(sandbox: Sandbox) -> str:
    return (
        own_address(sandbox).rpartition(".")[0] + "." + str(int(own_address(sandbox).rpartition(".")[2]) - 1)
    )


def own_address(sandbox: Sandbox) -> str:
    return sandbox.commands.run("hostname -I", user="root").stdout.split()[0]


def test_the_host_is_not_reached_by_any_of_its_addresses(sandbox: Sandbox) -> None:
    with listener("0.0.0.0") as port:
        with socket.create_connection(("127.0.0.1", port), 2) as check:
            assert check.recv(16) == b"reached"
        addresses = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=True, timeout=5)
        for address in [default_gateway(sandbox), *(a for a in addresses.stdout.split() if ":" not in a)]:
            assert not reaches(sandbox, address, port), address


def test_the_control_api_is_not_reached_from_inside(sandbox: Sandbox, atoll: object) -> None:
    port = int(atoll.environ["ATOLL_PORT"])  # type: ignore[attr-defined]
    assert not reaches(sandbox, default_gateway(sandbox), port)


def test_another_sandbox_is_not_reached(sandbox: Sandbox) -> None:
    with Sandbox.create(timeout=120) as other:
        other.commands.run("python3 -m http.server 8000", background=True)
        wait_open(own_address(other), 8000)
        assert not reaches(sandbox, own_address(other), 8000)
        assert not reaches(sandbox, own_address(other), 49983)


def test_a_private_network_behind_the_host_is_not_reached(sandbox: Sandbox, neighbour: str) -> None:
    wait_open(neighbour, 8000)
    assert not reaches(sandbox, neighbour, 8000)


def test_host_only_routes_of_the_daemon_are_closed_inside_and_outside(sandbox: Sandbox) -> None:
    inside = "curl -s -o /dev/null -w '%{http_code}' -X POST -d '{}' http://127.0.0.1:49983/init"
    assert sandbox.commands.run(inside, user="root").stdout == "401"


def test_the_daemon_wants_its_token_from_other_processes_inside_too(sandbox: Sandbox) -> None:
    inside = (
        "curl -s -o /dev/null -w '%{http_code}' -X POST -H 'Content-Type: application/json' -d '{}' "
        "http://127.0.0.1:49983/process.Process/List"
    )
    assert sandbox.commands.run(inside).stdout == "401"


def test_processes_and_files_of_the_host_are_not_seen(sandbox: Sandbox) -> None:
    processes = sandbox.commands.run("ps -eo args", user="root").stdout
    assert "atolld" not in processes
    assert sandbox.commands.run("ls /var/lib/atoll 2>&1 || true", user="root").stdout.endswith(
        "No such file or directory\n"
    )
