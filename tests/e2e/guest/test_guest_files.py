"""Files, directories and watching in any image."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import tarfile
import time

import pytest

from guest_wire import Wire

pytestmark = pytest.mark.machine

FS = "filesystem.Filesystem"


def test_health_needs_nothing_and_metrics_tell(wire: Wire) -> None:
    assert wire.http.get("/health").status_code == 204
    metrics = wire.http.get("/metrics").json()
    assert metrics["cpu_count"] >= 1
    assert 0 < metrics["mem_used"] < metrics["mem_total"]
    assert 0 <= metrics["disk_used"] < metrics["disk_total"]
    assert isinstance(wire.http.get("/envs").json(), dict)


@pytest.mark.parametrize("route", ["/init", "/freeze", "/unfreeze"])
def test_host_routes_are_not_for_us(wire: Wire, route: str) -> None:
    assert wire.http.post(route, json={"accessToken": "stolen"}).status_code in (401, 404)


@pytest.mark.parametrize("size", [0, 1, 70_000, 5_000_000])
def test_a_file_comes_back_as_it_went(wire: Wire, size: int) -> None:
    content = hashlib.shake_128(b"seed").digest(size)
    assert wire.write(f"/tmp/d/of {size}", content, username="root").status_code == 200
    answer = wire.read(f"/tmp/d/of {size}", username="root")
    assert (answer.status_code, answer.content == content) == (200, True)
    zipped = wire.http.post(
        "/files",
        params={"path": "/tmp/d/zipped", "username": "root"},
        content=gzip.compress(content),
        headers={"Content-Type": "application/octet-stream", "Content-Encoding": "gzip"},
    )
    assert zipped.status_code == 200
    assert wire.read("/tmp/d/zipped", username="root").content == content


def test_a_part_of_a_file(wire: Wire) -> None:
    wire.write("/tmp/part", b"0123456789", username="root")
    answer = wire.read("/tmp/part", {"Range": "bytes=2-4", "Accept-Encoding": "identity"}, username="root")
    assert (answer.status_code, answer.content) == (206, b"234")


def test_a_file_over_4_gib(shell: Wire) -> None:
    size = 5 << 30
    assert (
        shell.sh(f"truncate -s {size} /tmp/large && printf end >> /tmp/large", user="root").end["exitCode"]
        == 0
    )
    assert shell.call(f"{FS}/Stat", {"path": "/tmp/large"}, "root")[1]["entry"]["size"] == str(size + 3)
    answer = shell.read(
        "/tmp/large", {"Range": f"bytes={size}-", "Accept-Encoding": "identity"}, username="root"
    )
    assert (answer.status_code, answer.content) == (206, b"end")
    assert shell.call(f"{FS}/Remove", {"path": "/tmp/large"}, "root") == (200, {})


def test_many_files_in_one_request(wire: Wire) -> None:
    parts = [("file", (f"/tmp/many/{n}", f"{n}".encode())) for n in range(5)]
    answer = wire.http.post("/files", params={"username": "root"}, files=parts)
    assert [entry["path"] for entry in answer.json()] == [f"/tmp/many/{n}" for n in range(5)]
    assert wire.read("/tmp/many/3", username="root").content == b"3"


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ({"path": "/no/such"}, 404, "path '/no/such' does not exist"),
        ({"path": "/tmp"}, 400, "path '/tmp' is a directory"),
        ({"path": "~other/x"}, 400, "expanding"),
        ({"path": "/tmp/x", "username": "nobody-here"}, 401, "error looking up user 'nobody-here'"),
    ],
)
def test_what_cannot_be_read_says_why(wire: Wire, query: dict[str, str], status: int, words: str) -> None:
    answer = wire.http.get("/files", params={"username": "root", **query})
    assert (answer.status_code, words in answer.json()["message"]) == (status, True), answer.text


@pytest.mark.parametrize(
    ("method", "message", "status", "code"),
    [
        ("Stat", {"path": "/no/such"}, 404, "not_found"),
        ("ListDir", {"path": "/no/such"}, 404, "not_found"),
        ("ListDir", {"path": "/.atoll/envd"}, 400, "invalid_argument"),
        ("MakeDir", {"path": "/tmp"}, 409, "already_exists"),
        ("MakeDir", {"path": "/.atoll/envd"}, 400, "invalid_argument"),
        ("Move", {"source": "/no/such", "destination": "/tmp/x"}, 404, "not_found"),
        ("CreateWatcher", {"path": "/no/such"}, 404, "not_found"),
        ("GetWatcherEvents", {"watcherId": "w0"}, 404, "not_found"),
    ],
)
def test_what_cannot_be_done_says_why(
    wire: Wire, method: str, message: dict[str, str], status: int, code: str
) -> None:
    got, body = wire.call(f"{FS}/{method}", message, "root")
    assert (got, body["code"]) == (status, code)


def test_removing_what_is_not_there_is_no_error(wire: Wire) -> None:
    assert wire.call(f"{FS}/Remove", {"path": "/no/such"}, "root") == (200, {})


def test_entries_are_made_listed_moved_and_removed(wire: Wire) -> None:
    assert wire.call(f"{FS}/MakeDir", {"path": "/tmp/tree/a/b"}, "root")[0] == 200
    wire.write("/tmp/tree/a/file", b"12345", username="root")
    status, listed = wire.call(f"{FS}/ListDir", {"path": "/tmp/tree", "depth": 3}, "root")
    assert status == 200
    assert [entry["path"] for entry in listed["entries"]] == [
        "/tmp/tree/a",
        "/tmp/tree/a/b",
        "/tmp/tree/a/file",
    ]
    entry = listed["entries"][2]
    assert (entry["size"], entry["permissions"], entry["owner"]) == ("5", "-rw-r--r--", "root")
    moving = {"source": "/tmp/tree/a/file", "destination": "/tmp/tree/new/file"}
    assert wire.call(f"{FS}/Move", moving, "root")[1]["entry"]["path"] == "/tmp/tree/new/file"
    assert wire.call(f"{FS}/Remove", {"path": "/tmp/tree"}, "root") == (200, {})
    assert wire.call(f"{FS}/Stat", {"path": "/tmp/tree"}, "root")[0] == 404


def test_a_directory_goes_in_and_comes_out(wire: Wire) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, content in (("a/one", b"1"), ("a/b/two", b"22")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("a/link")
        link.type, link.linkname = tarfile.SYMTYPE, "one"
        archive.addfile(link)
    target = {"path": "/tmp/unpacked", "username": "root"}
    answer = wire.http.post("/dirs", params=target, content=made.getvalue())
    assert answer.status_code == 200, answer.text
    out = wire.http.get("/dirs", params={**target, "format": "tar.gz"})
    with tarfile.open(fileobj=io.BytesIO(out.content)) as archive:
        names = {member.name.rstrip("/") for member in archive}
        assert {"a/one", "a/b/two", "a/link"} <= names
        found = archive.extractfile("a/b/two")
        assert found is not None
        assert found.read() == b"22"


def test_a_way_out_of_the_directory_is_refused(wire: Wire) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../escaped"))
    answer = wire.http.post("/dirs", params={"path": "/tmp/in", "username": "root"}, content=made.getvalue())
    assert answer.status_code == 400
    assert wire.call(f"{FS}/Stat", {"path": "/tmp/escaped"}, "root")[0] == 404


def test_changes_since_a_mark(wire: Wire) -> None:
    mark = wire.http.get("/changes", params={"path": "/tmp", "username": "root"}).json()["mark"]
    wire.write("/tmp/changed", b"x", username="root")
    later = wire.http.get("/changes", params={"path": "/tmp", "username": "root", "since": mark}).json()
    assert "/tmp/changed" in [entry["path"] for entry in later["changes"]]


def test_a_watcher_misses_nothing_in_new_directories(wire: Wire) -> None:
    wire.call(f"{FS}/MakeDir", {"path": "/tmp/watched"}, "root")
    status, made = wire.call(f"{FS}/CreateWatcher", {"path": "/tmp/watched", "recursive": True}, "root")
    assert status == 200
    watcher = {"watcherId": made["watcherId"]}
    for n in range(20):
        wire.write(f"/tmp/watched/new{n}/deep/file", b"x", username="root")
    seen: set[str] = set()
    deadline = time.monotonic() + 10
    while len({name for name in seen if name.endswith("/file")}) < 20:
        assert time.monotonic() < deadline, sorted(seen)
        got = wire.call(f"{FS}/GetWatcherEvents", watcher, "root")[1]
        seen |= {event["name"] for event in got.get("events", [])}
        time.sleep(0.02)
    assert wire.call(f"{FS}/RemoveWatcher", watcher, "root") == (200, {})


def test_a_watch_stream_tells_as_it_happens(wire: Wire) -> None:
    wire.call(f"{FS}/MakeDir", {"path": "/tmp/streamed"}, "root")
    with wire.stream(f"{FS}/WatchDir", {"path": "/tmp/streamed"}, "root") as messages:
        assert "start" in next(messages)
        wire.write("/tmp/streamed/new", b"x", username="root")
        assert next(messages)["filesystem"]["name"].endswith("new")


@pytest.mark.parametrize("name", ["n" * 255, "a b", "quote'\"", "ünï", "new\nline"])
def test_strange_names(wire: Wire, name: str) -> None:
    path = f"/tmp/strange/{name}"
    assert wire.write(path, b"here", username="root").status_code == 200
    assert wire.read(path, username="root").content == b"here"
    listed = wire.call(f"{FS}/ListDir", {"path": "/tmp/strange"}, "root")[1]["entries"]
    assert name in [entry["name"] for entry in listed]


def test_a_name_that_is_no_text_does_not_hide_the_others(shell: Wire) -> None:
    odd = "mkdir -p /tmp/odd && cd /tmp/odd && touch fine \"$(printf 'b\\377d')\""
    assert shell.sh(odd, user="root").end["exitCode"] == 0
    listed = shell.call(f"{FS}/ListDir", {"path": "/tmp/odd"}, "root")[1]["entries"]
    assert [entry["name"] for entry in listed] == ["b\ufffdd", "fine"]
    answer = shell.http.get("/dirs", params={"path": "/tmp/odd", "username": "root"})
    with tarfile.open(fileobj=io.BytesIO(answer.content), errors="surrogateescape") as archive:
        assert {member.name.rstrip("/") for member in archive} >= {"b\udcffd", "fine"}


def test_metadata_goes_with_a_file(wire: Wire) -> None:
    headers = {"Content-Type": "application/octet-stream", "X-Metadata-Kind": "note"}
    query = {"path": "/tmp/noted", "username": "root"}
    wire.http.post("/files", params=query, content=b"x", headers=headers).raise_for_status()
    entry = wire.call(f"{FS}/Stat", {"path": "/tmp/noted"}, "root")[1]["entry"]
    assert entry["metadata"] == {"kind": "note"}


def test_files_are_composed(wire: Wire) -> None:
    for name, content in (("one", b"1"), ("two", b"2")):
        wire.write(f"/tmp/{name}", content, username="root")
    body = {"source_paths": ["/tmp/one", "/tmp/two"], "destination": "/tmp/both", "username": "root"}
    assert wire.http.post("/files/compose", json=body).status_code == 200
    assert wire.read("/tmp/both", username="root").content == b"12"
    assert wire.read("/tmp/one", username="root").status_code == 404


def test_a_full_disk_is_507_and_leaves_nothing(shell: Wire) -> None:
    if int(shell.http.get("/metrics").json()["disk_total"]) > 2 << 30:
        pytest.skip("too large a disk to fill")
    too_much = (bytes(1 << 20) for _ in range(2048))
    answer = shell.http.post(
        "/files",
        params={"path": "/tmp/full", "username": "root"},
        content=too_much,
        headers={"Content-Type": "application/octet-stream"},
    )
    assert answer.status_code == 507, answer.text
    assert shell.sh("ls -A /tmp | grep -c full || true", user="root").text == "0\n"
    assert base64.b64encode(shell.read("/tmp/full", username="root").content) is not None
