import io
import json
import os
import subprocess
import sys
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from atoll.cli.command import exit_code, is_piped, join_words
from atoll_wire.connect import Code, ConnectError
from atoll_wire.process import Ended, Keepalive, Output, Started

from .conftest import SANDBOX_ID, Command, Double, listed


def test_create_prints_the_id(server: Double, atoll: Command) -> None:
    ended = atoll("sandbox", "create", "mine", "--timeout", "9", "-m", "owner=me", "--no-internet")
    assert (ended.code, ended.out) == (0, SANDBOX_ID + "\n")
    assert json.loads(server.seen[1].body) == {
        "templateID": "mine",
        "timeout": 9,
        "metadata": {"owner": "me"},
        "envVars": {},
        "allow_internet_access": False,
    }


def test_create_prints_json(server: Double, atoll: Command) -> None:
    assert json.loads(atoll("sandbox", "create", "--json").out)["sandboxID"] == SANDBOX_ID


def test_list_follows_the_pages(server: Double, atoll: Command) -> None:
    server.pages = [[listed("i1"), listed("i2")], [listed("i3", metadata={"a": "b"})]]
    ended = atoll("sandbox", "list")
    header, *rows = ended.out.splitlines()
    assert header.split("   ")[0] == "SANDBOX ID"
    assert [row.split()[0] for row in rows] == ["i1", "i2", "i3"]
    assert rows[2].split()[-1] == "a=b"
    assert "nextToken=more" in server.seen[1].path


def test_list_stops_at_the_limit(server: Double, atoll: Command) -> None:
    server.pages = [[listed("i1"), listed("i2")], [listed("i3")]]
    found = json.loads(atoll("sandbox", "list", "--limit", "1", "--json").out)
    assert [one["sandboxID"] for one in found] == ["i1"]
    assert "limit=1" in server.seen[0].path


def test_the_metadata_filter_is_encoded_as_the_api_wants_it(server: Double, atoll: Command) -> None:
    atoll("sandbox", "list", "-m", "a b=c&d=é", "-t", "base", "-s", "running,paused")
    query = urlsplit(server.seen[0].path).query
    assert parse_qs(query)["state"] == ["running,paused"]
    assert parse_qs(query)["template"] == ["base"]
    (once,) = parse_qs(query)["metadata"]
    ((key, value),) = ((unquote(k), unquote(v)) for k, v in (unquote(once).split("="),))
    assert (key, value) == ("a b", "c&d=é")


def test_an_empty_list_says_so(server: Double, atoll: Command) -> None:
    server.pages = []
    ended = atoll("sandbox", "list")
    assert (ended.code, ended.out) == (0, "")
    assert "no sandbox" in ended.err


def test_info_shows_one(server: Double, atoll: Command) -> None:
    assert SANDBOX_ID in atoll("sandbox", "info", SANDBOX_ID).out
    found = json.loads(atoll("sandbox", "info", SANDBOX_ID, "--json").out)
    assert (found["state"], "envdAccessToken" in found) == ("running", False)


def test_info_of_an_unknown_one_is_told(server: Double, atoll: Command) -> None:
    ended = atoll("sandbox", "info", "../i1")
    assert ended.code == 1
    assert "doesn't exist" in ended.err
    assert server.seen[0].path == "/sandboxes/..%2Fi1"


def test_info_of_one_that_is_over_says_who_and_why(server: Double, atoll: Command) -> None:
    server.ended = {"reason": "request", "detail": "killed by team local", "at": "2026-01-02T03:04:05Z"}
    told = atoll("sandbox", "info", "i1")
    assert (told.code, "killed by team local" in told.out) == (0, True)
    assert json.loads(atoll("sandbox", "info", "i1", "--json").out)["ended"]["reason"] == "request"


def test_rollback_names_the_snapshot(server: Double, atoll: Command) -> None:
    assert atoll("sandbox", "rollback", SANDBOX_ID, "local/good:v1").out == SANDBOX_ID + "\n"
    assert server.seen[0].path == f"/sandboxes/{SANDBOX_ID}/rollback"
    assert json.loads(server.seen[0].body) == {"snapshotID": "local/good:v1"}


def test_kill_ends_all_it_is_given_and_tells_the_missing(server: Double, atoll: Command) -> None:
    ended = atoll("sandbox", "kill", "igone", SANDBOX_ID)
    assert ended.code == 1
    assert ended.out == f"killed {SANDBOX_ID}\n"
    assert "no sandbox igone" in ended.err


def test_kill_all(server: Double, atoll: Command) -> None:
    ended = atoll("sandbox", "kill", "--all", "--json")
    assert (ended.code, json.loads(ended.out)) == (0, {"killed": [SANDBOX_ID]})


@pytest.mark.parametrize("arguments", [(), ("--all", "i1")])
def test_kill_wants_ids_or_all(server: Double, atoll: Command, arguments: tuple[str, ...]) -> None:
    assert atoll("sandbox", "kill", *arguments).code == 2


def test_exec_passes_output_and_exit_code_on(server: Double, atoll: Command) -> None:
    server.process_says(
        Started(7),
        Output("stdout", b"out\xff"),
        Keepalive(),
        Output("stderr", b"err"),
        Ended(3, True, "exit status 3", "exit status 3"),
    )
    ended = atoll("sandbox", "exec", "-u", "root", "-c", "/tmp", "-e", "A=b", SANDBOX_ID, "ls", "-l", "a b")
    assert (ended.code, ended.err) == (3, "err")
    assert ended.out.startswith("out")
    start = next(request for request in server.seen if request.path == "/process.Process/Start")
    assert json.loads(start.body[5:])["process"] == {
        "cmd": "/bin/bash",
        "args": ["-l", "-c", "ls -l 'a b'"],
        "envs": {"A": "b"},
        "cwd": "/tmp",
    }
    assert start.headers["authorization"] == "Basic cm9vdDo="
    assert start.headers["e2b-sandbox-port"] == "49983"
    assert "connect-timeout-ms" not in start.headers


def test_exec_in_the_background_does_not_wait(server: Double, atoll: Command) -> None:
    server.process_says(Started(7))
    server.process.pop()
    server.wait = True
    ended = atoll("sandbox", "exec", "-b", SANDBOX_ID, "sleep 100")
    assert (ended.code, ended.out) == (0, "")
    assert "pid 7" in ended.err


def test_exec_sends_what_is_piped_into_it(server: Double) -> None:
    server.process_says(Started(7))
    server.process.pop()
    server.wait = True
    command = [sys.executable, "-m", "atoll", "sandbox", "exec", SANDBOX_ID, "cat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b"hello")
        process.stdin.close()
        while "/process.Process/CloseStdin" not in server.paths("POST"):
            assert process.poll() is None
        process.terminate()
        assert process.wait(10) == 143
    bodies = {request.path: request.body for request in server.seen}
    assert json.loads(bodies["/process.Process/SendInput"]) == {
        "process": {"pid": 7},
        "input": {"stdin": "aGVsbG8="},
    }
    assert json.loads(bodies["/process.Process/SendSignal"])["signal"] == "SIGNAL_SIGKILL"


@pytest.mark.parametrize(
    ("error", "words", "code"),
    [
        (ConnectError(Code.DEADLINE_EXCEEDED, "too late"), "--timeout", 124),
        (ConnectError(Code.INVALID_ARGUMENT, "cwd '/x' does not exist"), "cwd '/x' does not exist", 1),
        (ConnectError(Code.UNAUTHENTICATED, "invalid username: 'x'"), "user's name", 1),
        (None, "end was not told", 1),
    ],
)
def test_a_command_that_fails_to_run_is_told(
    server: Double, atoll: Command, error: ConnectError | None, words: str, code: int
) -> None:
    server.process_says(Started(7), error=error)
    ended = atoll("sandbox", "exec", SANDBOX_ID, "ls")
    assert ended.code == code
    assert words in ended.err


def test_a_command_whose_stream_breaks_off_is_told(server: Double, atoll: Command) -> None:
    server.process_says(Started(7))
    server.process.pop()
    server.cut = True
    assert "broke off" in atoll("sandbox", "exec", SANDBOX_ID, "ls").err


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        (Ended(0, True, "exit status 0"), 0),
        (Ended(130, True, "exit status 130"), 130),
        (Ended(-1, False, "signal: killed"), 137),
        (Ended(-1, False, "signal: terminated"), 143),
        (Ended(-1, False, "signal: segmentation fault (core dumped)"), 139),
        (Ended(-1, False, ""), 137),
    ],
)
def test_exit_codes_are_as_a_shell_has_them(ended: Ended, expected: int) -> None:
    assert exit_code(ended) == expected


def test_one_word_is_a_line_and_several_are_quoted() -> None:
    assert join_words(["ls | head"]) == "ls | head"
    assert join_words(["echo", "a b"]) == "echo 'a b'"
    assert join_words(["--", "ls", "-l"]) == "ls -l"


def test_only_input_that_ends_is_passed_on() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as pipe, open(os.devnull, "rb") as null:
        os.close(writing)
        assert is_piped(pipe)
        assert not is_piped(null)
    assert not is_piped(io.BytesIO())
