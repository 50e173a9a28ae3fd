"""One Caddy process: started, ready, told of new certificates, ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
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
_DIE_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")


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


@dataclass(slots=True)
class CaddyProcess:
    files: Files
    _process: asyncio.subprocess.Process

    @classmethod
    async def start(
        cls, files: Files, config: Mapping[str, Any], environ: Mapping[str, str], lent: Sequence[int] = ()
    ) -> CaddyProcess:
        """Returns when it serves ``config``, in which the file descriptors ``lent`` have the numbers they
        have here; else raises :class:`HostError` with its own words."""
        replace_text(files.config, json.dumps(config, indent=1), 0o600)
        files.admin_socket.unlink(missing_ok=True)
        with _first_word(files.notify_socket) as word:
            process = await _spawn(files, environ, lent)
            try:
                await _wait_serving(files, process, word)
            except BaseException:
                await _end(process, 0)
                raise
        return cls(files, process)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait_end(self) -> int:
        """Its exit status, once it has ended by itself."""
        return await self._process.wait()

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
        await _end(self._process, grace)
        self.files.config.unlink(missing_ok=True)

    async def discard(self) -> None:
        """Ends one that was told to retire, at once; its files are its successor's."""
        await _end(self._process, 0)


async def list_modules(caddy: Path) -> Sequence[str]:
    """The names of the modules that are compiled in. Raises :class:`HostError` when it cannot be run."""
    output = await run_tool([caddy, "list-modules"], report=lambda _: None)
    return [line.strip() for line in output.splitlines() if line.strip()]


async def _spawn(files: Files, environ: Mapping[str, str], lent: Sequence[int]) -> asyncio.subprocess.Process:
    own = {
        "HOME": str(files.home),
        "XDG_DATA_HOME": str(files.home),
        "XDG_CONFIG_HOME": str(files.home),
        "NOTIFY_SOCKET": str(files.notify_socket),
    }
    files.home.mkdir(parents=True, exist_ok=True)
    with files.errors.open("wb") as errors:
        try:
            return await asyncio.create_subprocess_exec(
                *_DIE_WITH_US,
                files.binary,
                "run",
                "--config",
                files.config,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                env={**environ, **own},
                # Ctrl-C on our terminal is for us: we tell it when to end.
                start_new_session=True,
                pass_fds=lent,
            )
        except OSError as error:
            raise HostError(f"Caddy cannot be started ({error}): setpriv of util-linux is needed") from error


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


async def _wait_serving(files: Files, process: asyncio.subprocess.Process, word: asyncio.Future[str]) -> None:
    ended = asyncio.ensure_future(process.wait())
    try:
        await asyncio.wait((word, ended), timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended.cancel()
    if word.done():
        if word.result():
            raise HostError(f"Caddy refuses its configuration: {word.result()}")
    elif process.returncode is not None:
        raise HostError(f"Caddy ended at once ({process.returncode}): {_last_words(files.errors)}")
    else:
        raise HostError(f"Caddy was not ready after {START_SECONDS:.0f} s: {_last_words(files.errors)}")


async def _end(process: asyncio.subprocess.Process, grace: float) -> None:
    if process.returncode is not None:
        return
    try:
        if grace > 0:
            process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), grace)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await asyncio.shield(process.wait())


def _last_words(path: Path) -> str:
    text = path.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip()
    return text.splitlines()[-1] if text else f"it said nothing in {path}"
