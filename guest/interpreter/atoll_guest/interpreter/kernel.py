"""A real Jupyter kernel as a child process: start, requests, interrupt, stop, and its death.

Two connections are open: shell (requests, replies) and iopub (output); a third, control, only to interrupt
a kernel that wants a message for it. One reader task each; nothing polls. Only one request runs at a time:
`contexts` queues.
"""

import asyncio
import contextlib
import itertools
import json
import os
import secrets
import shutil
import signal
import socket
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import jupyter
from .channels import Channel, ChannelClosed
from .jupyter import Message
from .kernelspecs import KernelSpec
from .processes import Child, Children, Exit

START_SECONDS = 60.0
_CONNECT_PAUSE = 0.01
_ASK_AGAIN_SECONDS = 0.25
_INBOX = 4
"""Messages that wait in this process while a client reads slowly; each may be a megabyte of text."""
_INBOX_OF_DROPPING = 20_000
_IDLE_SECONDS = 3.0
"""After the reply, how long a kernel that drops output may be silent until its end counts as dropped."""
_DRAIN_SECONDS = 0.5
_LOG_TAIL = 2000


class KernelError(Exception):
    """A kernel did not start."""


class KernelDied(Exception):
    """The kernel's process ended while it was needed."""

    def __init__(self, exit: Exit) -> None:
        super().__init__(str(exit))
        self.exit = exit


@dataclass(frozen=True, slots=True)
class Reply:
    """The kernel's answer to a request on the shell channel."""

    message: Message


@dataclass(frozen=True, slots=True)
class Output:
    """A message on the output channel."""

    message: Message


class Running:
    """A request under way: `next` yields what belongs to it until the reply and the idle status both came.
    Of a kernel that tells all in its output the idle status is enough.
    """

    def __init__(self, kernel: "Kernel") -> None:
        self.message_id = kernel.next_message_id()
        self.accepted = False
        """The kernel has taken the code up, so an interrupt will reach it."""
        self.finished = False
        self._kernel = kernel
        self._drops = kernel.spec.drops_output
        self.displays_values = kernel.spec.displays_values
        self._queue: asyncio.Queue[Reply | Output | None] = asyncio.Queue(
            _INBOX_OF_DROPPING if self._drops else _INBOX
        )
        self._replied = kernel.spec.tells_all_in_output
        self._idle = False

    async def next(self) -> Reply | Output | None:
        """None when the request is finished. Raises KernelDied. Cancelling a wait loses nothing."""
        while not self.finished:
            try:
                async with asyncio.timeout(_IDLE_SECONDS if self._drops and self._replied else None):
                    item = await self._queue.get()
            except TimeoutError:
                self.finished = True
                break
            if item is None:
                raise await self._kernel.death()
            kind = item.message.kind
            if isinstance(item, Reply):
                self._replied = True
            elif kind == "status":
                self._idle = self._idle or item.message.content.get("execution_state") == "idle"
            else:
                self.accepted = True
            self.finished = self._replied and self._idle
            if kind != "status":
                return item
        return None

    async def finish(self) -> None:
        """Drop everything until it is finished. Raises KernelDied."""
        while await self.next() is not None:
            pass

    async def put(self, item: Reply | Output | None) -> None:
        """The readers' side; waits while `next` is behind."""
        await self._queue.put(item)

    def close(self) -> None:
        """Stop listening; the kernel keeps working."""
        self._kernel.forget(self)
        while not self._queue.empty():  # lets a reader that waits for room go on
            self._queue.get_nowait()


class Kernel:
    """Made by `start_kernel`."""

    def __init__(
        self, child: Child, folder: Path, spec: KernelSpec, connection: Mapping[str, Any], max_message: int
    ) -> None:
        self.spec = spec
        self._max_message = max_message
        self._child = child
        self._folder = folder
        self._connection = connection
        self._key = str(connection["key"]).encode()
        self._session = uuid.uuid4().hex
        self._message_numbers = itertools.count()
        self._running: Running | None = None
        self._channels: list[Channel] = []
        self._readers: list[asyncio.Task[None]] = []
        self._stopped = False

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def exit(self) -> "asyncio.Future[Exit]":
        """Done when the process has ended, however it did."""
        return self._child.exit

    @property
    def was_stopped(self) -> bool:
        """`stop` ended it, not its own doing."""
        return self._stopped

    # --- requests

    async def begin(
        self, kind: str, content: Mapping[str, Any], metadata: Mapping[str, Any] | None = None
    ) -> Running:
        """Send a request. Raises KernelDied. The caller closes the Running, on every way out."""
        running = Running(self)
        self._running = running
        if any(reader.done() for reader in self._readers):
            raise await self.death()
        try:
            await self._channels[0].send(self._frames(running.message_id, kind, content, metadata))
        except ChannelClosed:
            raise await self.death() from None
        return running

    def next_message_id(self) -> str:
        """Of no other request to this kernel."""
        return f"{self._session}-{next(self._message_numbers)}"

    def forget(self, running: Running) -> None:
        if self._running is running:
            self._running = None

    async def death(self) -> KernelDied:
        """The exception for a kernel whose connection is gone; a process that outlives it for long is
        ended.
        """
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                await asyncio.shield(self._child.exit)
        except TimeoutError:
            self._child.signal(signal.SIGKILL)
        return KernelDied(await asyncio.shield(self._child.exit))

    def _frames(
        self,
        message_id: str,
        kind: str,
        content: Mapping[str, Any],
        metadata: Mapping[str, Any] | None = None,
    ) -> list[bytes]:
        date = datetime.now(UTC).isoformat()
        return jupyter.encode(
            kind,
            content,
            session=self._session,
            date=date,
            key=self._key,
            message_id=message_id,
            metadata=metadata,
        )

    async def _read(self, channel: Channel, wrap: type[Reply] | type[Output]) -> None:
        try:
            while True:
                try:
                    message = jupyter.decode(await channel.receive())
                except jupyter.BadMessage:
                    continue
                await self._deliver(message.parent_id, wrap(message))
        except ChannelClosed:
            if wrap is Output and self._running is not None:
                await self._running.put(None)  # after all output that came before

    async def _deliver(self, parent_id: str, item: Reply | Output) -> None:
        running = self._running
        if running is not None and running.message_id == parent_id:
            await running.put(item)

    # --- life

    async def connect(self) -> None:
        """Wait until the kernel answers and its output reaches us. Raises KernelError."""
        try:
            async with asyncio.timeout(START_SECONDS):
                for port, kind, wrap in (("shell_port", "DEALER", Reply), ("iopub_port", "SUB", Output)):
                    channel = await self._open_channel(port, kind)
                    self._channels.append(channel)
                    self._readers.append(asyncio.create_task(self._read(channel, wrap)))
                self._child.exit.add_done_callback(lambda _: self._on_exit())
                await self._wait_answer()
        except TimeoutError:
            raise KernelError(
                f"the kernel did not answer within {START_SECONDS:.0f} s{self._log_tail()}"
            ) from None
        except KernelDied as died:
            raise KernelError(f"the kernel ended while starting ({died}){self._log_tail()}") from None

    async def _open_channel(self, port: str, socket_type: str) -> Channel:
        """Retries while the kernel has not yet opened its sockets: there is no event for that."""
        while True:
            if not self._child.alive:
                raise KernelDied(self._child.exit.result())
            try:
                return await Channel.open(self._address(port), socket_type, self._max_message)
            except (OSError, ChannelClosed):
                await asyncio.sleep(_CONNECT_PAUSE)

    def _address(self, port: str) -> str:
        separator = "-" if self._connection["transport"] == "ipc" else ":"
        return (
            f"{self._connection['transport']}://{self._connection['ip']}{separator}{self._connection[port]}"
        )

    async def _wait_answer(self) -> None:
        """Ask until an answer comes with its idle status: then the subscription to the output stands."""
        while True:
            running = await self.begin("kernel_info_request", {})
            try:
                async with asyncio.timeout(_ASK_AGAIN_SECONDS):
                    await running.finish()
                return
            except TimeoutError:
                continue
            finally:
                running.close()

    def _on_exit(self) -> None:
        """A child of the kernel may hold its sockets open: after a moment for the last output, close our
        ends.
        """
        asyncio.get_running_loop().call_later(_DRAIN_SECONDS, self._close_channels)

    def _close_channels(self) -> None:
        for channel in self._channels:
            channel.close()

    async def interrupt(self) -> None:
        """Ask the running code to stop, as Ctrl-C does."""
        if self.spec.interrupt_mode == "signal":
            self._child.signal(signal.SIGINT)
            return
        with contextlib.suppress(OSError):
            control = await Channel.open(self._address("control_port"), "DEALER")
            try:
                await control.send(self._frames(uuid.uuid4().hex, "interrupt_request", {}))
                await control.receive()
            finally:
                control.close()

    async def stop(self) -> None:
        """Kill it and its processes, and remove its files. Safe to call twice and after its death."""
        self._stopped = self._stopped or self._child.alive
        self._child.signal(signal.SIGKILL)
        await asyncio.shield(self._child.exit)
        self._close_channels()  # the readers end once their last messages are taken
        shutil.rmtree(self._folder, ignore_errors=True)

    def _log_tail(self) -> str:
        with contextlib.suppress(OSError):
            text = (self._folder / "log").read_text(errors="replace").strip()
            if text:
                return f"; its last words: {text[-_LOG_TAIL:]}"
        return ""


async def start_kernel(
    children: Children, spec: KernelSpec, *, cwd: str, env: Mapping[str, str], max_message: int
) -> Kernel:
    """Start and wait until it answers. Raises KernelError; leaves nothing behind on failure or
    cancellation. Contents of messages larger than `max_message` bytes are not taken.
    """
    folder = Path(tempfile.mkdtemp(prefix="atoll-kernel-"))
    try:
        connection = _connection(spec, folder)
        file = folder / "connection.json"
        file.write_text(json.dumps(connection))
        argv = [part.replace("{connection_file}", str(file)) for part in spec.argv]
        child = children.start(argv, cwd=cwd, env={**env, **spec.env}, log=folder / "log")
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise KernelError(f"{error.strerror}: {error.filename}") from error
    kernel = Kernel(child, folder, spec, connection, max_message)
    try:
        await kernel.connect()
    except BaseException:
        await asyncio.shield(kernel.stop())
        raise
    return kernel


def _connection(spec: KernelSpec, folder: Path) -> dict[str, Any]:
    """A connection file's content. ipc sockets lie in a folder only this user may enter, so they need no
    key.
    """
    ports: list[int] = [1, 2, 3, 4, 5] if spec.transport == "ipc" else _free_ports(5)
    names = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
    return {
        "transport": spec.transport,
        "ip": str(folder / "socket") if spec.transport == "ipc" else "127.0.0.1",
        "key": "" if spec.transport == "ipc" else secrets.token_hex(16),
        "signature_scheme": "hmac-sha256",
        "kernel_name": spec.language,
        **dict(zip(names, ports, strict=True)),
    }


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for held in sockets:
            held.bind(("127.0.0.1", 0))
        return [held.getsockname()[1] for held in sockets]


def start_environment() -> dict[str, str]:
    """What a kernel inherits of this service's environment."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ATOLL_")}
