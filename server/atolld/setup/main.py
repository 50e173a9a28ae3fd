"""``atolld setup``: what is missing is made, what is done and what is left is told.

setup                        what any command needs
setup --for VERB             the same, for the launcher: says nothing when nothing is to do
setup --all                  everything, also what the first command does not need
setup --status               makes nothing; exit code 1 when something is left
setup --rebuild NAME         makes a step's result anew, and what is made from it
setup --swap, --no-swap      a compressed swap in memory for frozen sandboxes; none of ours any more
setup … --json               tells the state of every step as JSON on standard output
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from atolld.builds.builder import OpenNode
from atolld.builds.files import remove_leftovers
from atolld.config import Config, read_config
from atolld.model.errors import AtollError, HostError, InvalidRequest
from atolld.setup import zram
from atolld.setup.lock import hold_lock
from atolld.setup.machine import Machine
from atolld.setup.progress import Log, open_progress
from atolld.setup.runner import StepFailed, run_steps
from atolld.setup.steps import Step, find_left, plan_steps

ENOUGH = ("code-interpreter-v1", "base")
"""What any command needs, templates by name; their needs come along."""


def run(argv: Sequence[str], open_node: OpenNode, environ: Mapping[str, str] = os.environ) -> int:
    """The exit code. ``open_node`` makes the node that templates are built on."""
    arguments = _parse(argv)
    try:
        config = read_config(environ)
        everything = _wants_all(arguments) or arguments.rebuild is not None
        if arguments.swap is not None:
            config.home.mkdir(parents=True, exist_ok=True, mode=0o755)
            print(zram.agree(config.home) if arguments.swap else zram.disagree(config.home))
            return 0
        machine = Machine(config, environ, open_node, everything=everything)
        return asyncio.run(_run(arguments, config, machine))
    except AtollError as error:
        print(f"atoll: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("atoll: set-up was interrupted: run the same again, what is done is kept", file=sys.stderr)
        return 130


def _wants_all(arguments: argparse.Namespace) -> bool:
    """The tests try every language."""
    return arguments.all or arguments.status or arguments.verb == "test"


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "atoll setup", description="Make what is missing; what is there is kept."
    )
    parser.add_argument("--all", action="store_true", help="also what the first command does not need")
    parser.add_argument("--status", action="store_true", help="only say what is done and what is left")
    parser.add_argument("--rebuild", metavar="NAME", help="make this step's result anew (see --status)")
    parser.add_argument(
        "--swap",
        action=argparse.BooleanOptionalAction,
        help="make a compressed swap in memory, where frozen sandboxes wait: several times as many fit",
    )
    parser.add_argument("--json", action="store_true", help="print the state of every step as JSON")
    parser.add_argument("--for", dest="verb", metavar="VERB", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


async def _run(arguments: argparse.Namespace, config: Config, machine: Machine) -> int:
    steps = machine.steps()
    goals = [*ENOUGH, *machine.extras()]
    if _wants_all(arguments):
        goals = [step.name for step in steps]
    if arguments.rebuild is not None and arguments.rebuild not in {step.name for step in steps}:
        names = ", ".join(step.name for step in steps)
        raise InvalidRequest(f"{arguments.rebuild!r} is no step of set-up: it is one of {names}")
    if arguments.status:
        return _tell(steps, find_left(steps), as_json=arguments.json, failed_if_left=True)
    config.home.mkdir(parents=True, exist_ok=True, mode=0o755)
    async with hold_lock(config.home / "setup.lock"):
        if arguments.rebuild is not None:
            machine.forget(arguments.rebuild)
            goals = [*goals, arguments.rebuild]
        await _make(plan_steps(steps, goals), config.home, machine)
    if arguments.json or not arguments.verb:
        return _tell(steps, find_left(steps), as_json=arguments.json, failed_if_left=False)
    return 0


async def _make(planned: Sequence[Step], home: Path, machine: Machine) -> None:
    """Raises the first step's failure, with the log's name in it."""
    _interrupt_on_terminate()
    if find_left(planned):
        remove_leftovers(home)
        log = Log(home / "logs")
        try:
            with open_progress(log) as progress:
                await run_steps(planned, progress)
        except StepFailed as error:
            raise HostError(
                f"set-up stopped at «{error.step.title}»: {error.cause}\n"
                f"  The log is {log.path}. Run the same again: what is done is kept."
            ) from error
        finally:
            log.close()
        machine.prune()
    await machine.enter_in_store()
    machine.identify()


def _interrupt_on_terminate() -> None:
    """SIGTERM unwinds like Ctrl-C: tools are ended, mounts go."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


def _tell(steps: Sequence[Step], left: Sequence[Step], *, as_json: bool, failed_if_left: bool) -> int:
    missing = {step.name for step in left}
    if as_json:
        state = {step.name: {"title": step.title, "done": step.name not in missing} for step in steps}
        print(json.dumps(state, indent=2))
    else:
        for step in steps:
            print(f"  {'left' if step.name in missing else 'done':<5} {step.name:<26} {step.title}")
        if missing:
            print("`./atoll setup --all` makes what is left.")
    return 1 if missing and failed_if_left else 0
