"""Where templates are built: a node beside the server's, so that a build disturbs no sandbox that runs.

Two nodes on one state directory, or on one range of addresses, would take each other's sandboxes for
left-overs. The workshop has a directory of its own, which borrows the binaries and the host's key, and a
small range just above the server's.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from atolld.builds.files import sync
from atolld.config import Config
from atolld.model.errors import HostError, InvalidRequest

_BORROWED = ("bin", "host-key")
_PREFIX = 28
_SEED_BYTES = 32


@contextmanager
def open_workshop(config: Config) -> Generator[Config]:
    """The settings of the node that builds. What it could not remove is kept, for the next to settle."""
    home = config.home / "run/build"
    home.mkdir(parents=True, exist_ok=True)
    ensure_host_key(config.home / "host-key")  # else the node that builds would make one of its own
    for name in _BORROWED:
        link = home / name
        if not link.is_symlink():
            link.symlink_to(config.home / name)
    try:
        yield replace(config, home=home, network=plan_network(config.network), pool_size=0)
    finally:
        sandboxes = home / "run/sandboxes"
        if not sandboxes.is_dir() or not any(sandboxes.iterdir()):
            shutil.rmtree(home)


def plan_network(network: IPv4Network) -> IPv4Network:
    """The /28 that follows ``network``, or the one before it where nothing follows."""
    after = int(network.broadcast_address) + 1
    first = after if after < 2**32 else int(network.network_address) - 2 ** (32 - _PREFIX)
    if first < 0:
        raise InvalidRequest(
            f"ATOLL_NETWORK={network} leaves no addresses for template builds: give a smaller one"
        )
    return IPv4Network((first, _PREFIX))


def load_host_key(path: Path) -> Ed25519PrivateKey:
    """The key by which the daemons inside know their host, made when there is none.

    Every snapshot has its public half in it: with another key, templates must be built anew.
    """
    ensure_host_key(path)
    try:
        return Ed25519PrivateKey.from_private_bytes(path.read_bytes())
    except ValueError as error:
        raise HostError(
            f"{path} is damaged: remove it, then `./atoll setup --rebuild base` and the other templates"
        ) from error


def ensure_host_key(path: Path) -> None:
    """The seed of the key by which this host proves itself to its sandboxes' daemons; made once, mode 0600.

    Snapshots hold its public half: without it none of them can be used.
    """
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(_SEED_BYTES))
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
    sync(path.parent)
