"""The files runsc keeps of a container in its ``--root``: who runs, and what to remove.

``<name>_sandbox:<name>.state`` (JSON, `container.Container` of the pinned gVisor), ``….lock`` and the control
socket ``runsc-<name>.sock``. A container of ours is always its own sandbox.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

from atolld.node.runtime.processes import command_line

_STATE_SUFFIX = ".state"


@dataclass(frozen=True, slots=True)
class Container:
    pids: tuple[int, ...]
    """The kernel's process first, then its file server's, if it has one."""
    directory: Path


def socket_path(root: Path, name: str) -> Path:
    return root / f"runsc-{name}.sock"


def read_container(root: Path, name: str) -> Container | None:
    """``None`` unless its process lives. A pid alone may be another's by now: the command names ours."""
    try:
        state = json.loads(_state_path(root, name).read_text())
        pids = (int(state["sandbox"]["pid"]), int(state["goferPid"]))
        container = Container(tuple(pid for pid in pids if pid), Path(state["bundleDir"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None
    arguments = command_line(container.pids[0])
    return container if name in arguments and f"--root={root}" in arguments else None


def read_containers(root: Path) -> dict[str, Container]:
    """All that live."""
    names = (path.name.partition("_sandbox:")[0] for path in _list(root) if path.suffix == _STATE_SUFFIX)
    found = ((name, read_container(root, name)) for name in names)
    return {name: container for name, container in found if container is not None}


def remove_files(root: Path, name: str) -> None:
    """Of a container that has no process any more, or was never finished."""
    state = _state_path(root, name)
    for path in (state, state.with_suffix(".lock"), socket_path(root, name)):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def _state_path(root: Path, name: str) -> Path:
    return root / f"{name}_sandbox:{name}{_STATE_SUFFIX}"


def _list(root: Path) -> list[Path]:
    return list(root.iterdir()) if root.is_dir() else []
