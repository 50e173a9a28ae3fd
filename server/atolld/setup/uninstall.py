"""``atolld uninstall [--yes]``: removes all that Atoll made on this machine, the state directory last.

The server and its sandboxes are stopped first, by whoever calls (``stop``). The packages of the distribution
stay, as other programs may use them by now, and so does the clone with its Python environment.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from atolld.builds.sources import CLONE
from atolld.config import Config, read_config
from atolld.model.errors import AtollError
from atolld.setup import zram

_OURS = ("setup-id", "atoll.db", "bin", "roots", "templates")
"""What tells a state directory of ours from one that only bears the name."""


def run(argv: Sequence[str], stop: Callable[[Config], None], environ: Mapping[str, str] = os.environ) -> int:
    """``stop`` ends the server and every sandbox, and gives back rules, routes, namespaces and cgroups."""
    parser = argparse.ArgumentParser(
        "atoll uninstall", description="Remove all that Atoll made on this machine."
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    arguments = parser.parse_args(argv)
    try:
        config = read_config(environ)
        check_is_ours(config.home)
        if not arguments.yes and not _ask(config.home):
            print("nothing was removed", file=sys.stderr)
            return 1
        if config.home.is_dir():
            stop(config)
            zram.disagree(config.home)
            _remove(config.home)
    except AtollError as error:
        print(f"atoll: {error}", file=sys.stderr)
        return 1
    print(f"{config.home} is gone, and all that ran from it.")
    print(f"The clone and its Python environment are yours to remove: rm -rf {CLONE}")
    return 0


def check_is_ours(home: Path) -> None:
    """Raises :class:`AtollError` for a directory with things in it, none of which is ours."""
    if not home.is_dir() or not any(home.iterdir()):
        return
    if not any((home / name).exists() for name in _OURS) and not (home / "setup.lock").exists():
        raise AtollError(f"{home} does not look like Atoll's: correct ATOLL_HOME, or remove it by hand")


def _ask(home: Path) -> bool:
    print(f"This stops the server and every sandbox, and removes {home} with all templates and keys.")
    try:
        return input("Remove all of it? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _remove(home: Path) -> None:
    """The identity first: a launcher that comes meanwhile, or after an interruption, sets up anew."""
    (home / "setup-id").unlink(missing_ok=True)
    try:
        shutil.rmtree(home)
    except OSError as error:
        raise AtollError(
            f"{error.filename} cannot be removed ({error.strerror}): end what uses it, and run the same again"
        ) from error
