"""``python -m atolld``: the machine's part of Atoll.

serve               the server, in the foreground
down [--json]       stop the server and every sandbox
setup, doctor, uninstall …    see ``--help`` of each
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from atolld.config import read_config
from atolld.model.errors import AtollError


def main(argv: Sequence[str]) -> int:
    command, arguments = argv[0] if argv else "", argv[1:]
    if command not in _COMMANDS:
        print(__doc__, file=sys.stdout if command in ("-h", "--help") else sys.stderr)
        return 0 if command in ("-h", "--help") else 2
    try:
        return _COMMANDS[command](arguments)
    except AtollError as error:
        print(f"atoll: {error.message}", file=sys.stderr)
        return 1


# Each command loads only what it needs.


def _serve(arguments: Sequence[str]) -> int:
    _refuse(arguments, ())
    from atolld.daemon.serve import serve

    serve(read_config(os.environ))
    return 0


def _down(arguments: Sequence[str]) -> int:
    _refuse(arguments, ("--json",))
    from atolld.daemon.down import down

    down(read_config(os.environ), as_json="--json" in arguments)
    return 0


def _setup(arguments: Sequence[str]) -> int:
    from atolld.daemon.parts import open_node
    from atolld.setup.main import run

    return run(arguments, open_node)


def _refuse(arguments: Sequence[str], known: Sequence[str]) -> None:
    unknown = [argument for argument in arguments if argument not in known]
    if unknown:
        raise AtollError(f"unknown argument {unknown[0]!r}: `./atoll --help` lists what there is")


_COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {"serve": _serve, "down": _down, "setup": _setup}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
