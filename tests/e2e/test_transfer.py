"""A snapshot goes to another machine: another state directory, another host's key, its memory alive."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2b_code_interpreter import Sandbox

from server_process import MACHINE_HOME, ServerProcess, own_network, server

pytestmark = pytest.mark.machine


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A machine of its own, but for the binaries and the contents of the root images."""
    home = tmp_path_factory.mktemp("other")
    (home / "host-key").write_bytes(secrets.token_bytes(32))
    (home / "host-key").chmod(0o600)
    (home / "templates").mkdir()
    (home / "roots").mkdir()
    for image in (MACHINE_HOME / "roots").iterdir():
        (home / "roots" / image.name).symlink_to(image)
    # Beyond the first server's range, and the few addresses after it where that one builds.
    with server(home, {"ATOLL_NETWORK": own_network(3), "ATOLL_TLS": "off", "ATOLL_POOL": "0"}) as it:
        yield it


def use(it: ServerProcess, patch: pytest.MonkeyPatch) -> None:
    for name in ("E2B_API_URL", "E2B_SANDBOX_URL", "E2B_API_KEY"):
        patch.setenv(name, it.environ[name])


@pytest.mark.timeout(400)
def test_variables_files_and_processes_live_on_on_another_machine(
    atoll: ServerProcess, other: ServerProcess, tmp_path: Path
) -> None:
    file = tmp_path / "kept.atoll"
    with pytest.MonkeyPatch.context() as patch:
        use(atoll, patch)
        source = Sandbox.create(timeout=120)
        try:
            source.run_code("kept = {'moved': [1, 2, 3]}")
            source.files.write("notes.txt", "from the first machine")
            source.commands.run(
                "while date +%s > /tmp/t; do mv /tmp/t /tmp/tick; sleep 0.1; done", background=True
            )
            source.create_snapshot(name="moving:v1")
        finally:
            source.kill()
        sent = atoll.run("atolld", "snapshot", "export", "moving:v1", str(file), "--json", timeout=200)
        assert sent.returncode == 0, sent.stderr
        Sandbox.delete_snapshot("moving:v1")
    taken = other.run("atolld", "snapshot", "import", str(file), "--json", timeout=200)
    assert taken.returncode == 0, taken.stderr
    assert json.loads(taken.stdout)["name"] == "moving:v1"
    with pytest.MonkeyPatch.context() as patch:
        use(other, patch)
        made = Sandbox.create("moving:v1", timeout=120)
        try:
            assert made.run_code("kept['moved'].append(4); kept").text == "{'moved': [1, 2, 3, 4]}"
            assert made.files.read("notes.txt") == "from the first machine"
            now = int(made.commands.run("date +%s").stdout)
            assert abs(int(made.commands.run("sleep 0.5; cat /tmp/tick").stdout) - now) < 3
            assert made.commands.run("hostname").stdout.strip() == made.sandbox_id
            assert made.pause()
            assert made.connect(timeout=60).run_code("kept['moved']").text == "[1, 2, 3, 4]"
        finally:
            made.kill()
    deep = other.run("atolld", "doctor", "--deep", "--no-hashes", "--json")
    assert deep.returncode == 0, deep.stdout


@pytest.mark.timeout(200)
def test_a_damaged_file_leaves_nothing_behind(atoll: ServerProcess, tmp_path: Path) -> None:
    file = tmp_path / "kept.atoll"
    source = Sandbox.create("base", timeout=120)
    try:
        source.create_snapshot(name="spoilt:v1")
    finally:
        source.kill()
    sent = atoll.run("atolld", "snapshot", "export", "spoilt:v1", str(file))
    assert sent.returncode == 0, sent.stderr
    Sandbox.delete_snapshot("spoilt:v1")
    whole = file.read_bytes()
    middle = len(whole) // 2
    before = sorted(os.listdir(atoll.home / "snapshots"))
    for damaged, said in (
        (b"", "no exported snapshot"),
        (whole[:middle], "import"),
        (whole[:middle] + bytes([whole[middle] ^ 4]) + whole[middle + 1 :], "import"),
        (whole + b"more", "damaged"),
    ):
        file.write_bytes(damaged)
        taken = atoll.run("atolld", "snapshot", "import", str(file))
        assert taken.returncode == 1
        assert said in taken.stderr, taken.stderr
        assert "Traceback" not in taken.stderr
    assert sorted(os.listdir(atoll.home / "snapshots")) == before
    assert not list(atoll.home.glob("making-*"))
