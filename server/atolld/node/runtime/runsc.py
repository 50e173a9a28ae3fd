"""The driver of gVisor's runsc.

``create`` and ``delete`` are runsc commands; everything between goes over the container's control socket,
which is faster by a command's start each time. runsc's own state file goes on saying "created": nobody
reads it but ``delete --force``, which does not mind. Stdio is /dev/null: runsc keeps pipes open for the
container's life and a guest could fill a file.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from atolld.model.errors import HostError
from atolld.node.runtime.bundle import HOST_DIRECTORY, build_config, network_args, runsc_flags
from atolld.node.runtime.control_socket import call
from atolld.node.runtime.processes import command_line, kill_and_wait, wait_ended
from atolld.node.runtime.protocol import CHECKPOINT_FILES, CheckpointUnusable, ContainerSpec
from atolld.node.verify import hash_file

_COMMAND_TIMEOUT = 60.0
_STATE_SUFFIX = ".state"
_PID_FILE = "pid"
_MISMATCH = "restore spec validation"
_MAX_SOCKET_PATH = 108
_PANIC_LOG = "panic.log"


@dataclass(frozen=True, slots=True)
class _Container:
    pid: int
    directory: Path


class RunscRuntime:
    """``binary`` is the pinned runsc, ``root`` the directory it keeps its state in."""

    def __init__(self, binary: Path, root: Path) -> None:
        self._binary = binary
        self._root = root
        self._sha256: str | None = None
        self._cpu_features: frozenset[str] | None = None
        self._containers: dict[str, _Container] = {}

    async def sha256(self) -> str:
        if self._sha256 is None:
            try:
                self._sha256 = await asyncio.to_thread(hash_file, self._binary)
            except OSError as error:
                raise HostError(f"runsc cannot be read ({error}); run `./atoll setup`") from error
        return self._sha256

    async def cpu_features(self) -> frozenset[str]:
        if self._cpu_features is None:
            printed = await self._run(["cpu-features"])
            self._cpu_features = frozenset(printed.replace(",", " ").split())
        return self._cpu_features

    async def create(self, spec: ContainerSpec) -> None:
        directory = spec.directory
        self._check_socket_path(spec.name)
        await asyncio.to_thread(self._write_bundle, spec)
        pid_file = directory / _PID_FILE
        arguments = ["create", f"--bundle={directory}", f"--pid-file={pid_file}", spec.name]
        try:
            await self._run([*runsc_flags(str(self._root), spec), *arguments], log=directory / "runsc.log")
            self._containers[spec.name] = _Container(int(pid_file.read_text()), directory)
        except BaseException:
            await asyncio.shield(self.destroy(spec.name))
            raise

    async def start(self, spec: ContainerSpec) -> None:
        await self._connect_network(spec, restore=False)
        await self._call(spec.name, "StartRoot", spec.name)

    async def restore(self, spec: ContainerSpec, directory: Path) -> None:
        await self._connect_network(spec, restore=True)
        with _open_files(directory, os.O_RDONLY) as files:
            try:
                await self._call(spec.name, "Restore", {"HavePagesFile": True, "Background": True}, files)
            except HostError as error:
                if _MISMATCH in error.message:
                    raise CheckpointUnusable(error.message) from error
                raise

    async def checkpoint(self, name: str, directory: Path, *, keep_running: bool) -> None:
        options = {
            "metadata": {"compression": "none"},  # what a restore in the background needs
            "have_pages_file": True,
            "app_mf_exclude_committed_zero_pages": True,
            "Resume": keep_running,
        }
        with _open_files(directory, os.O_RDWR | os.O_CREAT | os.O_EXCL) as files:
            await self._call(name, "Checkpoint", options, files, timeout=600)
            await asyncio.to_thread(_flush, [*files], directory)

    async def freeze(self, name: str) -> None:
        # The sentry's own pause. The cgroup freezer would corrupt systrap's memory at the thaw.
        await self._call(name, "Pause", {})

    async def thaw(self, name: str) -> None:
        await self._call(name, "Resume", {})

    async def wait(self, name: str) -> str:
        container = await self._find(name)
        if container is None:
            return ""
        await wait_ended(container.pid)
        return await asyncio.to_thread(_tail, container.directory / _PANIC_LOG)

    async def destroy(self, name: str) -> None:
        container = await self._find(name)
        if container is not None:
            await kill_and_wait(container.pid)
        self._containers.pop(name, None)
        if await asyncio.to_thread(self._has_state, name):
            await self._run([*runsc_flags(str(self._root)), "delete", "--force", name])

    async def list(self) -> frozenset[str]:
        self._containers = await asyncio.to_thread(self._read_containers)
        return frozenset(self._containers)

    # -- the control socket --------------------------------------------------------------------------------

    async def _connect_network(self, spec: ContainerSpec, *, restore: bool) -> None:
        descriptor = await asyncio.to_thread(spec.link.open_packet_socket)
        try:
            arguments = network_args(spec.link, restore=restore)
            await self._call(spec.name, "SetNetworkArgs", arguments, [descriptor])
        finally:
            os.close(descriptor)

    async def _call(
        self, name: str, method: str, arg: object, files: Sequence[int] = (), timeout: float = 60.0
    ) -> object:
        return await call(self._socket_path(name), f"containerManager.{method}", arg, files, timeout)

    # -- the commands --------------------------------------------------------------------------------------

    async def _run(self, arguments: Sequence[str], log: Path | None = None) -> str:
        """Runs runsc to its end; what it printed. Killed on cancellation and when it takes too long."""
        try:
            process = await asyncio.create_subprocess_exec(
                self._binary,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                # A detached container inherits these: no pipes where one is made.
                stdout=asyncio.subprocess.PIPE if log is None else asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.STDOUT if log is None else asyncio.subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C in the server's terminal is not for it
            )
        except OSError as error:
            raise HostError(f"runsc cannot be started ({error}); run `./atoll setup`") from error
        try:
            async with asyncio.timeout(_COMMAND_TIMEOUT):
                printed, _ = await process.communicate()
        except TimeoutError:
            raise HostError(f"runsc did not end within {_COMMAND_TIMEOUT:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        text = (printed or b"").decode("utf-8", "replace")
        if process.returncode != 0:
            said = text if log is None else await asyncio.to_thread(_tail, log)
            raise HostError(f"runsc failed ({process.returncode}): {said.strip() or 'it said nothing'}")
        return text

    def _check_socket_path(self, name: str) -> None:
        """runsc silently puts the socket elsewhere when its path is too long for a unix address."""
        if len(os.fsencode(self._socket_path(name))) >= _MAX_SOCKET_PATH:
            raise HostError(f"the path {self._root} is too long; set ATOLL_HOME to a shorter one")

    def _socket_path(self, name: str) -> Path:
        return self._root / f"runsc-{name}.sock"

    def _write_bundle(self, spec: ContainerSpec) -> None:
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        (spec.directory / HOST_DIRECTORY).mkdir(exist_ok=True)
        (spec.directory / "config.json").write_text(json.dumps(build_config(spec)))

    # -- what runs -----------------------------------------------------------------------------------------

    async def _find(self, name: str) -> _Container | None:
        if name not in self._containers:
            self._containers |= await asyncio.to_thread(self._read_containers)
        return self._containers.get(name)

    def _state_files(self) -> Iterator[tuple[str, Path]]:
        """Named ``<container>_sandbox:<sandbox>.state``; a container of ours is its own sandbox."""
        with contextlib.suppress(FileNotFoundError):
            for path in self._root.iterdir():
                if path.name.endswith(_STATE_SUFFIX):
                    yield path.name.removesuffix(_STATE_SUFFIX).partition("_sandbox:")[0], path

    def _has_state(self, name: str) -> bool:
        return any(name == other for other, _ in self._state_files())

    def _read_containers(self) -> dict[str, _Container]:
        """Containers with a living process. A pid alone may be another's by now: the command names ours."""
        containers: dict[str, _Container] = {}
        for name, path in self._state_files():
            try:
                state = json.loads(path.read_text())
                container = _Container(int(state["sandbox"]["pid"]), Path(state["bundleDir"]))
            except (OSError, ValueError, TypeError, KeyError):
                continue
            arguments = command_line(container.pid)
            if name in arguments and f"--root={self._root}" in arguments:
                containers[name] = container
        return containers


@contextlib.contextmanager
def _open_files(directory: Path, flags: int) -> Generator[list[int]]:
    """The checkpoint's files, in order. Raises :class:`HostError` when one cannot be opened."""
    files: list[int] = []
    try:
        for name in CHECKPOINT_FILES:
            files.append(os.open(directory / name, flags | os.O_CLOEXEC, 0o600))  # noqa: PERF401 (closed below)
        yield files
    except OSError as error:
        raise HostError(f"a snapshot file cannot be opened: {error}") from error
    finally:
        for descriptor in files:
            os.close(descriptor)


def _flush(files: Sequence[int], directory: Path) -> None:
    for descriptor in files:
        os.fsync(descriptor)
    parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def _tail(path: Path, size: int = 2000) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - size))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
