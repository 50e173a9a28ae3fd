"""The commands and their options. What a command does is imported when it runs."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from atoll.cli.bench_commands import bench_app
from atoll.cli.failures import Failure, leave, leave_fault
from atoll.cli.options import INTERPRETER_TEMPLATE, PASSED_ON, Json, hand_over, positive
from atoll.cli.snapshot import snapshot_app

BASE_TEMPLATE = "base"
DEFAULT_TIMEOUT = 300

# Plain help: Rich's takes three times as long to import as everything else here.
app = typer.Typer(
    help="Sandboxes on this machine: run code in them, keep them, measure them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
sandbox_app = typer.Typer(help="Make, list, use and end sandboxes.", no_args_is_help=True)
app.add_typer(sandbox_app, name="sandbox")
app.add_typer(bench_app, name="bench")
app.add_typer(snapshot_app, name="snapshot")

Envs = Annotated[
    list[str] | None,
    typer.Option("--env", "-e", metavar="NAME=VALUE", help="Variable; repeatable."),
]
SandboxId = Annotated[str, typer.Argument(metavar="ID", help="The sandbox's id.")]


def main(arguments: Sequence[str]) -> NoReturn:
    """Runs a command and leaves with its exit code; every failure is told in one form."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Code in a sandbox may print what this terminal's encoding, or any, does not have.
            stream.reconfigure(errors="backslashreplace")
    try:
        app(list(arguments), prog_name="atoll")
        raise SystemExit(0)
    except Failure as failure:
        leave(failure)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        leave_fault(error)


@app.command()
def run(
    code: Annotated[str | None, typer.Argument(help="The code; `-` reads it from standard input.")] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Run this file's code.")] = None,
    template: Annotated[
        str, typer.Option("--template", "-t", help="What the sandbox starts from.")
    ] = INTERPRETER_TEMPLATE,
    timeout: Annotated[int, typer.Option(help="Seconds the code may take.")] = DEFAULT_TIMEOUT,
    env: Envs = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Save pictures, charts, tables here.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the sandbox running.")] = False,
    as_json: Json = False,
    timing: Annotated[bool, typer.Option("--timing", help="Tell what took how long.")] = False,
) -> None:
    """Run Python code in a new sandbox and show its output as it happens.

    Ctrl-C interrupts the code. The exit code is 1 when the code ends with an exception, 124 when its time is
    over.

    \b
    Examples:
      ./atoll run 'print("hello world")'
      ./atoll run -f plot.py --out pictures
      echo '1 + 1' | ./atoll run - --json
      ./atoll run --timing --env NAME=value 'import os; os.environ["NAME"]'
    """
    from atoll.cli.output import parse_pairs
    from atoll.cli.run import Plan, read_code
    from atoll.cli.run import run as run_plan
    from atoll.cli.settings import read_settings

    plan = Plan(
        code=read_code(code, file),
        template=template,
        timeout=positive(timeout, "--timeout"),
        envs=parse_pairs(env or (), "--env"),
        out=out,
        keep=keep,
        as_json=as_json,
        timing=timing,
    )
    raise SystemExit(run_plan(read_settings(), plan))


@app.command(context_settings=PASSED_ON)
def serve(context: typer.Context) -> None:
    """Run the server in the foreground. Ctrl-C stops it; its sandboxes go on, and the next server finds them.

    \b
    Options, for https; without any, it is served at atoll.localhost:8443 where Caddy is installed:
      --domain NAME[:PORT]      https://api.NAME and https://<port>-<sandbox>.NAME
      --tls-port PORT           where it listens
      --cert FILE --key FILE    a certificate of yours for NAME and *.NAME
      --acme FILE               who issues one (TOML; needs a Caddy with your DNS provider)
      --no-tls                  no https

    \b
      --replace                 take over from the server that runs, without cutting what is open

    \b
    Examples:
      ./atoll serve
      ATOLL_PORT=8700 ./atoll serve
      ./atoll serve --domain sandbox.example.org --cert full.pem --key key.pem
    """
    hand_over("serve", *context.args)


@app.command(context_settings=PASSED_ON)
def down(context: typer.Context) -> None:
    """Stop the server and every sandbox.

    \b
    Example:
      ./atoll down
    """
    hand_over("down", *context.args)


@app.command(context_settings=PASSED_ON)
def trust(context: typer.Context) -> None:
    """Make this machine trust the server's https, and say what Python, Node and browsers need.

    `--remove` undoes it, `--json` prints JSON.

    \b
    Examples:
      ./atoll trust
      ./atoll trust --remove
    """
    hand_over("trust", *context.args)


@app.command()
def env(
    domain: Annotated[bool, typer.Option("--domain", help="By https and the domain alone.")] = False,
    unset: Annotated[bool, typer.Option("--unset", help="Print the line that undoes it.")] = False,
    as_json: Json = False,
) -> None:
    """Print what makes the published E2B SDKs and command line use this machine.

    \b
    Examples:
      eval "$(./atoll env)"
      eval "$(./atoll env --domain)"
      eval "$(./atoll env --unset)"
      ./atoll env --json
    """
    from atoll.cli.environment import print_environment
    from atoll.cli.settings import read_settings

    print_environment(read_settings(), domain, unset, as_json)


@app.command(context_settings=PASSED_ON)
def doctor(context: typer.Context) -> None:
    """Check what this machine needs by doing it, and say how to mend what is wrong.

    `--json` prints JSON. The exit code is 1 when something stops Atoll from working. `--deep` compares what
    is there instead: database, files and their hashes, processes, links, cgroups; `--no-hashes` hashes none.

    \b
    Examples:
      ./atoll doctor
      ./atoll doctor --deep
      ./atoll doctor --json
    """
    hand_over("doctor", *context.args)


@app.command(context_settings=PASSED_ON)
def setup(context: typer.Context) -> None:
    """Make what is missing: runsc, the guest's daemon, the templates. What is there is kept.

    `--all` also makes what the first command does not need, and says what is done and what is left. `--swap`
    makes a compressed swap in memory for the sandboxes that wait or are paused (`--no-swap` removes it).

    \b
    Examples:
      ./atoll setup
      ./atoll setup --all
      ./atoll setup --swap
    """
    hand_over("setup", *context.args)


@app.command(context_settings=PASSED_ON)
def uninstall(context: typer.Context) -> None:
    """Remove everything Atoll made on this machine. Asks first; `--yes` does not.

    \b
    Examples:
      ./atoll uninstall
      ./atoll uninstall --yes
    """
    hand_over("uninstall", *context.args)


@app.command("test")
def check_project(
    quick: Annotated[bool, typer.Option("--quick", help="Leave out what needs root and runsc.")] = False,
    pytest_arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[-- PYTEST_ARGUMENTS]", help="Passed to pytest.")
    ] = None,
) -> None:
    """Run every check of the project: lint, types, import rules, Go, unit and whole-system tests.

    \b
    Examples:
      ./atoll test
      ./atoll test --quick
      ./atoll test --quick -- -k envelope -x
    """
    from atoll.cli.check import check

    raise SystemExit(check(quick, pytest_arguments or ()))


@sandbox_app.command()
def create(
    template: Annotated[str, typer.Argument(help="What it starts from: a name or an id.")] = BASE_TEMPLATE,
    timeout: Annotated[int, typer.Option(help="Seconds it lives.")] = DEFAULT_TIMEOUT,
    env: Envs = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option("--metadata", "-m", metavar="KEY=VALUE", help="Repeatable."),
    ] = None,
    internet: Annotated[bool, typer.Option("--internet/--no-internet", help="May it reach out.")] = True,
    as_json: Json = False,
) -> None:
    """Make a sandbox and print its id.

    \b
    Examples:
      ./atoll sandbox create
      ./atoll sandbox create code-interpreter-v1 --timeout 3600 -m owner=me
    """
    from atoll.cli.output import parse_pairs
    from atoll.cli.sandbox import create as create_sandbox
    from atoll.cli.settings import read_settings
    from atoll_wire.api import NewSandbox

    new = NewSandbox(
        template,
        positive(timeout, "--timeout"),
        parse_pairs(env or (), "--env"),
        parse_pairs(metadata or (), "--metadata"),
        None if internet else False,
    )
    create_sandbox(read_settings(), new, as_json)


@sandbox_app.command("list")
def list_(
    state: Annotated[
        str, typer.Option("--state", "-s", help="running, paused or running,paused.")
    ] = "running",
    metadata: Annotated[
        list[str] | None,
        typer.Option("--metadata", "-m", metavar="KEY=VALUE", help="Repeatable."),
    ] = None,
    template: Annotated[str | None, typer.Option("--template", "-t", help="Name or id.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-l", help="At most so many.")] = 1000,
    as_json: Json = False,
) -> None:
    """List sandboxes, newest first.

    \b
    Examples:
      ./atoll sandbox list
      ./atoll sandbox list -m owner=me --json
    """
    from atoll.cli.output import parse_pairs
    from atoll.cli.sandbox import list_ as list_sandboxes
    from atoll.cli.sandbox import plan_query
    from atoll.cli.settings import read_settings

    query = plan_query(state, parse_pairs(metadata or (), "--metadata"), template)
    list_sandboxes(read_settings(), query, positive(limit, "--limit"), as_json)


@sandbox_app.command()
def info(sandbox_id: SandboxId, as_json: Json = False) -> None:
    """Show one sandbox; of one that is over, who or what ended it.

    \b
    Example:
      ./atoll sandbox info ID
    """
    from atoll.cli.sandbox import info as show_info
    from atoll.cli.settings import read_settings

    show_info(read_settings(), sandbox_id, as_json)


@sandbox_app.command()
def rollback(
    sandbox_id: SandboxId,
    snapshot_id: Annotated[str, typer.Argument(metavar="SNAPSHOT", help="One that was taken of it.")],
    as_json: Json = False,
) -> None:
    """Make a running sandbox what it was when a snapshot of it was taken: processes, memory and files.

    \b
    Example:
      ./atoll sandbox rollback ID team/name:tag
    """
    from atoll.cli.sandbox import rollback as roll_back
    from atoll.cli.settings import read_settings

    roll_back(read_settings(), sandbox_id, snapshot_id, as_json)


@sandbox_app.command()
def kill(
    sandbox_ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Which.")] = None,
    every: Annotated[bool, typer.Option("--all", "-a", help="All that there are.")] = False,
    as_json: Json = False,
) -> None:
    """End sandboxes for good.

    \b
    Examples:
      ./atoll sandbox kill ID
      ./atoll sandbox kill --all
    """
    from atoll.cli.sandbox import kill as kill_sandboxes
    from atoll.cli.settings import read_settings

    kill_sandboxes(read_settings(), sandbox_ids or (), every, as_json)


@sandbox_app.command("exec", context_settings={"allow_interspersed_args": False})
def exec_(
    sandbox_id: SandboxId,
    words: Annotated[list[str], typer.Argument(metavar="COMMAND...", help="One word: a line for the shell.")],
    background: Annotated[bool, typer.Option("--background", "-b", help="Do not wait for it.")] = False,
    cwd: Annotated[str | None, typer.Option("--cwd", "-c", help="Directory it starts in.")] = None,
    user: Annotated[str | None, typer.Option("--user", "-u", help="Whom it runs as.")] = None,
    env: Envs = None,
    timeout: Annotated[int | None, typer.Option(help="Seconds until it is killed; none by default.")] = None,
) -> None:
    """Run a command in a sandbox; its input, output and exit code are this one's. Options come before ID.

    \b
    Examples:
      ./atoll sandbox exec ID 'ls -l | head'
      ./atoll sandbox exec --user root ID apt-get update
      echo hello | ./atoll sandbox exec ID cat
    """
    from atoll.cli.command import Command, execute
    from atoll.cli.output import parse_pairs
    from atoll.cli.settings import read_settings

    limit = None if timeout is None else positive(timeout, "--timeout")
    command = Command(words, parse_pairs(env or (), "--env"), cwd, user, limit, background)
    raise SystemExit(execute(read_settings(), sandbox_id, command))
