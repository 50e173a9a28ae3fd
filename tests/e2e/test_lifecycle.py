"""A sandbox's life with the published SDK: asleep and awake, copied, and with a server that dies."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from e2b import NotFoundException, SandboxException, SandboxQuery, SandboxState
from e2b import Sandbox as BaseSandbox
from e2b_code_interpreter import Sandbox

from server_process import ServerProcess, own_network, server

pytestmark = pytest.mark.machine
OTHER_NETWORK = own_network(4)


def states(sandbox: BaseSandbox) -> list[str]:
    """As which it is listed: once, as running or paused; not at all when it is gone."""
    found: list[str] = []
    for state in (SandboxState.RUNNING, SandboxState.PAUSED):
        pages = BaseSandbox.list(query=SandboxQuery(state=[state]))
        while pages.has_next:
            found += [str(e.state.value) for e in pages.next_items() if e.sandbox_id == sandbox.sandbox_id]
    return found


def test_a_pause_keeps_variables_files_and_processes() -> None:
    sandbox = Sandbox.create(timeout=300, envs={"KEPT": "yes"})
    try:
        sandbox.run_code("import os, random; kept = {'a': [1, 2]}; handle = open('/tmp/open', 'w')")
        sandbox.files.write("notes.txt", "before")
        sandbox.commands.run(
            "while true; do date +%s >> /tmp/ticks; sleep 0.2; done", background=True, timeout=0
        )
        sandbox.commands.run("python3 -m http.server 3000", background=True, timeout=0)
        assert sandbox.pause()
        assert not sandbox.pause()
        assert states(sandbox) == ["paused"]
        assert not sandbox.is_running()
        again = Sandbox.connect(sandbox.sandbox_id, timeout=60)
        assert isinstance(again, Sandbox)
        assert states(again) == ["running"]
        assert again.run_code("kept['a'], handle.write('x'), os.environ['KEPT']").text == "([1, 2], 1, 'yes')"
        assert again.files.read("notes.txt") == "before"
        lines = int(again.commands.run("wc -l < /tmp/ticks").stdout)
        deadline = time.monotonic() + 5
        while int(again.commands.run("wc -l < /tmp/ticks").stdout) <= lines:
            assert time.monotonic() < deadline, "the process of before does not go on"
        assert abs(int(again.commands.run("date +%s").stdout) - time.time()) < 3
        assert "Directory listing" in again.commands.run("curl -s http://localhost:3000/").stdout
        info = again.get_info()
        assert 30 < (info.end_at - info.started_at).total_seconds() <= 61
    finally:
        assert Sandbox.kill(sandbox.sandbox_id)


def test_watchers_and_listening_sockets_outlive_a_pause_from_memory_and_from_disk(
    atoll: ServerProcess,
) -> None:
    sandbox = BaseSandbox.create(timeout=300)
    host = {"Host": sandbox.get_host(3000)}
    try:
        sandbox.files.make_dir("watched")
        watcher = sandbox.files.watch_dir("watched")
        sandbox.commands.run("python3 -m http.server 3000", background=True, timeout=0)
        sandbox.commands.run("until curl -so /dev/null localhost:3000; do sleep 0.05; done")
        for number in range(2):
            assert sandbox.pause()
            if number:  # what it keeps in memory goes with its server's end
                atoll.kill(signal.SIGTERM)
                atoll.start()
            sandbox.connect(timeout=300)
            assert "Directory listing" in httpx.get(atoll.url, headers=host, timeout=30).text
            sandbox.files.write(f"watched/{number}", "new")
            seen: set[str] = set()
            deadline = time.monotonic() + 10
            while str(number) not in seen:
                assert time.monotonic() < deadline, seen
                seen |= {event.name for event in watcher.get_new_events()}
    finally:
        sandbox.kill()


def test_of_ten_connects_at_once_one_resumes_and_all_arrive() -> None:
    sandbox = BaseSandbox.create(timeout=60)
    try:
        sandbox.files.write("notes.txt", "before")
        sandbox.pause()
        with ThreadPoolExecutor(10) as hands:
            made = list(hands.map(lambda _: BaseSandbox.connect(sandbox.sandbox_id, timeout=60), range(10)))
            read = list(hands.map(lambda it: it.files.read("notes.txt"), made))
        assert read == ["before"] * 10
        assert states(sandbox) == ["running"]
    finally:
        sandbox.kill()


def test_a_strict_pause_of_a_sandbox_that_answers_is_one() -> None:
    sandbox = BaseSandbox.create(timeout=60)
    try:
        assert sandbox.pause(strict=True)
        assert states(sandbox) == ["paused"]
    finally:
        sandbox.kill()


def test_a_paused_sandbox_is_killed_for_good() -> None:
    sandbox = BaseSandbox.create(timeout=60)
    sandbox.pause()
    assert sandbox.kill()
    assert states(sandbox) == []
    with pytest.raises(NotFoundException):
        BaseSandbox.connect(sandbox.sandbox_id)
    with pytest.raises(NotFoundException):
        BaseSandbox.pause(sandbox.sandbox_id)


def test_it_is_paused_at_its_timeout_and_resumed_by_a_call() -> None:
    sandbox = Sandbox.create(timeout=300, lifecycle={"on_timeout": "pause", "auto_resume": True})
    try:
        assert sandbox.get_info().lifecycle is not None
        sandbox.run_code("kept = 41")
        sandbox.set_timeout(1)
        deadline = time.monotonic() + 15
        while states(sandbox) != ["paused"]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert sandbox.run_code("kept + 1").text == "42"
        assert states(sandbox) == ["running"]
        assert sandbox.commands.run("echo $((6*7))").stdout == "42\n"
    finally:
        sandbox.kill()


def test_envd_is_not_woken_without_its_token(atoll: ServerProcess) -> None:
    sandbox = BaseSandbox.create(timeout=300, lifecycle={"on_timeout": "pause", "auto_resume": True})
    try:
        sandbox.pause()
        host = {"Host": sandbox.get_host(49983)}
        refused = httpx.get(f"{atoll.url}/health", headers=host, timeout=30)
        assert refused.status_code == 403
        assert states(sandbox) == ["paused"]
        port = {"Host": sandbox.get_host(3000)}
        woken = httpx.get(atoll.url, headers=port, timeout=30)
        assert woken.status_code == 502
        assert "port is not open" in woken.text
        assert states(sandbox) == ["running"]
    finally:
        sandbox.kill()


def test_forks_carry_the_kernel_and_differ_in_identity() -> None:
    source = Sandbox.create(timeout=120, metadata={"of": "fork"})
    forks: list[Sandbox] = []
    try:
        source.run_code("kept = list(range(5)); import random, uuid")
        source.files.write("shared.txt", "one")
        outcomes = source.fork(timeout=60, count=2)
        assert all(isinstance(outcome, Sandbox) for outcome in outcomes), outcomes
        forks = [outcome for outcome in outcomes if isinstance(outcome, Sandbox)]
        assert len({source.sandbox_id, *(fork.sandbox_id for fork in forks)}) == 3
        for fork in forks:
            assert fork.run_code("kept.append(len(kept)); kept").text == "[0, 1, 2, 3, 4, 5]"
            assert fork.files.read("shared.txt") == "one"
            fork.files.write("shared.txt", fork.sandbox_id)
            assert fork.commands.run("hostname").stdout.strip() == fork.sandbox_id
            assert fork.get_info().metadata == {"of": "fork"}
        assert source.run_code("kept").text == "[0, 1, 2, 3, 4]"
        assert source.files.read("shared.txt") == "one"
        drawn = {it.run_code("random.random(), uuid.uuid4()").text for it in (source, *forks)}
        assert len(drawn) == 3
    finally:
        for it in (source, *forks):
            it.kill()


def test_a_snapshot_is_a_template() -> None:
    name = f"kept-{uuid.uuid4().hex[:8]}"
    source = Sandbox.create(timeout=120)
    try:
        source.run_code("kept = 'of the snapshot'")
        snapshot = source.create_snapshot(name=f"{name}:v1")
        assert snapshot.names == [snapshot.snapshot_id]
        assert snapshot.snapshot_id.endswith(f"/{name}:v1")
        source.run_code("kept = 'of the source'")
        unnamed = source.create_snapshot()
        assert unnamed.snapshot_id.endswith(":default")
        listed = source.list_snapshots().next_items()
        assert [it.snapshot_id for it in listed] == [unnamed.snapshot_id, snapshot.snapshot_id]
        assert [it.snapshot_id for it in Sandbox.list_snapshots(name=name).next_items()] == [
            snapshot.snapshot_id
        ]
        for snapshot_id, value in (
            (snapshot.snapshot_id, "of the snapshot"),
            (unnamed.snapshot_id, "of the source"),
        ):
            made = Sandbox.create(template=snapshot_id, timeout=60)
            try:
                assert made.run_code("kept").text == value
                with pytest.raises(SandboxException, match="kill"):
                    Sandbox.delete_snapshot(snapshot_id)
                assert made.pause()
                assert made.connect(timeout=60).run_code("kept").text == value
            finally:
                made.kill()
        assert source.run_code("kept").text == "of the source"
    finally:
        source.kill()
    for snapshot_id in (snapshot.snapshot_id, unnamed.snapshot_id):
        delete_unused(snapshot_id)
        assert not Sandbox.delete_snapshot(snapshot_id)


def delete_unused(snapshot_id: str) -> None:
    """The kill of a sandbox is over a moment after its answer; until then it uses what it started from."""
    deadline = time.monotonic() + 20
    while True:
        try:
            assert Sandbox.delete_snapshot(snapshot_id)
            return
        except SandboxException:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_one_key_makes_one_sandbox() -> None:
    key = str(uuid.uuid4())
    first = BaseSandbox.create(timeout=60, idempotency_key=key)
    try:
        assert BaseSandbox.create(timeout=60, idempotency_key=key).sandbox_id == first.sandbox_id
        with pytest.raises(SandboxException, match="422"):
            BaseSandbox.create(timeout=61, idempotency_key=key)
    finally:
        first.kill()


def test_ports_want_the_traffic_token(atoll: ServerProcess) -> None:
    sandbox = BaseSandbox.create(timeout=60, network={"allow_public_traffic": False})
    try:
        assert sandbox.traffic_access_token
        host = {"Host": sandbox.get_host(3000)}
        assert httpx.get(atoll.url, headers=host, timeout=10).status_code == 403
        token = {"e2b-traffic-access-token": sandbox.traffic_access_token}
        assert httpx.get(atoll.url, headers=host | token, timeout=10).status_code == 502
        assert sandbox.commands.run("echo ok").stdout == "ok\n"
    finally:
        sandbox.kill()


def test_what_sleeps_outlives_a_server_that_is_killed(atoll: ServerProcess) -> None:
    asleep = Sandbox.create(timeout=300)
    awake = Sandbox.create(timeout=300)
    try:
        for it in (asleep, awake):
            it.run_code("kept = 'through it all'")
        asleep.pause()
        atoll.kill()
        atoll.start()
        assert (states(asleep), states(awake)) == (["paused"], ["running"])
        assert awake.run_code("kept").text == "through it all"
        assert asleep.connect(timeout=60).run_code("kept").text == "through it all"
        assert awake.pause()
        assert awake.connect(timeout=60).run_code("kept").text == "through it all"
    finally:
        asleep.kill()
        awake.kill()


def taken_slots(home: Path) -> set[str]:
    """Sandboxes that have a slot, those that wait in the pool left out."""
    taken: set[str] = set()
    for record in (home / "run/sandboxes").glob("*/record.json"):
        with contextlib.suppress(FileNotFoundError):  # it is being removed
            if sandbox_id := json.loads(record.read_text())["sandbox_id"]:
                taken.add(sandbox_id)
    return taken


@pytest.mark.timeout(3900)
def test_a_server_killed_at_any_moment_loses_and_doubles_nothing(atoll: ServerProcess) -> None:
    """Kills it while sandboxes are created, paused, forked, resumed and killed: 20 times, or as many as a
    minute and a half allows; ATOLL_KILLS says how often without that limit."""
    chance = random.Random(7)
    alive = [Sandbox.create(timeout=600) for _ in range(2)]
    for it in alive:
        it.run_code(f"mine = '{it.sandbox_id}'")
    try:
        wanted = os.environ.get("ATOLL_KILLS")
        until = time.monotonic() + (90 if wanted is None else 3600)
        kills = 0
        while kills < int(wanted or "20") and time.monotonic() < until:
            kills += 1
            busy = [threading.Thread(target=_bother, args=(it.sandbox_id, chance.random())) for it in alive]
            for thread in busy:
                thread.start()
            time.sleep(chance.random())
            atoll.kill()
            atoll.start()
            for thread in busy:
                thread.join()
            for it in alive:
                assert len(states(it)) == 1
                assert it.connect(timeout=600).run_code("mine").text == it.sandbox_id
        assert kills >= 5
        print(f"killed the server {kills} times")
    finally:
        left = {it.sandbox_id for it in alive}
        pages = BaseSandbox.list()
        while pages.has_next:
            left |= {entry.sandbox_id for entry in pages.next_items()}
        for sandbox_id in left:
            Sandbox.kill(sandbox_id)
    deadline = time.monotonic() + 20
    while taken := taken_slots(atoll.home):
        assert time.monotonic() < deadline, taken
        time.sleep(0.1)
    while (kept := [*(atoll.home / "snapshots").glob("*")]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not kept
    while (deep := atoll.run("atolld", "doctor", "--deep", "--no-hashes")).returncode != 0:
        assert time.monotonic() < deadline + 20, deep.stdout + deep.stderr
        time.sleep(1)


def _bother(sandbox_id: str, chance: float) -> None:
    """One call that may be cut off at any point."""
    calls = (
        lambda: Sandbox.pause(sandbox_id, request_timeout=20),
        lambda: Sandbox.fork(sandbox_id, count=2, timeout=20, request_timeout=20),
        lambda: (Sandbox.pause(sandbox_id), Sandbox.connect(sandbox_id, timeout=600, request_timeout=20)),
        lambda: BaseSandbox.create(timeout=15, request_timeout=20),
        lambda: BaseSandbox.create(timeout=15, request_timeout=20).kill(),
    )
    with contextlib.suppress(Exception):  # whatever the killed server left unsaid
        calls[int(chance * len(calls))]()


def test_without_its_memory_a_sandbox_is_booted_with_its_files() -> None:
    sandbox = Sandbox.create(timeout=300, envs={"KEPT": "yes"})
    try:
        sandbox.run_code("kept = 1")
        sandbox.files.write("notes.txt", "before")
        sandbox.commands.run(
            "ln notes.txt hard && ln -s notes.txt soft && mkfifo pipe && rm -rf ~/.bashrc && mkdir -p deep/er"
            " && chmod 2750 deep/er && truncate -s 1G sparse && sudo rm -rf /usr/share/doc && mkdir /tmp/mine"
            " && sudo touch /etc/of-root && head -c 50M /dev/urandom > large && sha256sum large > large.sum"
        )
        sandbox.commands.run("sleep 1000", background=True, timeout=0)
        assert sandbox.pause(mode="filesystem")
        assert states(sandbox) == ["paused"]
        again = sandbox.connect(timeout=60)
        assert again.sandbox_id == sandbox.sandbox_id
        assert again.files.read("notes.txt") == "before"
        assert "NameError" in str(again.run_code("kept").error)
        assert again.run_code("import os; os.environ['KEPT']").text == "yes"
        facts = again.commands.run(
            "stat -c %h hard; readlink soft; stat -c %F pipe;"
            " ls -d ~/.bashrc /usr/share/doc 2>&1 | grep -c cannot; stat -c '%a %U' deep/er;"
            " stat -c %s sparse; stat -c %U /etc/of-root; sha256sum -c large.sum;"
            " pgrep -c sleep; ls -d /tmp/mine"
        )
        assert facts.stdout.split("\n")[:-1] == [
            "2",
            "notes.txt",
            "fifo",
            "2",
            "2750 user",
            str(1 << 30),
            "root",
            "large: OK",
            "0",
            "/tmp/mine",
        ]
        again.run_code("kept = 2")
        assert again.pause()
        assert again.connect(timeout=60).run_code("kept").text == "2"
        assert again.pause()
        rebooted = Sandbox.connect(sandbox.sandbox_id, timeout=60, on_resume="reboot")
        assert isinstance(rebooted, Sandbox)
        assert "NameError" in str(rebooted.run_code("kept").error)
        assert rebooted.files.read("notes.txt") == "before"
    finally:
        sandbox.kill()


def test_at_its_timeout_only_its_files_are_kept_where_that_was_wanted() -> None:
    sandbox = BaseSandbox.create(
        timeout=300, lifecycle={"on_timeout": {"action": "pause", "mode": "filesystem"}}
    )
    try:
        sandbox.files.write("notes.txt", "before")
        sandbox.set_timeout(1)
        deadline = time.monotonic() + 15
        while states(sandbox) != ["paused"]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert sandbox.connect(timeout=60).files.read("notes.txt") == "before"
    finally:
        sandbox.kill()


def test_a_sandbox_is_rolled_back(atoll: ServerProcess) -> None:
    sandbox = Sandbox.create(timeout=300)
    snapshot = None
    try:
        sandbox.run_code("kept = 'then'")
        sandbox.files.write("notes.txt", "then")
        snapshot = sandbox.create_snapshot(name=f"good-{uuid.uuid4().hex[:8]}")
        sandbox.run_code("kept = 'later'")
        sandbox.files.write("notes.txt", "later")
        rolled = atoll.run("atoll", "sandbox", "rollback", sandbox.sandbox_id, snapshot.snapshot_id)
        assert (rolled.returncode, rolled.stdout.strip()) == (0, sandbox.sandbox_id), rolled.stderr
        assert sandbox.run_code("kept").text == "then"
        assert sandbox.files.read("notes.txt") == "then"
        assert sandbox.commands.run("hostname").stdout.strip() == sandbox.sandbox_id
        assert states(sandbox) == ["running"]
    finally:
        sandbox.kill()
        if snapshot is not None:
            delete_unused(snapshot.snapshot_id)


def test_why_a_sandbox_ended_is_told_and_the_sdk_sees_404(atoll: ServerProcess) -> None:
    sandbox = BaseSandbox.create(timeout=60)
    sandbox.kill()
    with pytest.raises(NotFoundException):
        sandbox.get_info()
    told = atoll.run("atoll", "sandbox", "info", sandbox.sandbox_id, "--json")
    assert json.loads(told.stdout)["ended"]["reason"] == "request"


def test_a_stop_that_pauses_brings_everything_back(tmp_path: Path) -> None:
    with server(tmp_path, {"ATOLL_AT_STOP": "pause", "ATOLL_NETWORK": OTHER_NETWORK}) as other:
        environ = other.environ
        sandbox = Sandbox.create(
            timeout=300,
            api_key=environ["E2B_API_KEY"],
            api_url=environ["E2B_API_URL"],
            sandbox_url=environ["E2B_SANDBOX_URL"],
        )
        sandbox.run_code("kept = 5")
        other.kill(signal.SIGTERM)
        records = [*(other.home / "run/sandboxes").glob("*/record.json")]
        assert not [it for it in records if json.loads(it.read_text())["sandbox_id"]]
        other.start()
        deadline = time.monotonic() + 30
        while sandbox.get_info().state != SandboxState.RUNNING:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert sandbox.run_code("kept").text == "5"
        sandbox.kill()
