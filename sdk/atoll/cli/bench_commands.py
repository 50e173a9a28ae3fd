"""`bench …`: the commands and their options. What a command does is imported when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from atoll.cli.options import INTERPRETER_TEMPLATE, Json, positive

bench_app = typer.Typer(help="Measure the server of this machine.", no_args_is_help=True)


@bench_app.command("create")
def bench_create(
    n: Annotated[int, typer.Option("--n", help="How often each is measured.")] = 10,
    template: Annotated[
        str, typer.Option("--template", "-t", help="What the sandboxes start from.")
    ] = INTERPRETER_TEMPLATE,
    as_json: Json = False,
) -> None:
    """Measure creating, first and later code, and ending sandboxes, beside a bare `runsc restore`.

    \b
    Examples:
      ./atoll bench create
      ./atoll bench create --n 50 --json
    """
    from atoll.cli.bench import bench_create as measure
    from atoll.cli.settings import read_settings

    measure(read_settings(), template, positive(n, "--n"), as_json)


@bench_app.command("lifecycle")
def bench_lifecycle(
    n: Annotated[int, typer.Option("--n", help="How often each is measured; the slow ones less.")] = 10,
    trace: Annotated[bool, typer.Option("--trace", help="Draw where the time of each create went.")] = False,
    as_json: Json = False,
) -> None:
    """Measure a sandbox's life (create, resume, pause, fork, burst, kill), each beside a bare `runsc`.

    \b
    Examples:
      ./atoll bench lifecycle
      ./atoll bench lifecycle --n 3 --trace
    """
    from atoll.cli.bench_lifecycle import bench_lifecycle as measure
    from atoll.cli.settings import read_settings

    measure(read_settings(), INTERPRETER_TEMPLATE, positive(n, "--n"), as_json=as_json, trace=trace)


@bench_app.command("guest")
def bench_guest(
    template: Annotated[str, typer.Option("--template", "-t", help="What the sandbox starts from.")] = "base",
    as_json: Json = False,
) -> None:
    """Measure commands, output, files, memory and the way in, each beside a baseline of the same sandbox.

    \b
    Examples:
      ./atoll bench guest
      ./atoll bench guest --json
    """
    from atoll.cli.bench_guest import bench_guest as measure
    from atoll.cli.settings import read_settings

    measure(read_settings(), template, as_json)


@bench_app.command("interpreter")
def bench_interpreter(
    n: Annotated[int, typer.Option("--n", help="How many fresh sandboxes are measured.")] = 10,
    template: Annotated[
        str, typer.Option("--template", "-t", help="What the sandboxes start from.")
    ] = INTERPRETER_TEMPLATE,
    as_json: Json = False,
) -> None:
    """Measure executions, prints, languages and memory, beside raw Jupyter inside the same sandbox.

    \b
    Examples:
      ./atoll bench interpreter
      ./atoll bench interpreter --n 30 --json
    """
    from atoll.cli.bench_interpreter import bench_interpreter as measure
    from atoll.cli.settings import read_settings

    measure(read_settings(), template, positive(n, "--n"), as_json)


@bench_app.command("density")
def bench_density(
    n: Annotated[int, typer.Option("--n", help="How often what takes time is measured.")] = 5,
    clones: Annotated[int, typer.Option("--clones", help="Sandboxes whose memory is measured.")] = 50,
    forks: Annotated[int, typer.Option("--forks", help="Forks of one that holds 500 MB.")] = 20,
    alive: Annotated[
        int, typer.Option("--alive", help="Instead of all else: have as many alive at once.")
    ] = 0,
    step: Annotated[
        list[str] | None, typer.Option("--step", help="One of code, crowd, writes, pause, forks; repeatable.")
    ] = None,
    template: Annotated[
        str, typer.Option("--template", "-t", help="What the sandboxes start from.")
    ] = INTERPRETER_TEMPLATE,
    as_json: Json = False,
) -> None:
    """Measure what many sandboxes take of this machine, with shared pages and as gVisor is without.

    Runs beside a server; takes some minutes and up to 15 GiB of memory.

    \b
    Examples:
      ./atoll bench density
      ./atoll bench density --step code --step crowd --clones 10 --json
      ./atoll bench density --alive 600
    """
    from atoll.cli.bench_density import bench_density as measure

    numbers = {"--n": n, "--clones": clones, "--forks": forks}
    options = [f"{name}={positive(value, name)}" for name, value in numbers.items()]
    options += [f"--alive={alive}"] if alive else []
    measure(template, [*options, *(f"--step={name}" for name in step or ())], as_json=as_json)
