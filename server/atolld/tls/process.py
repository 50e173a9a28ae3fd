"""One Caddy process: started, ready, told of new certificates, passed on to another server, ended.

Caddy lives as long as somebody holds the write end of a pipe, its lifeline: its parent is a shell that waits
for the end of that pipe and takes Caddy along when it ends. So Caddy never outlives its server, however that
dies, and yet can be passed on to the server's successor with its connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from atolld.builds.files import replace_text
from atolld.builds.tools import run_tool
from atolld.model.errors import HostError

START_SECONDS = 20.0
_RELOAD_SECONDS = 30.0
_TAIL_BYTES = 2000
_HOLD = 'setpriv --pdeathsig KILL -- "$@" & echo $!; exec >/dev/null; read -r _'
"""Starts Caddy, says its pid, and waits for the end of its own stdin."""


@dataclass(frozen=True, slots=True)
class Files:
    """Where a Caddy's belongings lie."""

    binary: Path
    config: Path
    errors: Path
    """What it says before its own log is open, and its last words."""
    admin_socket: Path
    notify_socket: Path
    home: Path
    """For what it keeps by itself; nothing of it matters."""


class CaddyProcess:
    def __init__(self, files: Files, handle: int, lifeline: int, pid: int) -> None:
        self.files = files
        self.pid = pid
        self._handle = handle
        """Its pidfd."""
        self._lifeline = lifeline
        self._ended = _wait_readable(handle)

    @classmethod
    async def start(cls, files: Files, config: Mapping[str, Any], environ: Mapping[str, str]) -> CaddyProcess:
        """Returns when it serves ``config``; else raises :class:`HostError` with its own words."""
        replace_text(files.config, json.dumps(config, indent=1), 0o600)
        files.admin_socket.unlink(missing_ok=True)
        with _first_word(files.notify_socket) as word:
            process = await cls._spawn(files, environ)
            try:
                await process._wait_serving(word)
            except BaseException:
                await process._end(0)
                raise
        return process

    @classmethod
    def adopt(cls, files: Files, handle: int, lifeline: int) -> CaddyProcess:
        """One that another server started and passed on."""
        return cls(files, handle, lifeline, _pid_of(handle))

    def pass_on(self) -> list[int]:
        """The descriptors to adopt it with; it is not ours any more."""
        asyncio.get_running_loop().remove_reader(self._handle)
        self._ended.cancel()
        return [self._handle, self._lifeline]

    def leave(self) -> None:
        """To the other server that has it still."""
        for descriptor in self.pass_on():
            os.close(descriptor)

    def serves(self, config: Mapping[str, Any]) -> bool:
        """Whether it was started, or last loaded, with ``config``."""
        try:
            return json.loads(self.files.config.read_text()) == config
        except (OSError, ValueError):
            return False

    async def wait_end(self) -> None:
        """Returns once it has ended by itself."""
        await asyncio.shield(self._ended)

    async def reload(self, config: Mapping[str, Any]) -> None:
        """Reads the certificates anew; open connections stay. All is as before when it raises
        :class:`HostError`."""
        transport = httpx.AsyncHTTPTransport(uds=str(self.files.admin_socket))
        # Caddy ignores a configuration it already has, unless told so.
        headers = {"Cache-Control": "must-revalidate"}
        try:
            async with httpx.AsyncClient(transport=transport, timeout=_RELOAD_SECONDS) as client:
                answer = await client.post("http://localhost/load", json=dict(config), headers=headers)
        except httpx.HTTPError as error:
            raise HostError(f"Caddy does not take its configuration ({error!r})") from error
        if answer.status_code != 200:
            raise HostError(f"Caddy refuses its configuration: {answer.text.strip()}")

    async def stop(self, grace: float) -> None:
        """New connections are refused at once; open requests have ``grace`` seconds. Idempotent."""
        await self._end(grace)
        self.files.config.unlink(missing_ok=True)

    @classmethod
    async def _spawn(cls, files: Files, environ: Mapping[str, str]) -> CaddyProcess:
        files.home.mkdir(parents=True, exist_ok=True)
        own = {
            "HOME": str(files.home),
            "XDG_DATA_HOME": str(files.home),
            "XDG_CONFIG_HOME": str(files.home),
            "NOTIFY_SOCKET": str(files.notify_socket),
        }
        read_end, lifeline = os.pipe()
        try:
            with files.errors.open("wb") as errors:
                holder = await asyncio.create_subprocess_exec(
                    "/bin/sh",
                    "-c",
                    _HOLD,
                    "caddy",
                    files.binary,
                    "run",
                    "--config",
                    files.config,
                    stdin=read_end,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=errors,
                    env={**environ, **own},
                    # Ctrl-C on our terminal is for us: we tell it when to end.
                    start_new_session=True,
                )
            assert holder.stdout is not None
            pid = int(await holder.stdout.readline())
            # The shell reads nothing but its stdin, so that even of a Caddy that died the pid is kept.
            return cls(files, os.pidfd_open(pid), lifeline, pid)
        except (OSError, ValueError) as error:
            os.close(lifeline)
            raise HostError(f"Caddy cannot be started ({error}): setpriv of util-linux is needed") from error
        except BaseException:
            os.close(lifeline)
            raise
        finally:
            os.close(read_end)

    async def _wait_serving(self, word: asyncio.Future[str]) -> None:
        await asyncio.wait((word, self._ended), timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if word.done():
            if word.result():
                raise HostError(f"Caddy refuses its configuration: {word.result()}")
        elif self._ended.done():
            raise HostError(f"Caddy ended at once: {_last_words(self.files.errors)}")
        else:
            words = _last_words(self.files.errors)
            raise HostError(f"Caddy was not ready after {START_SECONDS:.0f} s: {words}")

    async def _end(self, grace: float) -> None:
        """Also of one that died: its shell goes."""
        if self._lifeline < 0:
            return
        try:
            if grace > 0 and not self._ended.done():
                signal.pidfd_send_signal(self._handle, signal.SIGTERM)
                await asyncio.wait((self._ended,), timeout=grace)
            # Its lifeline may be held by another server as well.
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        except ProcessLookupError:
            pass
        finally:
            os.close(self._lifeline)
            self._lifeline = -1
            await asyncio.shield(self._ended)
            os.close(self._handle)


async def list_modules(caddy: Path) -> Sequence[str]:
    """The names of the modules that are compiled in. Raises :class:`HostError` when it cannot be run."""
    output = await run_tool([caddy, "list-modules"], report=lambda _: None)
    return [line.strip() for line in output.splitlines() if line.strip()]


def _wait_readable(descriptor: int) -> asyncio.Future[None]:
    """Done once it is. Whoever cancels it removes the loop's reader first."""
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()

    def on_readable() -> None:
        loop.remove_reader(descriptor)
        readable.set_result(None)

    loop.add_reader(descriptor, on_readable)
    return readable


def _pid_of(handle: int) -> int:
    """-1 for a process that has ended."""
    text = Path(f"/proc/self/fdinfo/{handle}").read_text()
    return int(text.partition("\nPid:")[2].split()[0])


@contextlib.contextmanager
def _first_word(path: Path) -> Generator[asyncio.Future[str]]:
    """What Caddy says first at the datagram socket ``path``, in the way of sd_notify(3): empty when it
    serves, else why it does not."""
    path.unlink(missing_ok=True)
    loop = asyncio.get_running_loop()
    word: asyncio.Future[str] = loop.create_future()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listener:
        listener.bind(os.fspath(path))

        def on_message() -> None:
            with contextlib.suppress(BlockingIOError):
                name, _, value = listener.recv(4096).decode(errors="replace").strip().partition("=")
                # A failure is a STATUS with the error, and READY follows even so.
                if name in ("READY", "STATUS") and not word.done():
                    word.set_result(value if name == "STATUS" else "")

        loop.add_reader(listener, on_message)
        try:
            yield word
        finally:
            loop.remove_reader(listener)
            word.cancel()
            path.unlink(missing_ok=True)


def _last_words(path: Path) -> str:
    text = path.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip()
    return text.splitlines()[-1] if text else f"it said nothing in {path}"
