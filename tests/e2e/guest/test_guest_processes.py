"""`process.Process` in any image."""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from collections.abc import Callable

import pytest

from guest_wire import Run, Wire, collect

pytestmark = pytest.mark.machine

ENVD = "/.atoll/envd"


def test_a_command_starts_answers_and_ends(wire: Wire) -> None:
    run = wire.run(ENVD, "--version", user="root")
    assert run.text.strip() == "0.6.13"
    assert run.end == {"exitCode": 0, "exited": True, "status": "exit status 0"}
    assert run.pid > 1


def test_bash_is_sh_where_there_is_none(shell: Wire) -> None:
    assert shell.run("/bin/bash", "-l", "-c", "echo $((6 * 7))", user="root").text == "42\n"


@pytest.mark.parametrize(
    ("script", "end"),
    [
        ("exit 0", {"exitCode": 0, "exited": True, "status": "exit status 0"}),
        ("exit 3", {"exitCode": 3, "exited": True, "status": "exit status 3", "error": "exit status 3"}),
        (
            "kill -9 $$",
            {"exitCode": -1, "exited": False, "status": "signal: killed", "error": "signal: killed"},
        ),
        (
            "kill $$",
            {"exitCode": -1, "exited": False, "status": "signal: terminated", "error": "signal: terminated"},
        ),
    ],
)
def test_an_end_says_how(shell: Wire, script: str, end: dict[str, object]) -> None:
    assert shell.sh(script, user="root").end == end


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        ({"cmd": ""}, "invalid_argument", "no command"),
        ({"cmd": "/no/such"}, "invalid_argument", "no such file or directory"),
        ({"cmd": "no-such"}, "invalid_argument", "executable file not found in $PATH"),
        ({"cmd": "/tmp"}, "invalid_argument", "permission denied"),
        ({"cmd": ENVD, "cwd": "/no/such"}, "invalid_argument", "cwd '/no/such' does not exist"),
        ({"cmd": ENVD, "cwd": ENVD}, "invalid_argument", "is not a directory"),
    ],
)
def test_what_cannot_start_says_why(wire: Wire, request_: dict[str, str], code: str, words: str) -> None:
    cmd = request_.pop("cmd")
    run = wire.run(cmd, user="root", **request_)
    request_["cmd"] = cmd
    assert run.error is not None
    assert (str(run.error.code), words in run.error.message) == (code, True), run.error.message


def test_an_unknown_user_is_refused(wire: Wire) -> None:
    run = wire.run(ENVD, user="nobody-here")
    assert run.error is not None
    assert str(run.error.code) == "unauthenticated"


@pytest.mark.parametrize(
    ("method", "message", "status", "code"),
    [
        ("SendSignal", {"process": {"pid": 999_999}, "signal": "SIGNAL_SIGKILL"}, 404, "not_found"),
        ("SendSignal", {"process": {"tag": "none"}, "signal": "SIGNAL_SIGKILL"}, 404, "not_found"),
        ("SendInput", {"process": {"pid": 999_999}, "input": {"stdin": ""}}, 404, "not_found"),
        ("CloseStdin", {"process": {"pid": 999_999}}, 404, "not_found"),
        ("Update", {"process": {"pid": 999_999}, "pty": {"size": {"cols": 1, "rows": 1}}}, 404, "not_found"),
        ("SendSignal", {"process": {}, "signal": 9}, 400, "invalid_argument"),
    ],
)
def test_a_process_that_is_not_there(
    wire: Wire, method: str, message: dict[str, object], status: int, code: str
) -> None:
    got, body = wire.call(f"process.Process/{method}", message, user="root")
    assert (got, body["code"]) == (status, code)


def test_bytes_arrive_as_they_left(shell: Wire) -> None:
    noise = bytes(range(256)) * 5000 + "😀".encode() * 9000
    assert shell.write("/tmp/noise", noise, username="root").status_code == 200
    run = shell.sh("cat /tmp/noise; cat /tmp/noise >&2", user="root")
    assert hashlib.sha256(run.stdout).digest() == hashlib.sha256(noise).digest()
    assert hashlib.sha256(run.stderr).digest() == hashlib.sha256(noise).digest()


def test_variables_of_a_command_are_its_own(shell: Wire) -> None:
    assert shell.sh("echo $ONE-$HOME-$USER", user="root", envs={"ONE": "1"}).text == "1-/root-root\n"
    assert shell.sh("echo ${ONE-none}", user="root").text == "none\n"


def test_input_is_read_until_it_is_closed(shell: Wire) -> None:
    message = {"process": {"cmd": "/bin/cat"}, "stdin": True}
    with shell.stream("process.Process/Start", message, "root") as messages:
        process = {"pid": next(messages)["event"]["start"]["pid"]}
        for text in (b"one\n", b"\x00\xff\n"):
            body = {"process": process, "input": {"stdin": base64.b64encode(text).decode()}}
            assert shell.call("process.Process/SendInput", body, "root") == (200, {})
        assert shell.call("process.Process/CloseStdin", {"process": process}, "root") == (200, {})
        assert collect(messages).stdout == b"one\n\x00\xff\n"


def test_a_terminal_has_its_size(shell: Wire) -> None:
    message = {
        "process": {"cmd": "/bin/sh", "args": ["-c", "stty size; read x; stty size"]},
        "pty": {"size": {"cols": 100, "rows": 30}},
    }
    with shell.stream("process.Process/Start", message, "root") as messages:
        process = {"pid": next(messages)["event"]["start"]["pid"]}
        first = next(messages)["event"]["data"]["pty"]
        assert b"30 100" in base64.b64decode(first)
        size = {"process": process, "pty": {"size": {"cols": 80, "rows": 24}}}
        assert shell.call("process.Process/Update", size, "root") == (200, {})
        body = {"process": process, "input": {"pty": base64.b64encode(b"x\n").decode()}}
        assert shell.call("process.Process/SendInput", body, "root") == (200, {})
        assert b"24 80" in collect(messages).pty


def test_the_time_limit_is_the_life_of_the_process(shell: Wire) -> None:
    begin = time.monotonic()
    run = shell.sh("sleep 30", user="root", timeout_ms=400)
    assert time.monotonic() - begin < 10
    assert run.error is not None
    assert str(run.error.code) == "deadline_exceeded"


def test_a_client_that_goes_away_kills_nothing_and_replay_gives_all_back(shell: Wire) -> None:
    message = {"process": {"cmd": "/bin/sh", "args": ["-c", "seq 1 20000; sleep 1; echo end"]}, "tag": "kept"}
    with shell.stream("process.Process/Start", message, "root") as messages:
        next(messages)
    connecting = {"process": {"tag": "kept"}}
    with shell.stream("process.Process/Connect", connecting, "root", {"Atoll-Replay": "all"}) as messages:
        run = collect(messages)
    assert run.text == "".join(f"{n}\n" for n in range(1, 20001)) + "end\n"
    assert run.start["replay"]["stdout"] == 0
    assert run.end["exitCode"] == 0
    with shell.stream(
        "process.Process/Connect", connecting, "root", {"Atoll-Replay": "stdout=10,stderr=0"}
    ) as m:
        assert collect(m).stdout == run.stdout[10:]


def test_a_kill_finds_those_who_left_the_session(shell: Wire) -> None:
    script = "(setsid sh -c '(setsid sleep 4321 &) ; exit' &); sleep 100"
    with shell.stream(
        "process.Process/Start", {"process": {"cmd": "/bin/sh", "args": ["-c", script]}}, "root"
    ) as m:
        process = {"pid": next(m)["event"]["start"]["pid"]}
        _until(lambda: _running(shell, "sleep 4321"))
        body = {"process": process, "signal": "SIGNAL_SIGKILL"}
        assert shell.call("process.Process/SendSignal", body, "root") == (200, {})
        assert collect(m).end["status"] == "signal: killed"
    assert not _running(shell, "sleep 4321")


def test_what_a_command_leaves_behind_lives_on(shell: Wire) -> None:
    assert shell.sh("(sleep 4322 &) ; echo done", user="root").text == "done\n"
    assert _running(shell, "sleep 4322")
    shell.sh("for p in /proc/[0-9]*; do grep -qa 4322 $p/cmdline && kill -9 ${p#/proc/}; done", user="root")


def test_nobody_is_left_unreaped(shell: Wire) -> None:
    shell.sh("for i in 1 2 3 4 5; do (sleep 0 &) ; done", user="root")
    zombies = "cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z' || true"
    _until(lambda: shell.sh(zombies, user="root").text == "0\n")


@pytest.mark.parametrize(
    "bomb",
    ["i=0; while [ $i -lt 2000 ]; do sleep 60 & i=$((i+1)); done; wait", "b() { b | b & }; b; sleep 60"],
)
def test_a_fork_bomb_ends_and_the_daemon_answers(shell: Wire, bomb: str) -> None:
    run = shell.sh(bomb, user="root")
    assert run.end["error"].startswith("process limit exceeded ("), run.end
    after = shell.sh("echo alive", user="root")
    assert after.text == "alive\n", after


def test_a_greedy_process_ends_and_the_daemon_answers(shell: Wire) -> None:
    answers: list[int] = []
    done = threading.Event()

    def probe() -> None:
        # How soon is `bench guest`'s to say.
        while not done.wait(0.01):
            answers.append(shell.http.get("/health", timeout=20).status_code)

    prober = threading.Thread(target=probe)
    prober.start()
    try:
        run = shell.sh("tail /dev/zero", user="root")
        assert prober.is_alive(), "the daemon did not answer"
    finally:
        done.set()
        prober.join()
    assert run.end["error"].startswith("memory limit exceeded (used "), run.end
    assert set(answers) == {204}
    events = shell.http.get("/events").json()["events"]
    assert "memory_limit_exceeded" in [event["type"] for event in events]


def _running(wire: Wire, words: str) -> bool:
    pattern = words.replace(" ", ".")
    listing = "for c in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $c; echo; done 2>/dev/null"
    run: Run = wire.sh(f"{listing} | grep '^{pattern}' || true", user="root")
    return words in run.text


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
