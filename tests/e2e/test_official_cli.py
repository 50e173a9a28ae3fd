"""The official command line `@e2b/cli` (npm), unmodified, its interactive terminal on a real pty."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from npm_packages import install
from server_process import ServerProcess

pytestmark = [pytest.mark.machine, pytest.mark.timeout(180)]

SOURCE = Path(__file__).parent / "cli"
TEMPLATE = "code-interpreter-v1"
PROMPT = re.compile(rb"[$#] (\x1b\[\?2004h)?$")


@pytest.fixture(scope="session")
def program() -> Path:
    return install("official-cli", SOURCE) / "node_modules" / ".bin" / "e2b"


class Cli:
    def __init__(self, program: Path, environ: dict[str, str], home: Path) -> None:
        self._program = program
        self._environ = {**environ, "HOME": str(home), "NO_UPDATE_NOTIFIER": "1", "NO_COLOR": "1"}

    def run(self, *arguments: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        """``stdin`` is a pipe; ``None``: there is none to read."""
        given: dict[str, Any] = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
        return subprocess.run(
            [self._program, *arguments],
            env=self._environ,
            capture_output=True,
            timeout=60,
            check=False,
            **given,
        )

    def ok(self, *arguments: str) -> str:
        ran = self.run(*arguments)
        assert ran.returncode == 0, ran.stdout.decode() + ran.stderr.decode()
        return ran.stdout.decode()

    def terminal(self, *arguments: str, size: tuple[int, int] = (24, 80)) -> pexpect.spawn:
        """The command on a pty of ``size`` rows and columns, its first prompt come."""
        command = pexpect.spawn(
            str(self._program), list(arguments), env=self._environ, timeout=40, dimensions=size, maxread=65536
        )
        command.expect(PROMPT)
        return command


@pytest.fixture(scope="module", params=["by urls", "by the domain over https"])
def cli(
    request: pytest.FixtureRequest,
    atoll: ServerProcess,
    program: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Cli:
    environ = atoll.environ if request.param == "by urls" else atoll.domain_environ()
    return Cli(program, environ, tmp_path_factory.mktemp("cli-home"))


@pytest.fixture(scope="module")
def sandbox_id(cli: Cli) -> Iterator[str]:
    made = _create(cli)
    yield made
    cli.run("sandbox", "kill", made)


def _create(cli: Cli) -> str:
    out = cli.ok("sandbox", "create", TEMPLATE, "--detach")
    found = re.search(r"\bi[a-z0-9]{10,}\b", out)
    assert found, out
    return found[0]


# --- exec


def test_exec_prints_what_the_command_prints(cli: Cli, sandbox_id: str) -> None:
    ran = cli.run("sandbox", "exec", sandbox_id, "echo out; echo err >&2")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"out\n", b"err\n")


@pytest.mark.parametrize("code", [0, 1, 7, 200])
def test_exec_ends_with_the_commands_exit_code(cli: Cli, sandbox_id: str, code: int) -> None:
    assert cli.run("sandbox", "exec", sandbox_id, f"exit {code}").returncode == code


def test_exec_takes_arguments_user_directory_and_variables(cli: Cli, sandbox_id: str) -> None:
    command = ("printf", "%s|", "two words", "$HOME", "it's")
    assert cli.ok("sandbox", "exec", sandbox_id, *command) == "two words|$HOME|it's|"
    options = ("-u", "root", "-c", "/tmp", "-e", "A=1", "-e", "B=2 3")
    told = cli.ok("sandbox", "exec", *options, sandbox_id, 'echo "$(whoami) $PWD $A $B"')
    assert told == "root /tmp 1 2 3\n"


def test_exec_pipes_its_stdin_whole(cli: Cli, sandbox_id: str) -> None:
    data = os.urandom(300_000)
    ran = cli.run("sandbox", "exec", sandbox_id, "sha256sum", stdin=data)
    assert ran.stdout.decode().split() == [hashlib.sha256(data).hexdigest(), "-"], ran.stderr


def test_exec_in_the_background_leaves_a_process(cli: Cli, sandbox_id: str) -> None:
    ran = cli.run("sandbox", "exec", "--background", sandbox_id, "exec sleep 321")
    assert ran.returncode == 0
    pid = re.search(rb"\d+", ran.stderr)
    assert pid, ran.stderr
    seen = cli.ok("sandbox", "exec", sandbox_id, f"tr '\\0' ' ' < /proc/{pid[0].decode()}/cmdline")
    assert seen == "sleep 321 "


# --- list, info, kill


def test_list_and_info_tell_of_the_sandbox(cli: Cli, sandbox_id: str) -> None:
    listed = json.loads(cli.ok("sandbox", "list", "--format", "json"))
    assert sandbox_id in [entry["sandboxId"] for entry in listed]
    assert sandbox_id in cli.ok("sandbox", "list")
    info = json.loads(cli.ok("sandbox", "info", sandbox_id, "--format", "json"))
    assert (info["sandboxId"], info["state"], info["name"]) == (sandbox_id, "running", TEMPLATE)
    assert sandbox_id in cli.ok("sandbox", "info", sandbox_id)


def test_kill_ends_it_and_says_when_there_is_none(cli: Cli) -> None:
    made = _create(cli)
    cli.ok("sandbox", "kill", made)
    again = cli.run("sandbox", "kill", made)
    assert b"wasn't found" in again.stdout + again.stderr
    assert cli.run("sandbox", "exec", made, "true").returncode != 0
    listed = json.loads(cli.ok("sandbox", "list", "--format", "json"))
    assert made not in [entry["sandboxId"] for entry in listed]


def test_pause_and_resume_keep_what_was_there(cli: Cli) -> None:
    made = _create(cli)
    cli.ok("sandbox", "exec", made, "echo kept > kept")
    cli.ok("sandbox", "pause", made)
    assert _state(cli, made) == "paused"
    assert made in cli.ok("sandbox", "list", "--state", "paused")
    again = cli.run("sandbox", "pause", made)
    assert b"already paused" in again.stdout + again.stderr
    cli.ok("sandbox", "resume", made)
    assert _state(cli, made) == "running"
    assert cli.ok("sandbox", "exec", made, "cat kept") == "kept\n"
    cli.ok("sandbox", "pause", made)
    cli.ok("sandbox", "kill", made)
    assert cli.run("sandbox", "resume", made).returncode != 0


def _state(cli: Cli, sandbox_id: str) -> str:
    return json.loads(cli.ok("sandbox", "info", sandbox_id, "--format", "json"))["state"]


def test_logs_which_this_server_has_not_yet_are_told_so(cli: Cli, sandbox_id: str) -> None:
    ran = cli.run("sandbox", "logs", sandbox_id)
    assert ran.returncode == 1
    assert b"404" in ran.stdout + ran.stderr, ran.stdout + ran.stderr


def test_metrics_which_this_server_has_not_yet_fail_at_once(cli: Cli, sandbox_id: str) -> None:
    """In the words of the SDK, to which every 404 of this route is a missing sandbox."""
    ran = cli.run("sandbox", "metrics", sandbox_id)
    assert ran.returncode == 1
    assert b"not found" in ran.stderr, ran.stdout + ran.stderr


# --- the terminal


def test_connect_is_a_terminal(cli: Cli, sandbox_id: str) -> None:
    terminal = cli.terminal("sandbox", "connect", sandbox_id, size=(30, 100))
    terminal.sendline("tty; stty size; echo $((6 * 7))")
    _expect_line(terminal, r"/dev/pts/\d+")
    _expect_line(terminal, "30 100")
    _expect_line(terminal, "42")
    terminal.expect(PROMPT)
    _resize(terminal)
    _interrupt(terminal)
    terminal.sendline("exit 0")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0
    assert cli.ok("sandbox", "exec", sandbox_id, "echo lives") == "lives\n"


def _expect_line(terminal: pexpect.spawn, pattern: str) -> None:
    """Node's raw mode leaves the local terminal's ONLCR on: lines end with two carriage returns."""
    terminal.expect(f"{pattern}\r+\n")


def _resize(terminal: pexpect.spawn) -> None:
    """A program in the foreground is told of the new size."""
    terminal.sendline("trap 'echo now $(stty size)' WINCH; echo trap''ped")
    _expect_line(terminal, "trapped")
    terminal.expect(PROMPT)
    terminal.setwinsize(40, 120)
    terminal.expect_exact("now 40 120")
    terminal.sendline("")
    terminal.expect(PROMPT)


def _interrupt(terminal: pexpect.spawn) -> None:
    # Whoever says so is in the foreground by then: between two programs, bash itself would swallow the key.
    terminal.sendline("sh -c 'echo wait\"\"ing; exec sleep 600'; echo not''reached")
    _expect_line(terminal, "waiting")
    terminal.sendintr()
    terminal.expect(PROMPT)
    assert b"notreached" not in (terminal.before or b"")
    terminal.sendline("echo code $?")
    _expect_line(terminal, "code 130")
    terminal.expect(PROMPT)


def test_a_terminal_passes_every_byte_of_the_keyboard(cli: Cli, sandbox_id: str) -> None:
    terminal = cli.terminal("sandbox", "connect", sandbox_id)
    terminal.sendline("cat > typed")
    text = "grüße 漢字 🦈"
    terminal.sendline(text)
    terminal.expect_exact(text.encode())
    terminal.sendeof()
    terminal.expect(PROMPT)
    terminal.sendline("exit")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert cli.ok("sandbox", "exec", sandbox_id, "cat typed") == text + "\n"


def test_create_attached_is_a_terminal_whose_sandbox_ends_with_it(cli: Cli) -> None:
    terminal = cli.terminal("sandbox", "create", TEMPLATE)
    terminal.sendline("echo id=$E2B_SANDBOX_ID=")
    terminal.expect(rb"id=(i[a-z0-9]+)=")
    assert isinstance(terminal.match, re.Match)
    sandbox_id = terminal.match[1].decode()
    terminal.expect(PROMPT)
    terminal.sendline("exit")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0
    _wait_gone(cli, sandbox_id)


def _wait_gone(cli: Cli, sandbox_id: str) -> None:
    for _ in range(20):
        listed = json.loads(cli.ok("sandbox", "list", "--format", "json"))
        if sandbox_id not in [entry["sandboxId"] for entry in listed]:
            return
    raise AssertionError(f"{sandbox_id} lives on")
