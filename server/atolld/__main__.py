"""``python -m atolld``: the machine's part of Atoll.

serve               the server, in the foreground; --domain NAME[:PORT], --tls-port PORT, --no-tls,
                    --cert FILE --key FILE, --acme FILE; --replace takes over from the one that runs
down [--json]       stop the server and every sandbox
trust [--remove]    our certificate authority in the system's store, for https; --json
bench-restore       bare ``runsc restore`` and ``checkpoint`` of a template's snapshot, and ``dd``, timed;
                    --template NAME, --n N
bench-density       what many sandboxes of one template take, with and without shared pages; ``--help``
snapshot export|import    a snapshot as one file
setup, doctor, uninstall …    see ``--help`` of each
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence

from atolld.config import Config, read_config
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
    options = [argument for argument in arguments if argument != "--replace"]
    config = read_config(_serve_settings(options, os.environ))
    from atolld.daemon.serve import serve

    serve(config, replace=len(options) < len(arguments))
    return 0


_SERVE_OPTIONS = {
    "--domain": "ATOLL_DOMAIN",
    "--tls-port": "ATOLL_TLS_PORT",
    "--cert": "ATOLL_TLS_CERT",
    "--key": "ATOLL_TLS_KEY",
    "--acme": "ATOLL_TLS_ACME",
}


def _serve_settings(arguments: Sequence[str], environ: Mapping[str, str]) -> Mapping[str, str]:
    """``environ`` with what the options say; whoever gives one of them wants https or an error."""
    settings, rest = dict(environ), list(arguments)
    while rest:
        option, _, value = rest.pop(0).partition("=")
        if option == "--no-tls":
            settings["ATOLL_TLS"] = "off"
            continue
        _refuse([option], list(_SERVE_OPTIONS))
        value = value or (rest.pop(0) if rest else "")
        if not value:
            raise AtollError(f"{option} needs a value: `./atoll serve --help`")
        settings[_SERVE_OPTIONS[option]] = value
        settings.setdefault("ATOLL_TLS", "on")
    return settings


def _trust(arguments: Sequence[str]) -> int:
    _refuse(arguments, ("--json", "--remove"))
    import asyncio

    from atolld.tls.trust import run

    config = read_config(os.environ)
    return asyncio.run(run(config, os.environ, remove="--remove" in arguments, as_json="--json" in arguments))


def _down(arguments: Sequence[str]) -> int:
    _refuse(arguments, ("--json",))
    from atolld.daemon.down import down

    down(read_config(os.environ), as_json="--json" in arguments)
    return 0


def _setup(arguments: Sequence[str]) -> int:
    from atolld.daemon.parts import open_node
    from atolld.setup.main import run

    return run(arguments, open_node)


def _doctor(arguments: Sequence[str]) -> int:
    from atolld.daemon.checks import HTTPS
    from atolld.daemon.lock import find_holder
    from atolld.daemon.parts import open_node
    from atolld.setup.doctor import run

    return run(arguments, open_node, HTTPS, is_serving=lambda home: find_holder(home) is not None)


def _uninstall(arguments: Sequence[str]) -> int:
    import asyncio

    from atolld.daemon.down import down
    from atolld.setup.uninstall import run
    from atolld.tls.trust import forget

    def stop(config: Config) -> None:
        down(config, as_json=False)
        asyncio.run(forget(config))

    return run(arguments, stop)


def _snapshot(arguments: Sequence[str]) -> int:
    from atolld.daemon.transfer import run

    return run(arguments, read_config(os.environ))


def _bench_restore(arguments: Sequence[str]) -> int:
    import argparse
    import json
    from dataclasses import asdict

    from atolld.daemon.bench_restore import bench_restore

    parser = argparse.ArgumentParser(prog="atolld bench-restore", description=bench_restore.__doc__)
    parser.add_argument("--template", default="base")
    parser.add_argument("--n", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="the only form there is")
    options = parser.parse_args(arguments)
    measured = bench_restore(read_config(os.environ), options.template, options.n)
    print(json.dumps(asdict(measured)))
    return 0


def _bench_density(arguments: Sequence[str]) -> int:
    import argparse
    import json
    from dataclasses import asdict

    from atolld.daemon.bench_density import STEPS, Sizes, bench_density

    parser = argparse.ArgumentParser(prog="atolld bench-density", description=bench_density.__doc__)
    parser.add_argument("--template", default="code-interpreter-v1")
    parser.add_argument("--n", type=int, default=Sizes.n)
    parser.add_argument("--clones", type=int, default=Sizes.clones)
    parser.add_argument("--forks", type=int, default=Sizes.forks)
    parser.add_argument("--alive", type=int, default=0, help="this alone: how many are tried at once")
    parser.add_argument("--step", action="append", choices=STEPS, help="this alone; may be repeated")
    options = parser.parse_args(arguments)
    steps = tuple(options.step or (() if options.alive else STEPS))
    sizes = Sizes(options.n, options.clones, options.forks, options.alive, steps)
    print(json.dumps(asdict(bench_density(read_config(os.environ), options.template, sizes))))
    return 0


def _refuse(arguments: Sequence[str], known: Sequence[str]) -> None:
    unknown = [argument for argument in arguments if argument not in known]
    if unknown:
        raise AtollError(f"unknown argument {unknown[0]!r}: `./atoll --help` lists what there is")


_COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "serve": _serve,
    "down": _down,
    "setup": _setup,
    "doctor": _doctor,
    "uninstall": _uninstall,
    "trust": _trust,
    "bench-restore": _bench_restore,
    "bench-density": _bench_density,
    "snapshot": _snapshot,
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
