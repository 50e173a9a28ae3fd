"""``atolld snapshot export|import``: a snapshot as one file, by the operator of this machine.

Beside a server that may run: rows and files are made so that it finds a whole snapshot or none.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import sys
from collections.abc import Generator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from atolld.builds.files import sync
from atolld.builds.parcel import MAGIC
from atolld.builds.squeeze import squeezed, unsqueezed
from atolld.builds.transfer import Transfer
from atolld.config import Config
from atolld.control.sleep import new_snapshot_id
from atolld.control.templates import load_build
from atolld.daemon.parts import open_node
from atolld.model.errors import HostError, InvalidRequest, NotFound
from atolld.model.names import TemplateReference, parse_template_reference
from atolld.model.team import LOCAL_TEAM, LOCAL_TEAM_NAME, Team
from atolld.setup.lock import hold_lock
from atolld.store import Store
from atolld.store.snapshots import SnapshotFilter, SnapshotRow

IMPORTED = "imported"
"""Stands for the sandbox that an imported snapshot was taken of."""


def run(argv: Sequence[str], config: Config) -> int:
    """Raises an :class:`~atolld.model.errors.AtollError` when it cannot be done."""
    arguments = _parse(argv)
    told = asyncio.run(_run(arguments, config))
    if arguments.json:
        print(json.dumps(told), file=sys.stderr if arguments.file == "-" else sys.stdout)
    else:
        print(f"{told['name']}: {told['done']}", file=sys.stderr)
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("atoll snapshot")
    verbs = parser.add_subparsers(dest="verb", required=True)
    send = verbs.add_parser("export", description="Write a snapshot into one file.")
    send.add_argument("name", help="[team/]name[:tag], or the id of its template")
    send.add_argument("file", help="`-`: standard output")
    send.add_argument("--with-root", action="store_true", help="the root image too: the other has another")
    take = verbs.add_parser("import", description="Take in a snapshot that was exported.")
    take.add_argument("file", help="`-`: standard input")
    take.add_argument("--name", help="name[:tag]; else the one it had")
    for verb in (send, take):
        verb.add_argument("--json", action="store_true")
    return parser.parse_args(argv)


async def _run(arguments: argparse.Namespace, config: Config) -> dict[str, str]:
    store = await Store.open(config.home / "atoll.db")
    try:
        # One workshop: set-up builds its templates there.
        async with hold_lock(config.home / "setup.lock"):
            team = await store.teams.ensure(LOCAL_TEAM, LOCAL_TEAM_NAME, datetime.now(UTC))
            transfer = Transfer(config, open_node)
            if arguments.verb == "import":
                return await _import(arguments, config, store, team, transfer)
            return await _export(arguments, config, store, team, transfer)
    finally:
        await store.close()


async def _export(
    arguments: argparse.Namespace, config: Config, store: Store, team: Team, transfer: Transfer
) -> dict[str, str]:
    reference = parse_template_reference(arguments.name)
    wanted = SnapshotFilter(team.team_id, name=reference.name, tag=reference.tag)
    rows = await store.snapshots.list(wanted)
    if not rows:
        raise NotFound(f'there is no snapshot "{reference}": GET /snapshots lists them')
    build = load_build(config.home, rows[0].template_id, rows[0].build_id)
    name = "" if rows[0].name is None else f"{rows[0].name}:{rows[0].tag}"
    with _create(arguments.file) as file:
        _write_all(file, MAGIC)
        with squeezed(file) as out:
            await transfer.send(build, name, out, with_root=arguments.with_root)
    size = "" if arguments.file == "-" else f", {os.stat(arguments.file).st_size >> 20} MiB"
    return {
        "name": str(reference),
        "done": f"exported to {arguments.file}{size}",
        "snapshot": rows[0].build_id,
    }


async def _import(
    arguments: argparse.Namespace, config: Config, store: Store, team: Team, transfer: Transfer
) -> dict[str, str]:
    snapshot_id, fresh = new_snapshot_id(), f"snapshot{secrets.token_hex(6)}"
    given = None if arguments.name is None else _own_name(parse_template_reference(arguments.name))
    known = None if given is None else await store.snapshots.find_template(team.team_id, given.name)
    with _open(arguments.file) as file:
        if _read_exactly(file, len(MAGIC)) != MAGIC:
            raise InvalidRequest(
                f"{arguments.file} is no exported snapshot: `./atoll snapshot export` makes one"
            )
        with unsqueezed(file) as source:
            build, called = await transfer.receive(source, snapshot_id, known or fresh, arguments.name)
    try:
        reference = _own_name(parse_template_reference(called)) if called else None
        if reference is not None and known is None:
            known = await store.snapshots.find_template(team.team_id, reference.name)
        template_id = known or fresh
        row = SnapshotRow(
            template_id,
            snapshot_id,
            None if reference is None else reference.name,
            "default" if reference is None else reference.tag,
            datetime.now(UTC),
        )
        await store.snapshots.register(team.team_id, row, IMPORTED)
    except BaseException:
        await asyncio.to_thread(transfer.undo, build)
        raise
    if not build.directory.is_dir():  # a server that was just starting found no row for it yet
        await store.snapshots.remove(row)
        raise HostError("the server was started meanwhile: import it again")
    name = str(reference) if reference else template_id
    return {
        "name": name,
        "done": f"imported; start from it: create a sandbox of {name}",
        "snapshot": snapshot_id,
    }


def _own_name(reference: TemplateReference) -> TemplateReference:
    if reference.team not in (None, LOCAL_TEAM):
        raise InvalidRequest(f'"{reference}" is another team\'s: give --name')
    return reference


@contextlib.contextmanager
def _create(name: str) -> Generator[IO[bytes]]:
    """The file is there when it is whole, and not before."""
    if name == "-":
        yield sys.stdout.buffer
        return
    path = Path(name)
    work = path.with_name(f"{path.name}.unfinished")
    try:
        descriptor = os.open(work, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb", buffering=0) as file:
            yield file
            os.fsync(file.fileno())
        work.rename(path)
        sync(path.absolute().parent)
    except OSError as error:
        raise HostError(f"{path} cannot be written ({error}): choose another place") from error
    finally:
        work.unlink(missing_ok=True)


def _open(name: str) -> IO[bytes]:
    """Unbuffered: another process reads on where we stop."""
    if name == "-":
        return open(os.dup(sys.stdin.fileno()), "rb", buffering=0)
    try:
        return open(name, "rb", buffering=0)
    except OSError as error:
        raise InvalidRequest(f"{name} cannot be read ({error.strerror})") from error


def _read_exactly(file: IO[bytes], size: int) -> bytes:
    data = b""
    while len(data) < size and (more := file.read(size - len(data))):
        data += more
    return data


def _write_all(file: IO[bytes], data: bytes) -> None:
    file.write(data)
    file.flush()
