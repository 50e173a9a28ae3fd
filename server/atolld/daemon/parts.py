"""Builds the parts out of one config."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

from atolld.builds.artefacts import Artefacts
from atolld.builds.workshop import load_host_key
from atolld.config import Config
from atolld.control.clock import Clock
from atolld.control.keys import Keys, ensure_credentials
from atolld.control.sandboxes import Sandboxes
from atolld.control.templates import Templates
from atolld.model.errors import HostError
from atolld.model.routes import Routes
from atolld.node import GuestClient, KernelSlots, Node, look_around
from atolld.node.runtime.runsc import RunscRuntime
from atolld.store import Store


@dataclass(frozen=True, slots=True)
class House:
    """What is behind the skins, open."""

    store: Store
    node: Node
    routes: Routes
    templates: Templates
    keys: Keys
    sandboxes: Sandboxes


def build_node(config: Config, guest: GuestClient | None = None) -> Node:
    """``guest``: whom the daemons inside obey, where that is not this host. Raises :class:`HostError` when
    set-up has not made what it needs."""
    run = config.home / "run"
    return Node(
        config,
        RunscRuntime(runsc_binary(config).resolve(), run / "runsc"),
        guest or build_guest(config),
        KernelSlots(config.network, run / "sandboxes"),
        lambda: look_around(config.allow_egress, os.environ),
    )


def runsc_binary(config: Config) -> Path:
    binary = Artefacts(config.home).runsc
    if not binary.is_file():
        raise HostError(f"there is no runsc at {binary}: `./atoll setup` makes it")
    return binary


def build_guest(config: Config) -> GuestClient:
    return GuestClient(load_host_key(config.home / "host-key"))


@contextlib.asynccontextmanager
async def open_node(config: Config, guest: GuestClient | None = None) -> AsyncGenerator[Node]:
    """A node for building templates, in a state directory and a range of its own."""
    node = build_node(config, guest)
    try:
        await node.open()
        yield node
    finally:
        await node.close()


@contextlib.asynccontextmanager
async def open_house(config: Config) -> AsyncGenerator[House]:
    """Store and node open, sandboxes not yet taken up. Whoever calls holds the machine."""
    async with contextlib.AsyncExitStack() as stack:
        store = await Store.open(config.home / "atoll.db")
        stack.push_async_callback(store.close)
        await ensure_credentials(store, config.home / "credentials")
        node = build_node(config)
        stack.push_async_callback(node.close)
        await node.open()
        clock, routes, templates = Clock(), Routes(), Templates(store, config.home)
        sandboxes = Sandboxes(
            config=config, store=store, node=node, routes=routes, templates=templates, clock=clock
        )
        stack.push_async_callback(sandboxes.close)
        yield House(store, node, routes, templates, Keys(store, clock.ticks), sandboxes)
