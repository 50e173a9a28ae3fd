"""The node on a real machine: what a sandbox sees and reaches, and that nothing of it is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager
from ipaddress import IPv4Interface, IPv4Network, ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from atoll_wire import process
from atolld.config import Config
from atolld.model.errors import AtollError, HostError
from atolld.model.sandbox import EndReason, Identity, Resources, SandboxId
from atolld.model.template import Build, Manifest, StoredFile
from atolld.node import GuestClient, Node, StartSpec, Surroundings, Target, pageout
from atolld.node.inventory import Inventory, take_inventory
from atolld.node.linux import cgroup, firewall, netns, paging
from atolld.node.runtime.protocol import CHECKPOINT_FILES
from atolld.node.runtime.runsc import RunscRuntime
from atolld.node.slots import KernelSlots
from atolld.node.verify import hash_file
from atolld.setup import zram

pytestmark = pytest.mark.machine

RESOURCES = Resources(vcpu=2, memory_mib=192, disk_mib=64)
BUILD_ID = SandboxId("ibuild")
IDENTITY = Identity(SandboxId("i1"), "ttiny", "btiny", "team")
TARGET = Target("new", "ttiny", "tiny")


class Machine:
    """A node on the real kernel."""

    def __init__(self, home: Path, network: IPv4Network, runsc: Path, root: Path) -> None:
        self.home, self.network, self.root = home, network, root
        self._runsc = runsc
        self._key = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
        self.surroundings = Surroundings({"/etc/resolv.conf": b"nameserver 192.0.2.53\n"})
        (home / "roots").mkdir(exist_ok=True)
        with contextlib.suppress(FileExistsError):  # the server that is to be killed has made it
            (home / "roots" / root.name).symlink_to(root)  # where a snapshot looks for its root
        self.make_server()

    def make_server(self) -> None:
        """Another one in the same home; the one before must be closed."""
        self.runtime = RunscRuntime(self._runsc, self.home / "run" / "runsc")
        self.slots = KernelSlots(self.network, self.home / "run" / "sandboxes")
        config = Config(home=self.home, network=self.network, least_shared=0)
        guest = GuestClient(self._key)
        self.node = Node(config, self.runtime, guest, self.slots, lambda: self.surroundings)

    async def build(self) -> Build:
        await self.node.boot(root_path=self.root, resources=RESOURCES, envs={}, sandbox_id=BUILD_ID)
        directory = self.home / "templates" / "ttiny" / "btiny"
        snapshot = directory / "snapshot"
        await asyncio.to_thread(snapshot.mkdir, parents=True)
        await self.node.snapshot(BUILD_ID, snapshot)
        manifest = Manifest(
            template_id="ttiny",
            build_id="btiny",
            name="tiny",
            created_at="2026-01-01T00:00:00Z",
            resources=RESOURCES,
            root_image=self.root.name,
            root=_stored(self.root),
            snapshot={name: _stored(snapshot / name) for name in CHECKPOINT_FILES},
            runsc_sha256=await self.runtime.sha256(),
            cpu_features=tuple(sorted(await self.runtime.cpu_features())),
            envd_version="0.6.13",
        )
        return Build(manifest, directory, self.root)

    async def start(self, build: Build, name: str, *, allow_internet: bool = True) -> str:
        identity = Identity(SandboxId(name), "ttiny", "btiny", "team")
        started = await self.node.start(StartSpec(identity, RESOURCES, build, allow_internet))
        return started.address

    async def probe(self, name: str, *args: str) -> tuple[int, str]:
        return await self.node.run_process(SandboxId(name), process.Start("/bin/probe", args))

    async def inventory(self) -> Inventory:
        return await take_inventory(self.home, self.network)


def _stored(path: Path) -> StoredFile:
    return StoredFile(path.stat().st_size, hash_file(path))


@pytest.fixture
async def machine(
    short_home: Path, machine_network: IPv4Network, runsc_binary: Path, tiny_root: Path
) -> AsyncIterator[Machine]:
    """Everything the test made is gone afterwards, or the test fails."""
    machine = Machine(short_home, machine_network, runsc_binary, tiny_root)
    before = await machine.inventory()
    await machine.node.open()
    yield machine
    for sandbox_id in list(machine.node.running()):
        await machine.node.stop(sandbox_id)
    await machine.node.close()
    assert await machine.inventory() - before == {}


async def until(condition: Callable[[], bool], timeout: float = 20) -> None:
    async with asyncio.timeout(timeout):
        while not condition():  # noqa: ASYNC110 (outside processes announce nothing)
            await asyncio.sleep(0.02)


async def facts(machine: Machine, name: str) -> dict[str, Any]:
    code, printed = await machine.probe(name, "facts")
    assert code == 0, printed
    return json.loads(printed)


async def test_a_sandbox_sees_its_own_limits_and_identity(machine: Machine) -> None:
    await machine.start(await machine.build(), "i1")
    seen = await facts(machine, "i1")
    assert (seen["processors"], seen["memory_mib"]) == (2, RESOURCES.memory_mib)
    assert seen["disk_mib"] == RESOURCES.disk_mib
    assert seen["hostname"] == "i1"
    assert await machine.probe("i1", "read", "/run/e2b/.E2B_SANDBOX_ID") == (0, "i1")
    assert await machine.probe("i1", "read", "/etc/resolv.conf") == (0, "nameserver 192.0.2.53\n")


async def test_the_disk_limit_holds_and_the_disk_is_not_memory(machine: Machine) -> None:
    await machine.start(await machine.build(), "i1")
    assert await machine.probe("i1", "fill", "/tmp/a", "40") == (0, "")
    code, printed = await machine.probe("i1", "fill", "/home/b", "40")
    assert (code, "no space left" in printed) == (1, True)


async def test_a_greedy_process_ends_and_its_sandbox_goes_on(machine: Machine) -> None:
    await machine.start(await machine.build(), "i1")
    code, _ = await machine.probe("i1", "eat", "900")
    assert code != 0
    assert (await facts(machine, "i1"))["memory_mib"] == RESOURCES.memory_mib


async def test_a_sandbox_over_its_memory_limit_ends_with_that_reason(machine: Machine) -> None:
    told: asyncio.Future[EndReason] = asyncio.get_running_loop().create_future()
    machine.node.on_end = lambda sandbox_id, reason, words: told.set_result(reason)
    await machine.start(await machine.build(), "i1")
    # The daemon inside ends what is greedy in time, as long as the limit is where it believes it to be.
    (slot,) = (machine.home / "run" / "sandboxes").iterdir()
    await asyncio.to_thread(cgroup.set_memory_limit, f"{cgroup.PARENT}/{slot.name}", 48)
    await machine.node.start_process(SandboxId("i1"), process.Start("/bin/probe", ["eat", "100"]))
    assert await asyncio.wait_for(told, 60) is EndReason.MEMORY_LIMIT
    assert machine.node.running() == {}


async def test_a_crash_is_told_and_leaves_nothing(machine: Machine) -> None:
    told: asyncio.Future[EndReason] = asyncio.get_running_loop().create_future()
    machine.node.on_end = lambda sandbox_id, reason, words: told.set_result(reason)
    build = await machine.build()
    idle = await machine.inventory()
    await machine.start(build, "i1")
    for line in (await machine.inventory()).processes:
        if "runsc-sandbox" in line:
            os.kill(int(line.split()[0]), signal.SIGKILL)
    assert await asyncio.wait_for(told, 10) is EndReason.CRASH
    assert (await machine.inventory() - idle).get("processes") is None


async def test_pid_1s_last_words_are_told_also_by_a_server_that_came_back(machine: Machine) -> None:
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    await machine.start(await machine.build(), "i1")
    await machine.node.close()
    machine.make_server()
    await machine.node.open()
    machine.node.on_end = lambda sandbox_id, reason, words: told.set_result(f"{reason}: {words}")
    with contextlib.suppress(AtollError):  # its answer may not get out any more
        await machine.probe("i1", "signal", "1", str(int(signal.SIGQUIT)))
    assert (await asyncio.wait_for(told, 20)).startswith("crash: SIGQUIT: quit")


@contextlib.contextmanager
def small_disk(directory: Path, room: int) -> Generator[None]:
    """A disk of its own for a directory, with ``room`` bytes on it."""
    directory.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={room}", "atoll-test", str(directory)]
    subprocess.run(mount, check=True, timeout=10)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True, timeout=10)


def _there_is_room(directory: Path, needed_mib: int, what: str) -> None:
    pass


@pytest.mark.parametrize("room_kib", [4, 64, 1024])
async def test_a_disk_that_fills_up_during_a_pause_loses_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, room_kib: int
) -> None:
    """There was room when the pause began, and others took it."""
    await machine.start(await machine.build(), "i1")
    snapshots = machine.home / "snapshots"
    with small_disk(snapshots, room_kib << 10), monkeypatch.context() as patch:
        patch.setattr("atolld.node.launcher.check_free_space", _there_is_room)
        with pytest.raises(AtollError):
            await machine.node.pause(SandboxId("i1"), TARGET)
        assert (await facts(machine, "i1"))["hostname"] == "i1"
        assert not await machine.node.snapshots()
        assert not list(snapshots.iterdir())
    await machine.node.pause(SandboxId("i1"), TARGET)
    await machine.node.resume(IDENTITY, RESOURCES, TARGET.snapshot_id, allow_internet=True)
    assert (await facts(machine, "i1"))["hostname"] == "i1"
    await machine.node.discard(TARGET.snapshot_id)


async def test_a_container_killed_in_the_middle_of_its_checkpoint_is_over_and_the_snapshot_before_is_good(
    machine: Machine,
) -> None:
    told: asyncio.Future[EndReason] = asyncio.get_running_loop().create_future()
    machine.node.on_end = lambda sandbox_id, reason, words: told.set_result(reason)
    await machine.start(await machine.build(), "i1")
    safe = Target("safe", "ttiny", "tiny")
    await machine.node.capture(SandboxId("i1"), safe)
    await machine.node.start_process(SandboxId("i1"), process.Start("/bin/probe", ["eat", "100"]))
    (sandbox,) = [line for line in (await machine.inventory()).processes if "runsc-sandbox" in line]
    pausing = asyncio.create_task(machine.node.pause(SandboxId("i1"), TARGET))
    await until(lambda: any(path.stat().st_size for path in machine.home.glob("snapshots/*/*/pages.img")))
    assert not pausing.done()
    os.kill(int(sandbox.split()[0]), signal.SIGKILL)
    with pytest.raises(AtollError):
        await pausing
    assert await asyncio.wait_for(told, 20) is EndReason.CRASH
    assert not machine.node.running()
    assert await machine.node.snapshots() == {"safe"}
    await machine.node.resume(IDENTITY, RESOURCES, "safe", allow_internet=True)
    assert (await facts(machine, "i1"))["hostname"] == "i1"
    await machine.node.stop(SandboxId("i1"))
    await machine.node.discard("safe")


async def test_sandboxes_reach_neither_the_host_nor_each_other(machine: Machine) -> None:
    build = await machine.build()
    other = await machine.start(build, "i1")
    address = await machine.start(build, "i2")
    gateway = str(ip_address(address) - 1)
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        for host in (gateway, _own_address(), "169.254.169.254", "10.255.0.1"):
            assert (await machine.probe("i2", "connect", f"{host}:{port}"))[0] == 1, host
    assert (await machine.probe("i2", "connect", f"{other}:49983"))[0] == 1
    assert (await machine.probe("i2", "connect", f"{address}:49983"))[0] == 0


async def test_allowances_are_reached_and_offline_sandboxes_reach_nothing(machine: Machine) -> None:
    build = await machine.build()
    with socket.create_server((_own_address(), 0)) as server:
        target = f"{_own_address()}:{server.getsockname()[1]}"
        machine.surroundings = Surroundings(allowances=frozenset({target}))
        await machine.node.warm([])
        await machine.start(build, "i1")
        await machine.start(build, "i2", allow_internet=False)
        assert await machine.probe("i1", "connect", target) == (0, "")
        assert (await machine.probe("i2", "connect", target))[0] == 1


async def test_packets_are_forwarded_and_masqueraded(machine: Machine) -> None:
    """Against a second namespace that stands for the outside, reached by a public address."""
    build = await machine.build()
    await machine.start(build, "i1")
    await machine.start(build, "i2", allow_internet=False)
    async with _outside() as target:
        assert await machine.probe("i1", "connect", target) == (0, "")
        assert (await machine.probe("i2", "connect", target))[0] == 1


async def test_a_warm_sandbox_is_claimed(machine: Machine) -> None:
    build = await machine.build()
    await machine.node.warm([(build, RESOURCES, 1)])
    await until(lambda: machine.node.warm_count() == 1)
    identity = Identity(SandboxId("i1"), "ttiny", "btiny", "team")
    started = await machine.node.start(StartSpec(identity, RESOURCES, build))
    assert started.timings_ms["warm"] == 1
    assert (await facts(machine, "i1"))["hostname"] == "i1"
    await until(lambda: machine.node.warm_count() == 1)


async def test_a_killed_servers_sandboxes_are_adopted_and_the_rest_is_removed(
    machine: Machine, runsc_binary: Path
) -> None:
    """The other server is a process of its own, see the end of this file."""
    await machine.node.close()
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, machine.home, machine.network.with_prefixlen, runsc_binary, machine.root),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
    )
    assert server.stdout is not None
    running = json.loads(await asyncio.wait_for(server.stdout.readline(), 60))
    server.kill()
    await server.wait()

    await machine.node.open()
    assert machine.node.running() == running
    assert set(running) == {"i1", "i2"}
    assert (await facts(machine, "i1"))["hostname"] == "i1"
    found = await machine.inventory()
    assert len(found.links) == 2
    assert len([line for line in found.processes if "runsc-sandbox" in line]) == 2
    assert f"{running['i2']}" in await firewall.list_offline(machine.network)


async def test_twenty_sandboxes_half_of_them_failing_leave_nothing(machine: Machine) -> None:
    build = await machine.build()
    idle = await machine.inventory()
    failing = ["create", "restore", "give_headroom", "cancelled", "dead guest"] * 2
    for number in range(20):
        name = f"i{number}"
        if number % 2:
            await machine.start(build, name)
            await machine.node.stop(SandboxId(name))
        else:
            await _start_and_fail(machine, build, name, failing[number // 2])
    left = await machine.inventory() - idle
    # The spare slot's link is another one than before; the fixture looks again when it is gone, too.
    assert set(left) <= {"links", "routes"}
    assert max(map(len, left.values()), default=0) <= 1


async def test_starts_cancelled_at_any_moment_leave_nothing(machine: Machine) -> None:
    build = await machine.build()
    await machine.start(build, "i0")
    await machine.node.stop(SandboxId("i0"))
    descriptors = _count_descriptors()
    for number in range(1, 16):
        task = asyncio.create_task(machine.start(build, f"i{number}"))
        await asyncio.wait([task], timeout=number * 0.02)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await machine.node.stop(SandboxId(f"i{number}"))
    await machine.node.close()
    assert await machine.inventory() - await take_inventory(Path("/nowhere"), machine.network) == {}
    await machine.node.open()
    assert _count_descriptors() <= descriptors


def _count_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def _start_and_fail(machine: Machine, build: Build, name: str, step: str) -> None:
    target: Any = machine.slots if step == "give_headroom" else machine.runtime
    verb = {"dead guest": "restore", "cancelled": "restore"}.get(step, step)
    real = getattr(target, verb)

    async def broken(spec: Any, *rest: Any) -> None:
        await real(spec, *rest)
        if step == "dead guest":
            await machine.runtime.destroy(spec.name)
            return
        if step == "cancelled":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        raise HostError(f"{step} was told to fail")

    setattr(target, verb, broken)
    try:
        with pytest.raises((AtollError, asyncio.CancelledError)):
            await asyncio.create_task(machine.start(build, name))
    finally:
        delattr(target, verb)


async def test_a_range_of_another_server_is_refused(machine: Machine, short_home: Path) -> None:
    await machine.start(await machine.build(), "i1")
    other = KernelSlots(machine.network, short_home / "other")
    with pytest.raises(HostError, match=str(short_home)):
        await other.open(frozenset())
    await other.close(keep=True)


async def test_a_range_that_is_in_use_is_refused(short_home: Path, runsc_binary: Path) -> None:
    slots = KernelSlots(_own_network(), short_home / "run" / "sandboxes")
    with pytest.raises(HostError, match="ATOLL_NETWORK"):
        await slots.open(frozenset())
    await slots.close(keep=True)
    assert await firewall.list_tables(_own_network()) == frozenset()


@asynccontextmanager
async def _outside() -> AsyncGenerator[str]:
    """``address:port`` of a server in a namespace that stands for the internet: no way leads to sandboxes."""
    namespace = netns.create_namespace()
    gateway = IPv4Interface("198.51.100.1/30")
    name = netns.link_name(gateway.ip)
    netlink = netns.open_netlink()
    try:
        await netns.create_pair(netlink, namespace, name, gateway, mtu=1500, group=0, owner="a test")
        netns.set_up_inside(namespace)
        inside = f"nsenter --net={namespace.path}"
        script = f"{inside} ip address add 198.51.100.2/30 dev eth0"
        done = await asyncio.to_thread(subprocess.run, script.split(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        code = "import socket; s = socket.create_server(('', 8080)); print(1, flush=True); input()"
        server = await asyncio.create_subprocess_exec(
            *inside.split(), sys.executable, "-c", code, stdin=-1, stdout=asyncio.subprocess.PIPE
        )
        assert server.stdout is not None
        await server.stdout.readline()
        yield "198.51.100.2:8080"
        server.kill()
        await server.wait()
    finally:
        namespace.close()
        await netns.delete_link(netlink, name)
        netlink.close()


def _own_address() -> str:
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("198.51.100.1", 9))
        return probe.getsockname()[0]


def _own_network() -> IPv4Network:
    return IPv4Network(f"{_own_address()}/28", strict=False)


async def test_a_paused_one_leaves_memory_and_comes_back(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not zram.can_make():
        pytest.skip("this kernel has no zram")
    monkeypatch.setattr(pageout, "SETTLED", 0.0)
    monkeypatch.setattr(pageout, "_BETWEEN", 0.05)
    device = zram.make(256)
    try:
        await machine.start(await machine.build(), "i1")
        (directory,) = (machine.home / "run" / "sandboxes").iterdir()
        group = f"{cgroup.PARENT}/{directory.name}"
        before = paging.usage(group)
        await machine.node.pause(SandboxId("i1"), Target("snap", "ttiny", "tiny"))
        await until(lambda: paging.usage(group) < before * 2 // 3)
        identity = Identity(SandboxId("i1"), "ttiny", "btiny", "team")
        resumed = await machine.node.resume(identity, RESOURCES, "snap")
        assert "resident" in resumed.timings_ms
        assert (await facts(machine, "i1"))["hostname"] == "i1"
        await machine.node.stop(SandboxId("i1"))
    finally:
        zram.remove(device)


async def _serve_until_killed(home: str, network: str, runsc: str, root: str) -> None:
    machine = Machine(Path(home), IPv4Network(network), Path(runsc), Path(root))
    await machine.node.open()
    build = await machine.build()
    await machine.start(build, "i1")
    await machine.start(build, "i2", allow_internet=False)
    await machine.node.warm([(build, RESOURCES, 1)])
    await until(lambda: machine.node.warm_count() == 1)
    print(json.dumps(dict(machine.node.running())), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve_until_killed(*sys.argv[1:]))
