"""Everything at once for a while: no byte is wrong, and nothing has grown.

`ATOLL_SOAK_SECONDS` says how long: 120 as a part of `./atoll test`, 1200 for a real soak.
"""

from __future__ import annotations

import base64
import hashlib
import os
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from guest_wire import Message, Wire, collect, through_the_door
from server_process import ServerProcess

SECONDS = float(os.environ.get("ATOLL_SOAK_SECONDS", "120"))
WARM_UP = 20.0
IDLE = 8.0
"""Seconds after which the daemon has given back what it took for a busy moment."""
FS = "filesystem.Filesystem"

pytestmark = [pytest.mark.machine, pytest.mark.timeout(SECONDS * 2 + 300)]


@pytest.fixture(scope="module")
def wire(atoll: ServerProcess) -> Iterator[Wire]:
    with through_the_door(atoll, timeout=int(SECONDS) + 600) as it:
        yield it


def run_a_command(wire: Wire, luck: random.Random) -> None:
    content = luck.randbytes(luck.randrange(200_000))
    path = f"/tmp/soak/command-{luck.random()}"
    wire.write(path, content, username="user").raise_for_status()
    run = wire.sh(f"cat {path}; sha256sum < {path} >&2; rm {path}; exit 3", user="user")
    assert run.stdout == content
    assert run.stderr.decode().split()[0] == hashlib.sha256(content).hexdigest()
    assert run.end["exitCode"] == 3


def write_and_read_files(wire: Wire, luck: random.Random) -> None:
    path = f"/tmp/soak/file-{luck.random()}"
    for size in (0, luck.randrange(100), luck.randrange(3_000_000)):
        content = luck.randbytes(size)
        wire.write(path, content, username="user").raise_for_status()
        assert wire.read(path, username="user").content == content
    assert wire.call(f"{FS}/Remove", {"path": path}, "user") == (200, {})


def watch_a_directory(wire: Wire, luck: random.Random) -> None:
    directory = f"/tmp/soak/watched-{luck.random()}"
    wire.call(f"{FS}/MakeDir", {"path": directory}, "user")
    made = wire.call(f"{FS}/CreateWatcher", {"path": directory, "recursive": True}, "user")[1]
    watcher = {"watcherId": made["watcherId"]}
    wanted = {f"d{n}/file" for n in range(5)}
    for name in wanted:
        wire.write(f"{directory}/{name}", b"x", username="user").raise_for_status()
    seen: set[str] = set()
    deadline = time.monotonic() + 20
    while not wanted <= seen:
        assert time.monotonic() < deadline, wanted - seen
        events = wire.call(f"{FS}/GetWatcherEvents", watcher, "user")[1].get("events", [])
        seen |= {event["name"] for event in events}
    wire.call(f"{FS}/RemoveWatcher", watcher, "user")
    wire.call(f"{FS}/Remove", {"path": directory}, "user")


def talk_to_a_terminal(wire: Wire, luck: random.Random) -> None:
    message = {
        "process": {"cmd": "/bin/bash", "args": ["-c", "read a; echo got:$a:; read b; echo got:$b:"]},
        "pty": {"size": {"cols": 80, "rows": 24}},
    }
    words = [f"{luck.getrandbits(64):x}" for _ in range(2)]
    with wire.stream("process.Process/Start", message, "user") as messages:
        process = {"pid": next(messages)["event"]["start"]["pid"]}
        for word in words:
            typed = {"process": process, "input": {"pty": base64.b64encode(word.encode() + b"\n").decode()}}
            assert wire.call("process.Process/SendInput", typed, "user") == (200, {})
        said = collect(messages).pty.decode()
    assert all(f"got:{word}:" in said for word in words), said


def break_off_and_come_back(wire: Wire, luck: random.Random) -> None:
    """Output that comes slowly enough to be cut into, fast enough that replay matters."""
    tag = f"soak-{luck.random()}"
    script = "for i in $(seq 60); do head -c 9000 /dev/zero | tr '\\0' $((i % 10)); sleep 0.01; done"
    start: Message = {"process": {"cmd": "/bin/bash", "args": ["-c", script]}, "stdin": False, "tag": tag}
    got = bytearray()
    ended = _read_some(wire, "Start", start, {}, got, luck)
    while not ended:
        replay = {"Atoll-Replay": f"stdout={len(got)}"}
        ended = _read_some(wire, "Connect", {"process": {"tag": tag}}, replay, got, luck)
    assert bytes(got) == b"".join(b"%d" % (i % 10) * 9000 for i in range(1, 61))


def _read_some(
    wire: Wire, method: str, message: Message, headers: dict[str, str], into: bytearray, luck: random.Random
) -> bool:
    left = luck.randrange(1, 30)
    with wire.stream(f"process.Process/{method}", message, "user", headers) as messages:
        for sent in messages:
            assert "failure" not in sent, sent
            event = sent["event"]
            into += base64.b64decode(event.get("data", {}).get("stdout", ""))
            if "end" in event:
                return True
            left -= 1
            if left == 0:
                return False
    raise AssertionError("a stream without an end")


WORK = (run_a_command, write_and_read_files, watch_a_directory, talk_to_a_terminal, break_off_and_come_back)


def test_everything_at_once_is_right_and_nothing_grows(wire: Wire, atoll: ServerProcess) -> None:
    assert wire.call(f"{FS}/MakeDir", {"path": "/tmp/soak"}, "user")[0] == 200
    _work(wire, WARM_UP)
    before = _sizes(wire, atoll)
    done = _work(wire, SECONDS)
    after = _sizes(wire, atoll)
    print(f"\n{dict(done)}\nbefore {before}\nafter  {after}")
    assert set(done) == {work.__name__ for work in WORK}
    assert after["daemon descriptors"] <= before["daemon descriptors"] + 2
    assert after["daemon threads"] <= before["daemon threads"] + 4
    assert after["daemon MiB"] <= before["daemon MiB"] + 6
    assert after["server descriptors"] <= before["server descriptors"] + 4
    assert after["server MiB"] <= before["server MiB"] + 20
    assert after["processes"] == before["processes"]


def _work(wire: Wire, seconds: float) -> Counter[str]:
    """Each kind of work in a thread of its own, over and over; what failed is raised."""
    deadline = time.monotonic() + seconds
    done: Counter[str] = Counter()
    failures: list[BaseException] = []

    def repeat(work: Callable[[Wire, random.Random], None], luck: random.Random) -> None:
        try:
            while time.monotonic() < deadline and not failures:
                work(wire, luck)
                done[work.__name__] += 1
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=repeat, args=(work, random.Random(n))) for n, work in enumerate(WORK)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return done


def _sizes(wire: Wire, atoll: ServerProcess) -> dict[str, float]:
    wire.http.close()
    wire.http = httpx.Client(
        base_url=wire.http.base_url, headers=wire.http.headers, timeout=60, trust_env=False
    )
    time.sleep(IDLE)
    inside = wire.sh(
        "ls /proc/1/fd | wc -l; grep -E 'Threads|VmRSS' /proc/1/status; set -- /proc/[0-9]*; echo $#",
        user="root",
    )
    descriptors, resident, threads, processes = (int(number) for number in re.findall(r"\d+", inside.text))
    assert atoll.process is not None
    server = Path(f"/proc/{atoll.process.pid}")
    found = re.search(r"VmRSS:\s+(\d+)", (server / "status").read_text())
    assert found is not None
    return {
        "daemon descriptors": descriptors,
        "daemon threads": threads,
        "daemon MiB": resident / 1024,
        "processes": processes,
        "server descriptors": len(list((server / "fd").iterdir())),
        "server MiB": int(found[1]) / 1024,
    }
