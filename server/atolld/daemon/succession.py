"""A running server hands over to a new one: no connection is refused, no stream is cut.

1. The new server connects to ``run/successor.sock`` and says which URL it will serve.
2. The old one lets go of everything that may have one owner only: the API ends with the requests it has, the
   pool, the watches, the deadlines, the store, the lock. It stops accepting, and new requests on connections
   that are open already it sends on to the port.
3. It sends its estate, and keeps a copy: its listening sockets and the handles of its Caddy (SCM_RIGHTS).
   Whoever connects meanwhile waits in the sockets' queue; connections of https go on as if nothing happened.
4. The new server starts as after any stop: lock, store, adoption of the sandboxes, API, https. It accepts,
   and says that it serves.
5. The old one ends when its last stream has; the new one tells it of sandboxes that ended, whose streams it
   cuts. Should the new one end first, so does the old.

A new server that has not said so in time, or ends before, is ended, and the old one goes on with its estate:
as its own successor, by 4 and 5.

Messages are lines of JSON: ``{"url"}`` →, ← ``{"door": how many descriptors, "tls": how many}`` or
``{"error"}``, then → ``{"alive": [ids]}`` when it serves and ``{"gone": id}`` for each end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import structlog

from atolld.config import Config
from atolld.daemon.lock import end_process, find_holder, has_ended
from atolld.model.errors import HostError
from atolld.model.routes import Routes
from atolld.model.sandbox import SandboxId

_log = structlog.get_logger(__name__)

PATIENCE = 60.0
"""Seconds a new server waits for the old one to let go, and an old one until the new one serves."""
_MAX_SOCKETS = 16
_LAST_SECONDS = 5.0
"""For a new server that failed, until it is killed."""


@dataclass(frozen=True, slots=True)
class Estate:
    """What clients are connected to, whichever server is behind it."""

    door: Sequence[socket.socket] = ()
    """The listening sockets."""
    tls: Sequence[int] = ()
    """The handles of Caddy."""

    def close(self) -> None:
        for each in self.door:
            each.close()
        for descriptor in self.tls:
            os.close(descriptor)


class Elder(Protocol):
    """An earlier server that still has streams."""

    def keep_informed(self, routes: Routes) -> None:
        """Tells it which sandboxes live, and of every one that ends."""
        ...

    async def wait_end(self) -> None:
        """Until its last stream has ended."""
        ...


def socket_path(home: Path) -> Path:
    return home / "run" / "successor.sock"


# --- the old server's side


class Successor:
    """The new server, as the old one sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._process = _open_peer(writer.get_extra_info("socket"))

    async def give(self, estate: Estate, routes: Routes) -> bool:
        """From now on it owns this machine's sandboxes; ``False`` when it does not come to serve them."""
        descriptors = [*(each.fileno() for each in estate.door), *estate.tls]
        line = json.dumps({"door": len(estate.door), "tls": len(estate.tls)}).encode() + b"\n"
        connection = self._writer.get_extra_info("socket")
        try:
            with socket.socket(fileno=os.dup(connection.fileno())) as raw:
                socket.send_fds(raw, [line], descriptors)
            async with asyncio.timeout(PATIENCE):
                return await self._hear(routes)
        except OSError:  # a TimeoutError too
            return False

    async def follow(self, routes: Routes) -> None:
        """Withdraws the routes of sandboxes that it says have ended. Returns when it has ended itself."""
        while await self._hear(routes):
            pass

    async def end(self) -> None:
        """Returns when its process is gone."""
        if not await asyncio.to_thread(has_ended, self._process, _LAST_SECONDS):
            await asyncio.to_thread(end_process, self._process, _LAST_SECONDS)

    def close(self) -> None:
        self._writer.close()
        os.close(self._process)

    async def _hear(self, routes: Routes) -> bool:
        message = await _read(self._reader)
        if message is None:
            return False
        if "alive" in message:
            withdraw_all_but(message["alive"], routes)
        else:
            routes.withdraw(SandboxId(message["gone"]))
        return True


def withdraw_all_but(alive: Collection[str], routes: Routes) -> None:
    for sandbox_id in set(routes) - set(alive):
        routes.withdraw(sandbox_id)


def _open_peer(connection: socket.socket) -> int:
    """The pidfd of the process at the other end. Raises ``OSError`` when it is gone."""
    size = struct.calcsize("3i")
    pid: int = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[0]
    return os.pidfd_open(pid)


class Succession:
    """Where a successor asks for the machine."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._asked: asyncio.Future[Successor] = asyncio.get_running_loop().create_future()

    async def wait(self) -> Successor:
        """The first that may have it."""
        return await asyncio.shield(self._asked)

    async def asked(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello = await _read(reader)
        refusal = _refusal(hello, self._url, taken=self._asked.done())
        if refusal is None:
            with contextlib.suppress(OSError):
                self._asked.set_result(Successor(reader, writer))
                return
            refusal = "you are gone"
        writer.write(json.dumps({"error": refusal}).encode() + b"\n")
        writer.close()


def _refusal(hello: dict[str, Any] | None, url: str, *, taken: bool) -> str | None:
    if hello is None:
        return "nothing was asked"
    if taken:
        return "another server is taking over already: wait for it"
    if hello.get("url") != url:
        return (
            f"the running server is {url}, the new one would be {hello.get('url')}: give both one ATOLL_PORT"
        )
    return None


@contextlib.asynccontextmanager
async def open_succession(config: Config) -> AsyncGenerator[Succession]:
    """Whoever calls holds the machine."""
    path = socket_path(config.home)
    succession = Succession(config.url)
    path.unlink(missing_ok=True)  # of a server that was killed
    before = os.umask(0o177)
    try:
        server = await asyncio.start_unix_server(succession.asked, path)
    finally:
        os.umask(before)
    try:
        yield succession
    finally:
        server.close()


async def _read(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """The next message; ``None`` when the other side is gone."""
    try:
        line = await reader.readline()
        return json.loads(line) if line.endswith(b"\n") else None
    except (OSError, ValueError):
        return None


# --- the new server's side


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The old server, as the new one sees it: what it gave, and its connection."""

    connection: socket.socket
    estate: Estate

    def keep_informed(self, routes: Routes) -> None:
        self._tell({"alive": list(routes)})
        routes.watch(lambda sandbox_id: self._tell({"gone": sandbox_id}))

    def _tell(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # it has ended
            self.connection.sendall(json.dumps(message).encode() + b"\n")

    async def wait_end(self) -> None:
        self.connection.setblocking(False)
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().sock_recv(self.connection, 1)


def take_over(config: Config) -> Predecessor | None:
    """Asks the running server for the machine and waits until it lets go; ``None`` when none runs. Raises
    :class:`HostError` when it does not."""
    holder = find_holder(config.home)
    if holder is None or holder.role != "server":
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(PATIENCE)
    try:
        connection.connect(str(socket_path(config.home)))
        connection.sendall(json.dumps({"url": config.url}).encode() + b"\n")
        line, descriptors, _, _ = socket.recv_fds(connection, 65536, _MAX_SOCKETS)
    except OSError as error:
        connection.close()
        raise HostError(
            f"the running server (process {holder.pid}) does not hand over ({error}): stop it first"
        ) from error
    message: dict[str, Any] = json.loads(line or b'{"error": "it ended"}')
    if "error" in message:
        connection.close()
        raise HostError(f"the running server does not hand over: {message['error']}")
    door = [socket.socket(fileno=descriptor) for descriptor in descriptors[: message["door"]]]
    tls = descriptors[message["door"] :]
    for each in door:
        each.setblocking(False)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    _log.info("daemon.server.taken_over", predecessor=holder.pid)
    return Predecessor(connection, Estate(door, tls))
