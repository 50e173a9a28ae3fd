import base64
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from atoll.cli.transcript import tidy_traceback
from atoll_wire.executions import Count, Failure, Keepalive, Result, Stderr, Stdout

from .conftest import KEY, SANDBOX_ID, TOKEN, Command, Double

PNG = base64.b64encode(b"\x89PNG picture").decode()
CHART: dict[str, object] = {"type": "bar", "title": None, "elements": []}


def test_output_and_the_last_value_are_shown(server: Double, atoll: Command) -> None:
    server.says(
        Count(1), Stdout("hello\n"), Stderr("careful\n"), Keepalive(), Result({"text": "2"}, is_main=True)
    )
    ended = atoll("run", "print('hello'); 1+1")
    assert (ended.code, ended.out, ended.err) == (0, "hello\n2\n", "careful\n")


def test_the_sandbox_is_made_used_with_its_token_and_killed(server: Double, atoll: Command) -> None:
    server.says()
    atoll("run", "-t", "mine", "--timeout", "60", "-e", "A=b=c", "pass")
    health, create, execute, kill = server.seen
    assert health.path == "/health"
    assert create.headers["x-api-key"] == KEY
    assert json.loads(create.body) == {
        "templateID": "mine",
        "timeout": 60,
        "envVars": {"A": "b=c"},
        "metadata": {"atoll.cli": "run"},
    }
    assert execute.headers["e2b-sandbox-id"] == SANDBOX_ID
    assert execute.headers["e2b-sandbox-port"] == "49999"
    assert execute.headers["x-access-token"] == TOKEN
    assert "x-api-key" not in execute.headers
    assert json.loads(execute.body) == {"code": "pass"}
    assert (kill.method, kill.path) == ("DELETE", f"/sandboxes/{SANDBOX_ID}")


def test_an_exception_in_the_code_is_shown_with_exit_code_1(server: Double, atoll: Command) -> None:
    server.says(Stdout("before"), Failure("NameError", "x", "Traceback …\nNameError: x"))
    ended = atoll("run", "x")
    assert (ended.code, ended.out, ended.err) == (1, "before\n", "Traceback …\nNameError: x\n")
    assert server.sandboxes == set()


def test_a_tracebacks_heading_gets_its_lines_back() -> None:
    joined = "-" * 75 + "ValueError    Traceback (most recent call last)Cell In[1], line 1\n----> 1 x\n"
    assert tidy_traceback(joined).splitlines() == [
        "-" * 75,
        "ValueError    Traceback (most recent call last)",
        "Cell In[1], line 1",
        "----> 1 x",
    ]
    assert tidy_traceback("ValueError: x") == "ValueError: x"


def test_a_sandbox_can_be_kept(server: Double, atoll: Command) -> None:
    server.says()
    ended = atoll("run", "--keep", "pass")
    assert server.sandboxes == {SANDBOX_ID}
    assert f"sandbox kill {SANDBOX_ID}" in ended.err


def test_a_picture_that_cannot_be_drawn_says_how_to_get_it(server: Double, atoll: Command) -> None:
    server.says(Result({"text": "<Figure>", "png": PNG, "chart": CHART}))
    ended = atoll("run", "plot()")
    assert ended.out == ""
    assert "result-1.png" in ended.err
    assert "--out DIR" in ended.err


def test_results_are_saved_as_files(server: Double, atoll: Command, tmp_path: Path) -> None:
    server.says(
        Result({"text": "<Figure>", "png": PNG, "chart": CHART}), Result({"text": "t", "html": "<b>"})
    )
    out = tmp_path / "new" / "out"
    ended = atoll("run", "--out", str(out), "plot()")
    assert ended.code == 0
    assert (out / "result-1.png").read_bytes() == b"\x89PNG picture"
    assert json.loads((out / "result-1.chart.json").read_text()) == CHART
    assert (out / "result-2.html").read_text() == "<b>"
    assert str(out / "result-1.png") in ended.err


def test_everything_comes_as_one_json_document(server: Double, atoll: Command) -> None:
    server.create_headers = {"Server-Timing": "restore;dur=12.5, warm;dur=1.00"}
    server.says(Count(3), Stdout("a"), Stdout("b"), Result({"text": "2"}, True), Failure("E", "v", "t"))
    ended = atoll("run", "--json", "x")
    document = json.loads(ended.out)
    assert ended.code == 1
    assert (document["sandboxID"], document["executionCount"], document["stdout"]) == (SANDBOX_ID, 3, "ab")
    assert document["results"] == [{"text": "2", "isMainResult": True, "extra": {}}]
    assert document["error"] == {"name": "E", "value": "v", "traceback": "t"}
    assert document["createMs"] == {"restore": 12.5, "warm": 1.0}


def test_timing_tells_the_sandboxs_part(server: Double, atoll: Command) -> None:
    server.create_headers = {"Server-Timing": "restore;dur=12.5, nonsense;dur=x, other"}
    server.says()
    ended = atoll("run", "--timing", "pass")
    assert ended.out == ""
    assert [line.split()[0] for line in ended.err.splitlines()] == [
        "server",
        "create",
        "restore",
        "run",
        "kill",
        "together",
    ]


def test_code_comes_from_a_file(server: Double, atoll: Command, tmp_path: Path) -> None:
    server.says()
    (tmp_path / "code.py").write_bytes(b"\xef\xbb\xbfprint('\xc3\xbc')\n")
    atoll("run", "-f", str(tmp_path / "code.py"))
    assert json.loads(server.seen[2].body)["code"] == "print('ü')\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "no code to run"),
        (("1", "-f", "x.py"), "as an argument and in a file"),
        (("-f", "/no/such/file.py"), "cannot be read"),
        (("-f", "/"), "cannot be read"),
        (("--timeout", "0", "1"), "too small"),
        (("--timeout", "-5", "1"), "too small"),
        (("--timeout", "soon", "1"), "--timeout"),
        (("--env", "NAME", "1"), "not KEY=VALUE"),
        (("--env", "=x", "1"), "not KEY=VALUE"),
        (("--out", "/proc/no/such", "1"), "cannot be saved"),
        (("--nonsense", "1"), "nonsense"),
    ],
)
def test_bad_arguments_are_told(
    server: Double, atoll: Command, arguments: tuple[str, ...], words: str
) -> None:
    ended = atoll("run", *arguments)
    assert ended.code in (1, 2)
    assert words in ended.err
    assert server.paths("POST") == []


def test_a_file_that_is_no_text_is_told(server: Double, atoll: Command, tmp_path: Path) -> None:
    (tmp_path / "code.bin").write_bytes(b"\xff\xfe\x00")
    assert "no UTF-8" in atoll("run", "-f", str(tmp_path / "code.bin")).err


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((404, {"code": 404, "message": "template 'x' not found"}), "template 'x' not found"),
        ((400, {"code": 400, "message": "Timeout cannot be greater than 24 hours"}), "24 hours"),
        ((429, {"code": 429, "message": "too many"}), "kill sandboxes"),
        ((503, {"code": 503, "message": "Failed to place sandbox"}), "doctor"),
        ((500, b"<html>"), "<html>"),
        ((201, b"not json"), "makes no sense"),
        ((201, {"templateID": "t"}), "makes no sense"),
    ],
)
def test_a_create_that_fails_is_told(
    server: Double, atoll: Command, answer: tuple[int, object], words: str
) -> None:
    server.create = answer
    ended = atoll("run", "1")
    assert ended.code == 1
    assert words in ended.err
    assert "what to do" in ended.err
    assert server.paths("DELETE") == []


def test_a_key_that_is_not_accepted_is_told(server: Double, atoll: Command, home: Path) -> None:
    (home / "credentials").write_text("E2B_API_KEY=e2b_wrong\n")
    ended = atoll("run", "1")
    assert ended.code == 1
    assert "does not accept the key" in ended.err
    assert str(home / "credentials") in ended.err


@pytest.mark.parametrize("content", [None, "", "E2B_API_KEY=\n", "nonsense\n"])
def test_a_missing_key_is_told(server: Double, atoll: Command, home: Path, content: str | None) -> None:
    (home / "credentials").unlink()
    if content is not None:
        (home / "credentials").write_text(content)
    ended = atoll("run", "1")
    assert ended.code == 1
    assert "setup" in ended.err


@pytest.mark.parametrize("cut", [True, False])
def test_a_stream_that_breaks_off_is_told(server: Double, atoll: Command, cut: bool) -> None:
    server.says(Stdout("half\n"))
    server.execution.pop()
    server.cut = cut
    ended = atoll("run", "1")
    assert (ended.code, ended.out) == (1, "half\n")
    assert "broke off" in ended.err
    assert server.sandboxes == set()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ((502, {"code": 502, "message": "The sandbox was not found"}), "runs no more"),
        (
            (502, {"code": 502, "message": "The sandbox is running but port is not open"}),
            "code-interpreter-v1",
        ),
        ((500, b"Failed to create context"), "Failed to create context"),
    ],
)
def test_an_execution_that_is_refused_is_told(
    server: Double, atoll: Command, status: tuple[int, object], words: str
) -> None:
    server.execution_status = status
    ended = atoll("run", "1")
    assert ended.code == 1
    assert words in ended.err


def test_a_line_that_is_garbage_is_told(server: Double, atoll: Command) -> None:
    server.execution = [b"]]\n"]
    assert "makes no sense" in atoll("run", "1").err


def test_code_that_takes_too_long_is_stopped(server: Double, atoll: Command) -> None:
    server.execution, server.wait = [], True
    ended = atoll("run", "--timeout", "1", "while True: pass")
    assert ended.code == 124
    assert "--timeout" in ended.err
    assert server.sandboxes == set()


def test_a_server_elsewhere_that_is_down_is_told_not_started(
    home: Path, atoll: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("E2B_API_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
        ended = atoll("run", "1")
    assert ended.code == 1
    assert "no server answers" in ended.err
    assert not (home / "logs").exists()


def test_the_key_of_this_machine_stays_on_it(
    server: Double, atoll: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("E2B_API_URL", f"http://localhost:{server.port}")
    ended = atoll("run", "1")
    assert "there is no key for" in ended.err
    assert all("x-api-key" not in request.headers for request in server.seen)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_the_code_and_kills_the_sandbox(server: Double, signum: signal.Signals) -> None:
    server.says(Stdout("started\n"))
    server.execution.pop()
    server.wait = True
    command = [sys.executable, "-m", "atoll", "run", "while True: pass"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "started\n"
        process.send_signal(signum)
        err = process.stderr.read()
        assert process.wait(10) == 128 + signum
    assert err == ""
    assert server.sandboxes == set()


def test_output_comes_as_it_happens_and_a_closed_pipe_ends_quietly(server: Double) -> None:
    server.execution = [b'{"type":"stdout","text":"line\\n","timestamp":""}\n'] * 20_000
    command = [sys.executable, "-m", "atoll", "run", "spam"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "line\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(10) == 1
    assert server.sandboxes == set()


def test_help_imports_nothing_slow(home: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "atoll", "--help"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in told.splitlines()}
    assert "typer" in imported
    assert imported & {"httpx", "rich", "pydantic", "ssl", "asyncio", "atoll_wire"} == set()


def test_run_imports_no_tables(home: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-c", "import atoll.cli.run"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in told.splitlines()}
    assert "httpx" in imported
    assert imported & {"rich", "pygments", "hpack", "click"} == set()
