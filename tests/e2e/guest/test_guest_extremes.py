"""More of something than most sandboxes have. `ATOLL_LARGE_FILES=1` moves gigabytes as well."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

import pytest

from guest_wire import Wire

pytestmark = pytest.mark.machine

FS = "filesystem.Filesystem"
PIECE = os.urandom(1 << 20)
LARGE = 4200
"""MiB: beyond what 32 bits count."""


@pytest.fixture
def on_musl(ground_name: str, wire: Wire) -> Wire:
    """Once is enough for what takes seconds, or is about musl alone."""
    if ground_name != "musl":
        pytest.skip("tried in the image of musl")
    return wire


def test_a_hundred_thousand_entries(on_musl: Wire) -> None:
    made = on_musl.sh("mkdir /tmp/100k && cd /tmp/100k && seq 100000 | xargs touch", user="root")
    assert made.end["exitCode"] == 0, made.stderr
    status, listed = on_musl.call(f"{FS}/ListDir", {"path": "/tmp/100k"}, "root")
    assert status == 200
    assert {entry["name"] for entry in listed["entries"]} == {str(n) for n in range(1, 100_001)}
    assert on_musl.call(f"{FS}/Remove", {"path": "/tmp/100k"}, "root") == (200, {})


def test_no_inodes_left_is_507_and_leaves_nothing(on_musl: Wire) -> None:
    few = (
        "mkdir /tmp/few && mount -t tmpfs -o nr_inodes=4,size=1m none /tmp/few && cd /tmp/few && touch 1 2 3"
    )
    made = on_musl.sh(few, user="root")
    if made.end["exitCode"] != 0:
        pytest.skip(f"no file system with few inodes here: {made.stderr.decode()}")
    answer = on_musl.write("/tmp/few/4", b"one too many", username="root")
    assert (answer.status_code, answer.json()["message"]) == (507, "not enough inodes available")
    assert on_musl.sh("ls -A /tmp/few; umount /tmp/few", user="root").text.split() == ["1", "2", "3"]


def test_a_program_that_musl_loads(on_musl: Wire) -> None:
    run = on_musl.run("/bin/dynamic", user="root")
    if run.error is not None:
        pytest.skip("this machine has no compiler to make one")
    assert run.end["exitCode"] == 7
    assert "musl" in run.text


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("ATOLL_LARGE_FILES"), reason="gigabytes only with ATOLL_LARGE_FILES=1")
def test_gigabytes_go_in_and_come_out(ground_name: str, wire: Wire) -> None:
    if ground_name != "base":
        pytest.skip("the other images have small disks")
    sent, came = hashlib.sha1(), hashlib.sha1()

    def pieces() -> Iterator[bytes]:
        for n in range(LARGE):
            piece = n.to_bytes(8, "big") + PIECE[8:]
            sent.update(piece)
            yield piece

    query = {"path": "/var/tmp/large", "username": "root"}
    headers = {"Content-Type": "application/octet-stream"}
    answer = wire.http.post("/files", params=query, content=pieces(), headers=headers, timeout=600)
    assert answer.status_code == 200, answer.text
    with wire.http.stream("GET", "/files", params=query, headers={"Accept-Encoding": "identity"}) as answer:
        for piece in answer.iter_raw():
            came.update(piece)
    assert came.digest() == sent.digest()
    assert wire.call(f"{FS}/Remove", {"path": "/var/tmp/large"}, "root") == (200, {})
