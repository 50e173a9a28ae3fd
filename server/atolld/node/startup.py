"""What runs in a sandbox from the beginning: its template's start command, until the template calls it ready.

Needed where there is no memory to restore: when a template is built, and when a sandbox is booted from its
files. The daemon must not want a token yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from atoll_wire import process
from atolld.model.errors import HostError
from atolld.model.template import Manifest
from atolld.node.guest import GuestClient

_TAG = "_system"
_BETWEEN_CHECKS = 0.25


async def start_up(
    guest: GuestClient, address: str, manifest: Manifest, within: float, report: Callable[[str], object]
) -> None:
    """Returns when the template's service is ready. Raises :class:`HostError` when it is not ``within`` so
    many seconds, ``GuestUnresponsive`` when the daemon fails."""
    if manifest.start_command is not None:
        start = _shell(manifest, manifest.start_command, tag=_TAG)
        pid = await guest.start_process(address, start, manifest.default_user)
        report(f"started {manifest.start_command!r} as process {pid}")
    if manifest.ready_command is None:
        return
    said = ""
    try:
        async with asyncio.timeout(within):
            while True:
                check = _shell(manifest, manifest.ready_command)
                code, said = await guest.run_process(address, check, manifest.default_user)
                if code == 0:
                    return
                report(f"not ready yet: {manifest.ready_command!r} exited with {code}")
                await asyncio.sleep(_BETWEEN_CHECKS)
    except TimeoutError:
        raise HostError(
            f"template {manifest.name!r} did not become ready in {within:.0f} s: "
            f"{manifest.ready_command!r} keeps failing {said.strip()[-500:]!r}"
        ) from None


def _shell(manifest: Manifest, line: str, tag: str | None = None) -> process.Start:
    arguments = ("-l", "-c", line)
    return process.Start("/bin/bash", arguments, envs=manifest.envs, cwd=manifest.workdir, tag=tag)
