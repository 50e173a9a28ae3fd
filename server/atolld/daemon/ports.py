"""Who has a TCP port, so that the error can say it."""

from __future__ import annotations

import os
from pathlib import Path

from atolld.model.errors import HostError
from atolld.proxy.listen import open_listeners

_LISTENING = "0A"
_STATE, _INODE = 3, 9


def check_port(host: str, port: int) -> None:
    """Raises :class:`HostError` when the server could not listen there."""
    try:
        listeners = open_listeners(host, port)
    except OSError as error:
        raise port_error(host, port, error) from error
    for listener in listeners:
        listener.close()


def port_error(host: str, port: int, error: OSError) -> HostError:
    holder = find_listener(port)
    who = f" by {holder}" if holder else ""
    why = f"it is in use{who}" if holder else str(error.strerror or error)
    return HostError(
        f"the server cannot listen on {host}:{port}: {why}. Stop that, or choose another with ATOLL_PORT"
    )


def find_listener(port: int) -> str | None:
    """``name (process pid)`` of a process that listens on ``port``; ``None`` when none is found."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not sockets:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        if sockets & _open_links(process):
            return f"{_name(process)} (process {process.name})"
    return "another process"


def _listening_inodes(port: int) -> set[str]:
    found: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[_STATE] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(fields[_INODE])
    return found


def _open_links(process: Path) -> set[str]:
    links: set[str] = set()
    try:
        for descriptor in os.scandir(process / "fd"):
            links.add(os.readlink(descriptor.path))
    except OSError:
        pass  # it ended, or is not ours to look into
    return links


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "a process"
