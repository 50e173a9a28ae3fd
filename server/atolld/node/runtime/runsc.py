"""The driver of gVisor's runsc.

Only ``create`` is a runsc command; everything after it goes over the container's control socket, which is
faster by a command's start each time, and a container is ended by ending its processes: it has no mounts,
and its cgroup is the slot's. What pid 1 prints is kept for its last words, see `words`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import re
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

from atolld.model.errors import HostError
from atolld.node.runtime.bundle import HOST_DIRECTORY, build_config, network_args, runsc_flags
from atolld.node.runtime.control_socket import call
from atolld.node.runtime.processes import kill_and_wait, sum_unlinked_files, wait_ended
from atolld.node.runtime.protocol import (
    CHECKPOINT_FILES,
    LAYER_FILES,
    CheckpointUnusable,
    ContainerSpec,
    Sharing,
)
from atolld.node.runtime.state_files import (
    Container,
    read_container,
    read_containers,
    remove_files,
    socket_path,
)
from atolld.node.runtime.words import Words, nothing
from atolld.node.verify import hash_file

_COMMAND_TIMEOUT = 60.0
_STATE_SIZE = 16 << 20
"""More than a checkpoint takes beside the pages, bytes."""
_LOG = "runsc.log"
_PATCH_LEVEL = re.compile(r"\+atoll\.([0-9a-f]+)")
"""In what a runsc of ours says of its version."""
_COPY_UNIT = 8 << 10
"""Bytes of shared pages that a write copies at least. Between memory and speed: with 8, 16 and 32 KiB a first
`1+1` of a cold sandbox takes 8.5, 11.6 and 18.8 MiB, its first pandas group-by some 148, 136 and 134 ms."""
_COPY_MOST = 128 << 10
"""The same next to copied ones."""
_MOST_UNITS = 16384
"""Of one container's memory: each may be a mapping of its own, and a process on the host has 65530."""
_HIGH = 511
_MISMATCH = "restore spec validation"
_MAX_SOCKET_PATH = 108
_PANIC_LOG = "panic.log"


class RunscRuntime:
    """``binary`` is the pinned runsc, ``root`` the directory it keeps its state in."""

    def __init__(self, binary: Path, root: Path) -> None:
        self._binary = binary
        self._root = root
        self._sha256: str | None = None
        self._cpu_features: frozenset[str] | None = None
        self._patch_level: str | None = None
        self._containers: dict[str, Container] = {}
        self._words = Words()

    async def sha256(self) -> str:
        if self._sha256 is None:
            try:
                self._sha256 = await asyncio.to_thread(hash_file, self._binary)
            except OSError as error:
                raise HostError(f"runsc cannot be read ({error}); run `./atoll setup`") from error
        return self._sha256

    async def patch_level(self) -> str:
        if self._patch_level is None:
            match = _PATCH_LEVEL.search(await self._run(["--version"]))
            self._patch_level = str(match[1]) if match else ""
        return self._patch_level

    async def cpu_features(self) -> frozenset[str]:
        if self._cpu_features is None:
            printed = await self._run(["cpu-features"])
            self._cpu_features = frozenset(printed.replace(",", " ").split())
        return self._cpu_features

    async def create(self, spec: ContainerSpec) -> None:
        self._check_socket_path(spec.name)
        gofer = not await self.patch_level()
        await asyncio.to_thread(self._write_bundle, spec, gofer)
        flags = runsc_flags(str(self._root), spec)
        layer = [] if spec.layer is None else [f"--fs-restore-image-path={spec.layer}"]
        try:
            with nothing() as stdin, _high_descriptor() as high:
                await self._run(
                    [*flags, "create", *layer, f"--bundle={spec.directory}", spec.name],
                    spec.directory / _LOG,
                    entering=spec.entering,
                    directory=spec.root_image.parent,
                    inherits=(stdin, self._words.open(spec.name), high),
                )
            if await self._find(spec.name) is None:
                raise HostError(f"the sandbox ended at once: {_tail(spec.directory / _PANIC_LOG).strip()}")
        except BaseException:
            await asyncio.shield(self.destroy(spec.name))
            raise

    async def start(self, spec: ContainerSpec) -> None:
        await self._connect_network(spec, restore=False)
        await self._call(spec.name, "StartRoot", spec.name)

    async def restore(self, spec: ContainerSpec, directory: Path, sharing: Sharing | None = None) -> None:
        if sharing is not None and not await self.patch_level():
            if sharing.bases:
                raise HostError("this runsc cannot restore a delta: run `./atoll setup` without one on PATH")
            sharing = None
        await self._connect_network(spec, restore=True)
        bases: Mapping[str, Path] = {} if sharing is None else sharing.bases
        paths = [*(directory / name for name in CHECKPOINT_FILES), *bases.values()]
        with _open_files(paths, os.O_RDONLY) as files:
            options = {"HavePagesFile": True, "Background": True}
            if sharing is not None:
                unit = copy_unit(sum(os.fstat(file).st_size for file in files))
                options |= {
                    "ShareID": sharing.pages_id,
                    "BaseIDs": list(bases),
                    "CowUnit": unit,
                    "CowMax": max(unit, _COPY_MOST),
                }
            try:
                await self._call(spec.name, "Restore", options, files)
            except HostError as error:
                if _MISMATCH in error.message:
                    raise CheckpointUnusable(error.message) from error
                raise

    async def checkpoint(
        self, name: str, directory: Path, *, keep_running: bool, delta: bool = False
    ) -> None:
        options = {
            "metadata": {"compression": "none"},  # what a restore in the background needs
            "have_pages_file": True,
            "app_mf_exclude_committed_zero_pages": True,
            "Resume": keep_running,
            "FlattenBase": not delta,  # a runsc without our changes knows no such thing, and passes over it
        }
        paths = [directory / name for name in CHECKPOINT_FILES]
        with _open_files(paths, os.O_RDWR | os.O_CREAT | os.O_EXCL) as files:
            await self._call(name, "Checkpoint", options, files, timeout=600)

    async def save_layer(self, name: str, directory: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        with _open_files([directory / name for name in LAYER_FILES], flags) as files:
            await self._call(name, "FSSave", {"paths": [{"path": "/"}]}, files, timeout=600)

    async def measure(self, name: str) -> int:
        container = await self._find(name)
        if container is None:
            raise HostError(f"the container {name} is gone")
        return await asyncio.to_thread(sum_unlinked_files, container.pids[0]) + _STATE_SIZE

    async def freeze(self, name: str) -> None:
        # The sentry's own pause. The cgroup freezer would corrupt systrap's memory at the thaw.
        await self._call(name, "Pause", {})

    async def thaw(self, name: str) -> None:
        await self._call(name, "Resume", {})

    async def wait(self, name: str) -> str:
        container = await self._find(name)
        if container is None:
            return ""
        await wait_ended(container.pids[0])
        panic = await asyncio.to_thread(_tail, container.directory / _PANIC_LOG)
        return panic or self._words.read(name)

    async def destroy(self, name: str) -> None:
        container = await self._find(name)
        if container is not None:
            for pid in container.pids:
                await kill_and_wait(pid)
        self._containers.pop(name, None)
        self._words.close(name)
        await asyncio.to_thread(remove_files, self._root, name)

    async def list(self) -> frozenset[str]:
        self._containers = await asyncio.to_thread(read_containers, self._root)
        for name, container in self._containers.items():
            await asyncio.to_thread(self._words.find, name, container.pids[0])
        return frozenset(self._containers)

    # -- the control socket --------------------------------------------------------------------------------

    async def _connect_network(self, spec: ContainerSpec, *, restore: bool) -> None:
        # Not in a pool's thread, though it takes half a millisecond: a cancelled wait would lose it.
        descriptor = spec.link.open_packet_socket()
        try:
            arguments = network_args(spec.link, restore=restore)
            await self._call(spec.name, "SetNetworkArgs", arguments, [descriptor])
        finally:
            os.close(descriptor)

    async def _call(
        self, name: str, method: str, arg: object, files: Sequence[int] = (), timeout: float = 60.0
    ) -> object:
        return await call(socket_path(self._root, name), f"containerManager.{method}", arg, files, timeout)

    # -- the commands --------------------------------------------------------------------------------------

    async def _run(
        self,
        arguments: Sequence[str],
        log: Path | None = None,
        entering: Sequence[str] = (),
        directory: Path | None = None,
        inherits: tuple[int, int, int] | None = None,
    ) -> str:
        """Runs runsc to its end; what it printed. Killed on cancellation and when it takes too long.

        ``inherits``: what a container that is made reads from, what it writes to, and a high descriptor. No
        pipes, which it would keep open, and not /dev/null: runsc gives these files to the user ``nobody``.
        """
        stdin, output, *more = inherits or (asyncio.subprocess.DEVNULL, None)
        try:
            process = await asyncio.create_subprocess_exec(
                *entering,
                self._binary,
                *arguments,
                stdin=stdin,
                stdout=asyncio.subprocess.PIPE if output is None else output,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=more,
                cwd=directory,
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
        if len(os.fsencode(socket_path(self._root, name))) >= _MAX_SOCKET_PATH:
            raise HostError(f"the path {self._root} is too long; set ATOLL_HOME to a shorter one")

    def _write_bundle(self, spec: ContainerSpec, gofer: bool) -> None:
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        (spec.directory / HOST_DIRECTORY).mkdir(exist_ok=True)
        (spec.directory / "config.json").write_text(json.dumps(build_config(spec, gofer=gofer)))

    # -- what runs -----------------------------------------------------------------------------------------

    async def _find(self, name: str) -> Container | None:
        if name not in self._containers:
            container = await asyncio.to_thread(read_container, self._root, name)
            if container is None:
                return None
            self._containers[name] = container
            await asyncio.to_thread(self._words.find, name, container.pids[0])
        return self._containers[name]


def copy_unit(size: int) -> int:
    """How many bytes a write copies where ``size`` bytes of pages are shared; a power of 2."""
    unit = _COPY_UNIT
    while unit * _MOST_UNITS < size:
        unit *= 2
    return unit


@contextlib.contextmanager
def _high_descriptor() -> Generator[int]:
    """Makes runsc's table of descriptors a large one from the beginning, and those of what it starts.
    They use numbers above 256, and a table that grows makes a process with threads wait until all processors
    have passed a quiet state, some 10 ms. runsc closes it before a sandbox runs.
    """
    with open(os.devnull, "rb", buffering=0) as file:
        high = fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, _HIGH)
    try:
        yield high
    finally:
        os.close(high)


@contextlib.contextmanager
def _open_files(paths: Sequence[Path], flags: int) -> Generator[list[int]]:
    """A checkpoint's files, in order; new ones can be opened for writing only once. Raises
    :class:`HostError` when one cannot be opened."""
    files: list[int] = []
    try:
        for path in paths:
            files.append(os.open(path, flags | os.O_CLOEXEC, 0o400))  # noqa: PERF401 (closed below)
        yield files
    except OSError as error:
        raise HostError(f"a snapshot file cannot be opened: {error}") from error
    finally:
        for descriptor in files:
            os.close(descriptor)


def _tail(path: Path, size: int = 2000) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - size))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
