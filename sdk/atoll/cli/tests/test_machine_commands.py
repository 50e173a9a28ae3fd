import json
import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from atoll.cli import check, server
from atoll.cli.http import is_loopback
from atoll.cli.settings import read_settings

from .conftest import KEY, Command, Double


def test_env_is_understood_by_a_shell(home: Path, atoll: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATOLL_DOMAIN", "a b'c")
    script = (
        atoll("env").out + 'printf "%s\\n" "$E2B_API_KEY" "$E2B_API_URL" "$E2B_SANDBOX_URL" "$E2B_DOMAIN"'
    )
    told = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout.splitlines() == [KEY, "http://127.0.0.1:8600", "http://127.0.0.1:8600", "a b'c"]


def test_env_prints_json_and_takes_back(home: Path, atoll: Command) -> None:
    values = json.loads(atoll("env", "--json").out)
    assert values["E2B_API_KEY"] == KEY
    assert shlex.split(atoll("env", "--unset").out) == ["unset", *values]


def test_env_by_domain_tells_what_https_needs(home: Path, atoll: Command) -> None:
    bundle = str(home / "tls/bundle.pem")
    announcement = home / "run/tls.json"
    announcement.parent.mkdir(exist_ok=True)
    announcement.write_text(json.dumps({"domain": "atoll.localhost:8443", "bundle": bundle, "root": "r"}))
    assert json.loads(atoll("env", "--domain", "--json").out) == {
        "E2B_API_KEY": KEY,
        "E2B_DOMAIN": "atoll.localhost:8443",
        "SSL_CERT_FILE": bundle,
        "REQUESTS_CA_BUNDLE": bundle,
        "NODE_EXTRA_CA_CERTS": bundle,
    }
    assert atoll("env", "--domain").out.splitlines()[-1] == "unset E2B_API_URL E2B_SANDBOX_URL"
    announcement.write_text(json.dumps({"domain": "sandbox.example.org", "bundle": None, "root": None}))
    values = json.loads(atoll("env", "--domain", "--json").out)
    assert values == {"E2B_API_KEY": KEY, "E2B_DOMAIN": "sandbox.example.org"}


def test_env_by_domain_without_https_says_why(home: Path, atoll: Command) -> None:
    ended = atoll("env", "--domain")
    assert (ended.code, ended.out) == (1, "")
    assert "https" in ended.err


def test_env_without_a_key_prints_nothing_to_evaluate(home: Path, atoll: Command) -> None:
    (home / "credentials").unlink()
    ended = atoll("env")
    assert (ended.code, ended.out) == (1, "")
    assert "setup" in ended.err


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ATOLL_PORT", "0"),
        ("ATOLL_PORT", "http"),
        ("ATOLL_PORT", "99999"),
        ("E2B_API_URL", "localhost"),
        ("E2B_API_URL", "ftp://x"),
        ("E2B_API_URL", "http://[x"),
        ("E2B_SANDBOX_URL", "http://"),
        ("E2B_SANDBOX_URL", "http://x:port"),
    ],
)
def test_a_variable_that_cannot_be_used_is_told(
    home: Path, atoll: Command, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    ended = atoll("sandbox", "list")
    assert ended.code == 1
    assert name in ended.err


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8600", True),
        ("http://[::1]:1", True),
        ("http://atoll.localhost", True),
        ("https://api.example.com", False),
        ("http://10.0.0.1", False),
    ],
)
def test_loopback(url: str, expected: bool) -> None:
    assert is_loopback(url) == expected


@pytest.mark.parametrize(
    "arguments",
    [
        ("serve",),
        ("serve", "--domain", "x.example", "--tls-port=8443"),
        ("trust", "--remove"),
        ("down",),
        ("doctor", "--json"),
        ("setup", "--all"),
        ("uninstall", "--yes"),
        ("setup", "x", "-v"),
    ],
)
def test_commands_of_the_machine_are_handed_over(
    home: Path, atoll: Command, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    handed: list[list[str]] = []

    def execv(program: str, words: list[str]) -> None:
        handed.append(words)
        raise SystemExit(0)

    monkeypatch.setattr(os, "execv", execv)
    atoll(*arguments)
    assert handed == [[sys.executable, "-m", "atolld", *arguments]]


@pytest.mark.parametrize(
    "arguments",
    [
        ("run",),
        *(("sandbox", name) for name in ("create", "list", "info", "kill", "exec")),
        *((name,) for name in ("serve", "down", "env", "doctor", "setup", "uninstall", "test")),
        ("bench", "create"),
    ],
)
def test_every_command_has_help_with_an_example(
    home: Path, atoll: Command, arguments: tuple[str, ...]
) -> None:
    ended = atoll(*arguments, "--help")
    assert ended.code == 0
    assert "Example" in ended.out
    assert f"./atoll {' '.join(arguments)}" in ended.out


def write_server(directory: Path, body: str) -> None:
    """A program that stands for `python -m atolld`: ``sys.executable`` of the command line."""
    program = directory / "python"
    program.write_text(f"#!{sys.executable}\n{body}")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


SERVER = """
import http.server, os, sys
print("listening", flush=True)
print("pid", os.getpid(), flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204)
        self.end_headers()
    def log_message(self, *args):
        print("served", flush=True)
assert sys.argv[1:] == ["-m", "atolld", "serve"], sys.argv
http.server.HTTPServer(("127.0.0.1", int(os.environ["ATOLL_PORT"])), Handler).handle_request()
"""


@pytest.fixture
def free_port(monkeypatch: pytest.MonkeyPatch) -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("ATOLL_PORT", str(port))
    return port


def test_a_server_is_started_in_the_background_when_none_runs(
    home: Path,
    free_port: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    from atoll.cli.client import Client

    write_server(tmp_path, SERVER)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with Client(read_settings()) as client:
        assert server.ensure_server(client) > 0
    told = capfd.readouterr().err
    assert "starting one in the background" in told
    assert str(home / "logs" / "server.log") in told
    assert (home / "logs" / "server.log").read_text().startswith("listening")


def test_two_commands_at_once_start_one_server(
    home: Path, free_port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from atoll.cli.client import Client

    write_server(tmp_path, SERVER.replace("handle_request()", "serve_forever()"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))

    def ensure(_: int) -> None:
        with Client(read_settings()) as client:
            server.ensure_server(client)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ensure, range(4)))
    log = (home / "logs" / "server.log").read_text()
    pid = next(line for line in log.splitlines() if line.startswith("pid")).split()[1]
    os.kill(int(pid), signal.SIGKILL)
    assert log.count("listening") == 1


def test_a_server_that_cannot_start_is_told_with_its_log(
    home: Path, free_port: int, atoll: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (home / "logs").mkdir()
    (home / "logs" / "server.log").write_text("of long ago\n")
    write_server(tmp_path, 'import sys; sys.exit("runsc is broken: run doctor")')
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    ended = atoll("run", "1")
    assert ended.code == 1
    assert "could not start (exit code 1)" in ended.err
    assert "runsc is broken" in ended.err
    assert "of long ago" not in ended.err


def test_a_log_that_cannot_be_written_is_told(home: Path, free_port: int, atoll: Command) -> None:
    (home / "logs").write_text("in the way")
    ended = atoll("run", "1")
    assert ended.code == 1
    assert "cannot be written" in ended.err


def test_a_server_that_runs_is_not_started_again(server: Double, atoll: Command, home: Path) -> None:
    server.says()
    assert atoll("run", "1").err == ""
    assert not (home / "logs").exists()


@pytest.mark.parametrize("quick", [True, False])
def test_check_runs_all_steps_and_keeps_the_first_failure(
    quick: bool, home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def plan(bin_directory: Path, quick: bool, arguments: object) -> list[check.Step]:
        return [
            check.Step("good", ["true"]),
            check.Step("bad", ["sh", "-c", "exit 3"]),
            check.Step("missing", ["no-such-tool-at-all"]),
            check.Step("last", ["sh", "-c", "sleep 5 & echo $! >&2; echo 9 passed"]),
        ]

    monkeypatch.setattr(check, "plan_steps", plan)
    assert check.check(quick, ()) == 3
    out = capfd.readouterr().out
    assert out.index("── bad: failed (exit code 3)") < out.index("9 passed")
    assert "failed: bad, missing" in out


def test_check_finds_the_go_that_setup_fetched(home: Path) -> None:
    fetched = home / "bin" / "go-1234" / "bin"
    fetched.mkdir(parents=True)
    places = check.environment({"PATH": "/usr/bin"}, home)["PATH"].split(":")
    assert places[0] == str(Path(sys.executable).parent)
    assert places.index(str(fetched)) < places.index("/usr/bin")


def test_check_leaves_out_the_machine_when_quick() -> None:
    def pytest_step(quick: bool) -> list[str]:
        return list(check.plan_steps(Path("/bin"), quick, ["-k", "x"])[-1].command)

    assert pytest_step(True) == ["/bin/pytest", "-m", "not machine and not slow", "-k", "x"]
    assert pytest_step(False) == ["/bin/pytest", "-k", "x"]
    assert (check.PROJECT / "pyproject.toml").is_file()


def test_a_fault_of_ours_is_told_without_a_traceback(
    home: Path, atoll: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from atoll.cli import environment

    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(environment, "print_environment", broken)
    ended = atoll("env")
    assert ended.code == 70
    assert "fault in atoll itself" in ended.err
    report = Path(ended.err.split()[-1])
    assert "ZeroDivisionError" in report.read_text()
    report.unlink()


def test_what_comes_after_two_dashes_goes_to_pytest(
    home: Path, atoll: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[bool, list[str]]] = []

    def note(quick: bool, arguments: list[str]) -> int:
        asked.append((quick, list(arguments)))
        return 4

    monkeypatch.setattr(check, "check", note)
    assert atoll("test", "--quick", "--", "-k", "a or b", "-x").code == 4
    assert atoll("test").code == 4
    assert asked == [(True, ["-k", "a or b", "-x"]), (False, [])]
