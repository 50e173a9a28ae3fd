"""Sandboxes of images that are not Debian: one of musl with busybox, one with the daemon alone."""

from __future__ import annotations

import asyncio
import platform
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Network
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from atolld.builds.mirrors import SUITE, parse_release, plan_options, plan_sources
from atolld.builds.roots import host_sources
from atolld.config import Config
from atolld.model.sandbox import Resources, SandboxId
from atolld.node import GuestClient, Node, Surroundings
from atolld.node.runtime.runsc import RunscRuntime
from atolld.node.slots import KernelSlots

NETWORK = IPv4Network("10.237.0.0/20")
PORT = 49983
_DIRECTORIES = ("dev", "proc", "run", "sys", "tmp")
_DYNAMIC = """
#include <stdio.h>
int main(void) {
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof line, maps)) fputs(line, stdout);
    return 7;
}
"""
"""Tells what it is loaded with."""


def make_scratch_tree(tree: Path, envd: Path) -> None:
    """No shell, no library, no accounts: what `FROM scratch` gives."""
    for name in _DIRECTORIES:
        (tree / name).mkdir(parents=True, exist_ok=True)
    (tree / "tmp").chmod(0o1777)
    (tree / ".atoll").mkdir()
    shutil.copyfile(envd, tree / ".atoll/envd")
    (tree / ".atoll/envd").chmod(0o755)


def make_musl_tree(tree: Path, envd: Path) -> None:
    """musl's loader, busybox for sh and tools, no bash, one account: as an Alpine image is."""
    tree.mkdir(parents=True)
    _extract(tree, ("busybox-static", "musl"))
    listed = subprocess.run([tree / "bin/busybox", "--list"], capture_output=True, text=True, check=True)
    for name in listed.stdout.split():
        if name not in ("busybox", "bash"):
            (tree / "bin" / name).symlink_to("busybox")
    (tree / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (tree / "etc/group").write_text("root:x:0:\n")
    (tree / "root").mkdir(exist_ok=True)
    make_scratch_tree(tree, envd)
    _compile(tree / "bin/dynamic")


def _compile(program: Path) -> None:
    """What the host's compiler links to a libc, loaded by musl: it takes the place of every libc there is."""
    loader = f"/lib/ld-musl-{platform.machine()}.so.1"
    command = ["cc", "-O0", "-U_FORTIFY_SOURCE", f"-Wl,--dynamic-linker={loader}", "-xc", "-", "-o", program]
    if shutil.which("cc"):
        subprocess.run(command, input=_DYNAMIC, text=True, check=True)


def _extract(tree: Path, packages: tuple[str, ...]) -> None:
    """Debian's packages by its own tool and the machine's mirror, unpacked and nothing else."""
    release = Path("/etc/os-release")
    sources = plan_sources(parse_release(release.read_text()) if release.is_file() else {}, host_sources())
    apt = shutil.which("apt-config")
    settings = subprocess.run([apt, "dump", "Acquire"], capture_output=True, text=True) if apt else None
    command = ["mmdebstrap", "--mode=root", "--variant=extract", f"--include={','.join(packages)}"]
    command += [f"--aptopt={option}" for option in plan_options(settings.stdout if settings else "")]
    command += ["--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", SUITE, str(tree)]
    command += ["-"] if sources else []
    done = subprocess.run(command, input="\n".join([*sources, ""]), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def make_image(tree: Path, image: Path) -> Path:
    command = ["mkfs.erofs", "--quiet", "-x-1", "-Enoinline_data", image, tree]
    subprocess.run(command, check=True, capture_output=True)
    return image


@contextmanager
def booted(root: Path, runsc: Path) -> Iterator[str]:
    """The address of a sandbox of this root, started from nothing."""
    home = Path(tempfile.mkdtemp(prefix="atoll-guest-"))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    runtime = RunscRuntime(runsc, home / "run" / "runsc")
    slots = KernelSlots(NETWORK, home / "run" / "sandboxes")
    guest = GuestClient(Ed25519PrivateKey.generate())
    surroundings = Surroundings({"/etc/resolv.conf": b""})
    node = Node(Config(home=home, network=NETWORK), runtime, guest, slots, lambda: surroundings)

    async def start() -> str:
        await node.open()
        started = await node.boot(
            root_path=root,
            resources=Resources(vcpu=2, memory_mib=512, disk_mib=512),
            envs={},
            sandbox_id=SandboxId("iguest"),
        )
        return started.address

    async def stop() -> None:
        for sandbox_id in list(node.running()):
            await node.stop(sandbox_id)
        await node.close()

    try:
        yield asyncio.run_coroutine_threadsafe(start(), loop).result(120)
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        shutil.rmtree(home)
