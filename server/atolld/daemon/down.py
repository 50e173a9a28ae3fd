"""Stops the server and ends every sandbox, also those of a server that died."""

from __future__ import annotations

import asyncio
import json
import logging

from atolld.builds.artefacts import Artefacts
from atolld.config import Config
from atolld.daemon.lock import find_holder, hold_machine, stop_process
from atolld.daemon.parts import open_house
from atolld.telemetry import configure_logs

_PATIENCE = 20.0


def down(config: Config, *, as_json: bool) -> None:
    """Raises an :class:`~atolld.model.errors.AtollError` when a sandbox could not be ended."""
    configure_logs(logging.WARNING)
    stopped = _stop_server(config)
    ended = asyncio.run(_end_sandboxes(config)) if _is_set_up(config) else 0
    if as_json:
        print(json.dumps({"server": stopped, "sandboxes": ended}))
    else:
        print(f"{'the server was stopped' if stopped else 'no server ran'}; {ended} sandboxes were ended")


def _stop_server(config: Config) -> bool:
    holder = find_holder(config.home)
    return holder is not None and holder.role == "server" and stop_process(holder.pid, _PATIENCE)


def _is_set_up(config: Config) -> bool:
    """Without these nothing can have been started."""
    return (config.home / "atoll.db").is_file() and Artefacts(config.home).runsc.is_file()


async def _end_sandboxes(config: Config) -> int:
    with hold_machine(config.home, "down"):
        async with open_house(config) as house:
            await house.sandboxes.recover()
            return await house.sandboxes.end_all()
