"""What a driver of containers does for the node.

A container's life: ``create`` makes a **blank**, a container with all its kernel resources but no process
in it. Into a blank goes either ``start`` (pid 1 from nothing) or ``restore`` (the processes of a
checkpoint). It then runs; ``freeze`` stops its vCPUs in place and ``thaw`` lets them go on. ``checkpoint``
writes its memory and files to three files, after which it goes on or is gone. ``wait`` returns when it
ended by itself, ``destroy`` ends it in any state.

A template's build:   create → start → (commands through envd) → checkpoint(keep_running=False) → destroy.
A warm sandbox:       create → restore → freeze … thaw → … → destroy.

Conformance: `runtime/tests/test_conformance.py`, run against every driver.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Protocol

from atolld.model.errors import HostError
from atolld.model.sandbox import Resources

CHECKPOINT_FILES = ("checkpoint.img", "pages_meta.img", "pages.img")
"""The files of a checkpoint, in the order the runtime hands them on."""
LAYER_FILES = ("fscheckpoint.pb", "multitar.img", "pages_meta.img", "pages.img")
"""Those of a writable layer alone."""


@dataclass(frozen=True, slots=True)
class Link:
    """The container's one network interface and the way out of it."""

    interface: str
    address: IPv4Interface
    gateway: str
    mac: bytes
    gateway_mac: bytes
    mtu: int
    namespace_path: str
    """The network namespace the container is made in."""
    open_packet_socket: Callable[[], int]
    """A new AF_PACKET socket bound to the interface, as a descriptor the caller closes; it carries all
    frames."""


NO_LINK = Link("", IPv4Interface("0.0.0.0/32"), "", b"", b"", 0, "", lambda: -1)
"""For a container that is only described, or has no network of ours."""


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """All a driver must know to make a container. ``name`` is unique on the machine while it lives."""

    name: str
    directory: Path
    """The container's own files on the host: its configuration, its log, its writable layer."""
    root_image: Path
    """EROFS image, shared read-only. A checkpoint needs one of the same file name, wherever it lies."""
    resources: Resources
    link: Link
    cgroup_path: str
    """Absolute path below each hierarchy's mount point; exists, with limits set."""
    args: tuple[str, ...]
    entering: tuple[str, ...] = ()
    """What a command begins with that is to run in that group."""
    hostname: str = "atoll"
    envs: Mapping[str, str] = field(default_factory=dict[str, str])
    layer: Path | None = None
    """Directory of what its writable layer holds from the beginning, as :meth:`Runtime.save_layer` wrote it;
    for a blank that is started, not restored."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """A restore maps the pages of its checkpoint copy-on-write, so that all restores of it share them."""

    pages_id: str
    """A hash of the checkpoint's ``pages.img``, which the caller has checked; neither it nor a base may
    change or shrink while the container lives. Empty: these pages are loaded, only ``bases`` are shared."""
    bases: Mapping[str, Path] = field(default_factory=dict[str, Path])
    """Hash → pages file, for every file beside its own that a checkpoint by delta refers to, in order."""


class CheckpointUnusable(HostError):
    """The checkpoint was taken of another kind of container: other mounts, rights or arguments of pid 1."""


class Runtime(Protocol):
    """Every method raises :class:`~atolld.model.errors.HostError` when the machine could not do it."""

    async def sha256(self) -> str:
        """Hash of what runs containers; checkpoints are restored by the same one only."""
        ...

    async def patch_level(self) -> str:
        """Names the changes of ours in what runs containers; empty when it has none: it cannot share."""
        ...

    async def cpu_features(self) -> frozenset[str]:
        """The features of this machine's processor that a checkpoint taken here may depend on."""
        ...

    async def create(self, spec: ContainerSpec) -> None:
        """Makes a blank. After a failure nothing of it is left."""
        ...

    async def start(self, spec: ContainerSpec) -> None:
        """Starts ``spec.args`` as pid 1 of the blank ``spec.name``."""
        ...

    async def restore(self, spec: ContainerSpec, directory: Path, sharing: Sharing | None = None) -> None:
        """Puts the checkpoint in ``directory`` into the blank ``spec.name``; its pages may load afterwards.

        Where sharing is not possible, it is passed over, unless the checkpoint is a delta.

        Raises :class:`CheckpointUnusable` when it does not fit the blank.
        """
        ...

    async def checkpoint(
        self, name: str, directory: Path, *, keep_running: bool, delta: bool = False
    ) -> None:
        """Writes :data:`CHECKPOINT_FILES` into the existing, empty ``directory``; flushing them is the
        caller's. A frozen one stays frozen.

        ``delta``: without the pages it shares and has not changed. Otherwise the checkpoint stands alone, and
        the container, if it goes on, shares no pages any more."""
        ...

    async def save_layer(self, name: str, directory: Path) -> None:
        """Writes :data:`LAYER_FILES` into the existing, empty ``directory``: all that the writable layer
        holds but its sockets, and nothing of the memory. Flushing is the caller's. It stands still meanwhile;
        a frozen one stays frozen."""
        ...

    async def measure(self, name: str) -> int:
        """Bytes that a checkpoint takes on disk at most: the memory and the files it has written."""
        ...

    async def freeze(self, name: str) -> None: ...

    async def thaw(self, name: str) -> None: ...

    async def wait(self, name: str) -> str:
        """Returns when the container is gone; the text is what it last said, for the log, maybe empty."""
        ...

    async def destroy(self, name: str) -> None:
        """Ends it, whatever its state; when it returns no process and no state of it is left. Idempotent."""
        ...

    async def list(self) -> frozenset[str]:
        """Names of the containers that have a living process, also those of a server that died."""
        ...
