"""What the machine must have: room, memory, the right time, a free port, names that resolve."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import shutil
import socket
import ssl
import time
from datetime import datetime
from pathlib import Path

from atolld.builds.registries import find_ca_bundle
from atolld.setup.checks.finding import Finding, Patient, fail, ok, warn

_GIB = 1 << 30
_DISK = (2 * _GIB, 10 * _GIB)
"""Below the first nothing can start; below the second a template cannot be built anew."""
_MEMORY = (_GIB, 3 * _GIB)
_RELEASED = 1_764_000_000.0
"""Unix time before which no clock is right: we were written after it."""


async def check_disk(patient: Patient) -> Finding:
    home = patient.config.home
    existing = next(path for path in (home, *home.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    said = f"{free / _GIB:.1f} GiB free below {home}"
    mend = f"free {_DISK[1] / _GIB:.0f} GiB, or set ATOLL_HOME to a larger disk"
    if free < _DISK[0]:
        return fail("disk", said, mend)
    return warn("disk", said, mend) if free < _DISK[1] else ok("disk", said)


async def check_memory(patient: Patient) -> Finding:
    available = parse_available(await asyncio.to_thread(Path("/proc/meminfo").read_text))
    said = f"{available / _GIB:.1f} GiB available"
    mend = "stop other programs, or use a machine with 4 GiB or more"
    if available < _MEMORY[0]:
        return fail("memory", said, mend)
    return warn("memory", said, mend) if available < _MEMORY[1] else ok("memory", said)


def parse_available(meminfo: str) -> int:
    """Bytes of ``MemAvailable`` in /proc/meminfo."""
    for line in meminfo.splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return 0


async def check_clock(patient: Patient) -> Finding:
    """A clock behind what was made here makes certificates invalid and snapshots' clocks run backwards."""
    made = [path.stat().st_mtime for path in patient.config.home.glob("templates/*/*/manifest.json")]
    earliest = max([_RELEASED, *made])
    now = time.time()
    said = f"it is {datetime.fromtimestamp(now).astimezone():%Y-%m-%d %H:%M:%S %Z}"
    if now < earliest - 1:
        return fail("clock", f"{said}, before what was made on this machine", "timedatectl set-ntp true")
    return ok("clock", said)


async def check_certificates(patient: Patient) -> Finding:
    bundle = find_ca_bundle(patient.environ)
    if bundle is None:
        return fail("certificates", "no bundle of certificate authorities", "apt-get install ca-certificates")
    try:
        context = ssl.create_default_context(cafile=str(bundle))
    except (ssl.SSLError, OSError) as error:
        return fail("certificates", f"{bundle} cannot be used ({error})", "update-ca-certificates --fresh")
    return ok("certificates", f"{len(context.get_ca_certs())} authorities in {bundle}")


async def check_resolver(patient: Patient) -> Finding:
    path = Path("/etc/resolv.conf")
    try:
        text = await asyncio.to_thread(path.read_text)
    except OSError as error:
        return fail(
            "resolver", f"{path} cannot be read ({error.strerror})", f"write nameserver lines to {path}"
        )
    servers = [
        line.split()[1]
        for line in text.splitlines()
        if line.startswith("nameserver") and len(line.split()) > 1
    ]
    if not servers:
        return fail("resolver", f"{path} names no server", f"write nameserver lines to {path}")
    return ok("resolver", f"asks {', '.join(servers)}")


async def check_port(patient: Patient) -> Finding:
    config = patient.config
    with contextlib.closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.host, config.port))
        except OSError as error:
            if await asyncio.to_thread(_is_ours, config.host, config.port):
                return ok("port", f"our server answers on {config.host}:{config.port}")
            return fail(
                "port", f"{config.host}:{config.port}: {error.strerror}", "set ATOLL_PORT to a free port"
            )
    return ok("port", f"{config.host}:{config.port} is free")


def _is_ours(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1" if host == "0.0.0.0" else host, port, timeout=3)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 204
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


async def check_processors(patient: Patient) -> Finding:
    count = len(os.sched_getaffinity(0))
    if count < 2:
        return warn("processors", "one processor: starting and running share it", "use 2 or more")
    return ok("processors", f"{count}")


RESOURCES = (
    check_processors,
    check_memory,
    check_disk,
    check_clock,
    check_port,
    check_certificates,
    check_resolver,
)
