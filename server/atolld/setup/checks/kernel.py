"""What the kernel must let us do: namespaces, links, rules, control groups, overlays, and gVisor on top."""

from __future__ import annotations

import asyncio
import os
import secrets
from pathlib import Path

from atolld.builds.artefacts import Artefacts
from atolld.builds.files import scratch
from atolld.builds.tools import isolated
from atolld.model.errors import AtollError
from atolld.setup.checks.finding import Finding, Patient, attempt, fail, ok
from atolld.setup.packages import Packages
from atolld.setup.runsc import self_test

_CGROUPS = Path("/sys/fs/cgroup")
_CONTROLLERS = ("cpu", "memory", "pids")
_PRIVILEGED = "run on a machine, or in a container, that has CAP_SYS_ADMIN and CAP_NET_ADMIN"
_RULES = """
table inet atoll_doctor {
    chain out {
        type nat hook postrouting priority 100;
        masquerade;
    }
}
"""


async def check_root(patient: Patient) -> Finding:
    if os.geteuid() == 0:
        return ok("root", "running as root")
    return fail("root", "namespaces, cgroups and mounts need root", "sudo -E ./atoll doctor")


async def check_packages(patient: Patient) -> Finding:
    missing = Packages(patient.environ).missing()
    if missing:
        return fail("packages", f"missing: {', '.join(missing)}", "./atoll setup")
    return ok("packages", "every program that is needed is there")


async def check_namespaces(patient: Patient) -> Finding:
    command = ["unshare", "--net", "ip", "link", "add", "a0", "type", "veth", "peer", "name", "b0"]
    return await attempt(
        "network namespaces", command, detail="made one with a pair of links", mend=_PRIVILEGED
    )


async def check_rules(patient: Patient) -> Finding:
    command = ["unshare", "--net", "nft", _RULES]
    return await attempt(
        "packet rules", command, detail="nft took a masquerading table", mend="modprobe nf_tables nft_masq"
    )


async def check_forwarding(patient: Patient) -> Finding:
    path = Path("/proc/sys/net/ipv4/ip_forward")
    try:
        value = await asyncio.to_thread(path.read_text)
        await asyncio.to_thread(path.write_text, value)
    except OSError as error:
        return fail(
            "forwarding", f"{path} cannot be written ({error.strerror})", "sysctl -w net.ipv4.ip_forward=1"
        )
    return ok("forwarding", "can be turned on" if value.strip() == "0" else "is on")


async def check_cgroups(patient: Patient) -> Finding:
    return await asyncio.to_thread(_try_cgroups)


def _try_cgroups() -> Finding:
    is_unified = (_CGROUPS / "cgroup.controllers").exists()
    version = "v2" if is_unified else "v1"
    roots = [_CGROUPS] if is_unified else [_CGROUPS / name for name in _CONTROLLERS]
    name = f"atoll-doctor-{secrets.token_hex(3)}"
    made: list[Path] = []
    try:
        if is_unified:
            given = set((_CGROUPS / "cgroup.controllers").read_text().split())
            if missing := set(_CONTROLLERS) - given:
                raise OSError(0, f"the controllers {', '.join(sorted(missing))} are not there")
        for root in roots:
            if not root.is_dir():
                raise OSError(0, f"{root} is not mounted")
            (root / name).mkdir()
            made.append(root / name)
    except OSError as error:
        mount = (
            "mount -t cgroup2 none /sys/fs/cgroup"
            if is_unified
            else "boot with cgroup v2, or mount cgroup v1"
        )
        return fail("cgroups", f"{version}: {error.strerror}", mount)
    finally:
        for path in made:
            path.rmdir()
    return ok("cgroups", f"{version}, with {', '.join(_CONTROLLERS)}")


async def check_overlay(patient: Patient) -> Finding:
    home = patient.config.home
    home.mkdir(parents=True, exist_ok=True)
    with scratch(home) as directory:
        for name in ("lower", "upper", "work", "root"):
            await asyncio.to_thread(Path(directory, name).mkdir)
        options = f"lowerdir={directory}/lower,upperdir={directory}/upper,workdir={directory}/work"
        mount = ["mount", "-t", "overlay", "atoll-doctor", "-o", options, f"{directory}/root"]
        return await attempt(
            "overlay",
            isolated(mount),
            detail=f"{home} can hold layers",
            mend="set ATOLL_HOME to a directory on ext4, xfs or btrfs",
        )


async def check_runsc(patient: Patient) -> Finding:
    runsc = Artefacts(patient.config.home).runsc
    if not runsc.is_file():
        return fail("runsc", "not there yet", "./atoll setup")
    try:
        await self_test(runsc.resolve(), patient.config.home, lambda _: None)
    except AtollError as error:
        return fail("runsc", error.message, "./atoll setup --rebuild runsc")
    return ok("runsc", "started, kept and restored a small EROFS root")


KERNEL = (
    check_root,
    check_packages,
    check_namespaces,
    check_rules,
    check_forwarding,
    check_cgroups,
    check_overlay,
    check_runsc,
)
