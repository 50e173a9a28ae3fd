"""The baselines of `./atoll bench`: what this machine does without us, with runsc's own commands.

A bare ``runsc restore`` of a template's or a snapshot's image: no slot, no pool, no limits, one network made
by hand; until the command returns, and until the daemon inside answers. A bare ``runsc checkpoint`` of what
was restored, and ``dd`` of as many bytes with fsync into the state directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from atolld.config import Config
from atolld.control.templates import Templates
from atolld.daemon.parts import build_guest, runsc_binary
from atolld.model.errors import HostError
from atolld.model.team import LOCAL_TEAM, LOCAL_TEAM_NAME
from atolld.model.template import Build
from atolld.node.runtime.bundle import HOST_DIRECTORY, build_config, runsc_flags
from atolld.node.runtime.protocol import NO_LINK, ContainerSpec
from atolld.store import Store

_TIMEOUT = 60.0
_NAME = "bare"
_NAMESPACE = "atoll-bench"
_HOST_END, _GUEST_END = "atollbench", "eth0"
_HOST_ADDRESS, _GUEST_ADDRESS = "198.51.100.1", "198.51.100.2"
"""Of a range that is kept for documentation (RFC 5737)."""


@dataclass(slots=True)
class Baselines:
    """Milliseconds each, and the bytes that ``dd`` wrote: as many as the snapshot has."""

    restore_ms: list[float] = field(default_factory=list[float])
    answers_ms: list[float] = field(default_factory=list[float])
    checkpoint_ms: list[float] = field(default_factory=list[float])
    dd_ms: list[float] = field(default_factory=list[float])
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class BareSandbox:
    binary: Path
    build: Build
    args: tuple[str, ...]
    port: int

    def measure(self, into: Baselines) -> None:
        with (
            tempfile.TemporaryDirectory(prefix="atoll-bench-") as name,
            _network(),
            self._restored(Path(name), into) as runsc,
        ):
            image = Path(name) / "image"
            image.mkdir()
            into.checkpoint_ms.append(_measure_ms(lambda: self._checkpoint(runsc, image)))

    @contextlib.contextmanager
    def _restored(self, directory: Path, into: Baselines) -> Generator[Callable[..., None]]:
        """A function that runs a runsc command on the restored sandbox."""
        flags = runsc_flags(str(directory / "runsc"), self._prepare(directory))

        def runsc(*arguments: str) -> None:
            log = directory / "command.log"
            _run([str(self.binary), *flags, *arguments], log, cwd=self.build.root_path.parent)

        image = f"--image-path={self.build.snapshot_path}"
        begin = time.perf_counter()
        try:
            runsc("restore", f"--bundle={directory}", "--detach", "--background", image, _NAME)
            into.restore_ms.append((time.perf_counter() - begin) * 1000)
            self._wait_answer()
            into.answers_ms.append((time.perf_counter() - begin) * 1000)
            yield runsc
        finally:
            runsc("delete", "--force", _NAME)

    def _checkpoint(self, runsc: Callable[..., None], image: Path) -> None:
        options = ["--leave-running", "--compression=none", "--exclude-committed-zero-pages"]
        runsc("checkpoint", *options, f"--image-path={image}", _NAME)

    def _wait_answer(self) -> None:
        until = time.monotonic() + _TIMEOUT
        while True:
            connection = http.client.HTTPConnection(_GUEST_ADDRESS, self.port, timeout=1)
            with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
                connection.request("GET", "/health")
                if connection.getresponse().status < 300:
                    return
            if time.monotonic() > until:
                raise HostError("the daemon of a bare restored sandbox does not answer")
            time.sleep(0.001)  # nothing announces that it listens

    def _prepare(self, directory: Path) -> ContainerSpec:
        spec = ContainerSpec(
            name=_NAME,
            directory=directory,
            root_image=self.build.root_path.resolve(),
            resources=self.build.manifest.resources,
            link=NO_LINK,
            cgroup_path="",
            args=self.args,
        )
        gofer = not self.build.manifest.runsc_patch_level
        config = json.loads(json.dumps(build_config(spec, gofer=gofer)))
        network = {"type": "network", "path": f"/var/run/netns/{_NAMESPACE}"}
        config["linux"]["namespaces"] = [
            *({"type": kind} for kind in ("pid", "ipc", "uts", "mount")),
            network,
        ]
        del config["linux"]["cgroupsPath"], config["linux"]["resources"]
        (directory / HOST_DIRECTORY).mkdir()
        (directory / "config.json").write_text(json.dumps(config))
        return spec


@contextlib.contextmanager
def _network() -> Generator[None]:
    """A namespace with one link to here, as anybody would make it."""
    _drop_network()  # of a measurement that was killed
    taken = _run(["ip", "-4", "route", "show", "to", "match", _HOST_ADDRESS]).splitlines()
    if any(not line.startswith("default") for line in taken):
        raise HostError(f"the address {_HOST_ADDRESS}, for the baseline's sandbox, is in use: {taken[-1]}")
    _run(["ip", "netns", "add", _NAMESPACE])
    inside = ["ip", "-n", _NAMESPACE]
    try:
        peer = ["peer", "name", _GUEST_END, "netns", _NAMESPACE]
        _run(["ip", "link", "add", _HOST_END, "type", "veth", *peer])
        _run(["ip", "addr", "add", f"{_HOST_ADDRESS}/30", "dev", _HOST_END])
        _run(["ip", "link", "set", _HOST_END, "up"])
        _run([*inside, "addr", "add", f"{_GUEST_ADDRESS}/30", "dev", _GUEST_END])
        for link in ("lo", _GUEST_END):
            _run([*inside, "link", "set", link, "up"])
        _run([*inside, "route", "add", "default", "via", _HOST_ADDRESS])
        yield
    finally:
        _drop_network()


def _drop_network() -> None:
    """The link first: the kernel takes its time with one whose namespace is gone."""
    for command in (["link", "delete", _HOST_END], ["netns", "delete", _NAMESPACE]):
        with contextlib.suppress(HostError):
            _run(["ip", *command])


def _run(command: list[str], log: Path | None = None, cwd: Path | None = None) -> str:
    """What the command printed. It goes to a file: a detached sandbox would keep a pipe open. It reads from
    one, too: runsc gives what it has for stdio to the user ``nobody``."""
    with (
        tempfile.TemporaryFile() if log is None else log.open("a+b") as output,
        tempfile.TemporaryFile() as nothing,
    ):
        try:
            done = subprocess.run(
                command,
                stdin=nothing,
                stdout=output,
                stderr=output,
                cwd=cwd,
                timeout=_TIMEOUT,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise HostError(f"{command[0]} cannot be used for a baseline: {error}") from error
        output.seek(0)
        said = output.read()[-4000:].decode("utf-8", "replace").strip()
        if done.returncode != 0:
            raise HostError(f"{command[0]} failed ({done.returncode}): {said}")
        return said


def _measure_ms(act: Callable[[], None]) -> float:
    begin = time.perf_counter()
    act()
    return (time.perf_counter() - begin) * 1000


def _write_synced(directory: Path, size: int) -> None:
    target = directory / "bench.tmp"
    blocks = max(1, size >> 20)
    try:
        _run(["dd", "if=/dev/zero", f"of={target}", "bs=1M", f"count={blocks}", "conv=fsync"])
    finally:
        target.unlink(missing_ok=True)


async def find_build(config: Config, template: str) -> Build:
    """``template``: or a snapshot's name. Raises ``NotFound``."""
    store = await Store.open(config.home / "atoll.db")
    try:
        team = await store.teams.ensure(LOCAL_TEAM, LOCAL_TEAM_NAME, datetime.now(UTC))
        return (await Templates(store, config.home).resolve(team, template)).build
    finally:
        await store.close()


def bench_restore(config: Config, template: str, n: int) -> Baselines:
    """``template``: or a snapshot's name. Raises ``HostError`` when a baseline cannot be measured,
    ``NotFound`` for an unknown template."""
    build = asyncio.run(find_build(config, template))
    if build.manifest.bases:
        raise HostError(
            f"{template} holds only the pages that differ from its bases, which bare runsc cannot restore;"
            " measure with a server started with ATOLL_SHARED_PAGES=off"
        )
    guest = build_guest(config)
    bare = BareSandbox(runsc_binary(config).resolve(), build, guest.command, guest.port)
    measured = Baselines(bytes=sum(stored.size for stored in build.manifest.snapshot.values()))
    for _ in range(n):
        bare.measure(measured)
        measured.dd_ms.append(_measure_ms(lambda: _write_synced(config.home, measured.bytes)))
    return measured
