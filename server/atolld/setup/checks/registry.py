"""Whether packages can be had: by this machine, and by a sandbox on it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from atoll_wire import process
from atolld.builds.registries import read_registries
from atolld.builds.roots import BASE
from atolld.builds.tools import run_tool
from atolld.builds.workshop import open_workshop
from atolld.model.errors import AtollError
from atolld.model.sandbox import Resources, new_sandbox_id
from atolld.setup.checks.finding import Finding, Patient, fail, ok, warn

_WITHIN = 60.0
# A question that downloads next to nothing; pip asks whichever index it is set up for.
_QUESTION = "-m pip --disable-pip-version-check --retries 1 --timeout 15 index versions pip"


async def check_registry(patient: Patient) -> Finding:
    mend = "check the proxy and PIP_INDEX_URL of this machine"
    try:
        async with asyncio.timeout(_WITHIN):
            await run_tool([sys.executable, *_QUESTION.split()], report=lambda _: None)
    except (AtollError, TimeoutError) as error:
        return warn("package index", f"not reached from this machine: {error}", mend)
    return ok("package index", "reached from this machine")


async def check_sandbox(patient: Patient) -> Finding:
    """Boots one on the newest root image, with the network and the certificates it would have."""
    images = sorted(
        (patient.config.home / "roots").glob(f"{BASE.name}-*.erofs"), key=lambda path: path.stat().st_mtime
    )
    if not images:
        return fail("sandbox", "there is no root image yet", "./atoll setup")
    envs = read_registries(patient.environ).sandbox_environment()
    question = process.Start("/bin/sh", ("-c", f"python3 {_QUESTION}"), envs=envs, cwd="/home/user")
    try:
        async with asyncio.timeout(_WITHIN):
            code, said = await _run_in_sandbox(patient, images[-1], question)
    except (AtollError, TimeoutError) as error:
        return fail("sandbox", f"none could be started: {error}", "./atoll setup; its log says more")
    if code != 0:
        mend = "set ATOLL_ALLOW_EGRESS to the index and the resolver, if their addresses are private"
        return warn("sandbox", f"started, but reaches no package index: {said.strip()[-300:]}", mend)
    return ok("sandbox", "started, and reaches the package index")


async def _run_in_sandbox(patient: Patient, image: Path, command: process.Start) -> tuple[int, str]:
    sandbox_id = new_sandbox_id()
    with open_workshop(patient.config) as config:
        async with patient.open_node(config) as node:
            await node.boot(root_path=image, resources=Resources(), envs={}, sandbox_id=sandbox_id)
            try:
                return await node.run_process(sandbox_id, command, user="user")
            finally:
                await node.stop(sandbox_id)


REGISTRY = (check_registry, check_sandbox)
