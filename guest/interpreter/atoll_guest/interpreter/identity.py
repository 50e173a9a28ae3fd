"""Which sandbox this is, and its global environment.

After a memory restore everything in this process is as it was in the template, or in another clone. envd
writes the sandbox's id to a file; when its content differs from what a context last saw, the context runs
in a new sandbox. Soon after that file it writes another with the global environment, which the default user
may read; who comes too early, and a service of another user, asks envd.
"""

import asyncio
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import cast

ID_FILE = Path("/run/e2b/.E2B_SANDBOX_ID")
ENVIRONMENT_FILE = ".atoll_environment"
"""Beside the file of the id."""
ENVD_ADDRESS = ("127.0.0.1", 49983)
_ENVD_SECONDS = 2.0
_MAX_FILE_BYTES = 16 << 20


@dataclass(slots=True)
class Sandbox:
    """Where identity and environment come from."""

    id_file: Path = ID_FILE
    envd: tuple[str, int] = ENVD_ADDRESS
    _seen: tuple[object, str] | None = None

    def current_id(self) -> str:
        """The sandbox's id; "" outside of a sandbox. The file is read again when it is another: this is asked
        before each execution.
        """
        try:
            now = os.stat(self.id_file)
            state = (now.st_ino, now.st_mtime_ns, now.st_ctime_ns, now.st_size)
            if self._seen is None or self._seen[0] != state:
                self._seen = (state, read_small(self.id_file).decode().strip())
            return self._seen[1]
        except OSError:
            return ""

    async def global_environment(self, access_token: str | None) -> dict[str, str] | None:
        """All global variables; None when envd is not there, slow, or does not take the token."""
        try:
            told = parse_environment(read_small(self.id_file.parent / ENVIRONMENT_FILE))
            if told.get("E2B_SANDBOX_ID") == self.current_id():
                return told
        except (OSError, ValueError):
            pass
        try:
            async with asyncio.timeout(_ENVD_SECONDS):
                return parse_answer(await self._ask(access_token))
        except (OSError, TimeoutError, ValueError):
            return None

    async def _ask(self, access_token: str | None) -> bytes:
        """The answer of envd's `GET /envs`."""
        token = f"X-Access-Token: {access_token}\r\n" if _is_header_safe(access_token) else ""
        reader, writer = await asyncio.open_connection(*self.envd)
        try:
            # HTTP/1.0: the answer is neither chunked nor kept alive, it ends where the connection does.
            writer.write(f"GET /envs HTTP/1.0\r\nHost: localhost\r\n{token}\r\n".encode())
            return await reader.read(-1)
        finally:
            writer.close()


def read_small(path: Path) -> bytes:
    """A file's content by half of Python's system calls, which cost the first execution."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _MAX_FILE_BYTES)
    finally:
        os.close(descriptor)


def _is_header_safe(value: str | None) -> bool:
    return bool(value) and "\r" not in str(value) and "\n" not in str(value)


def parse_answer(answer: bytes) -> dict[str, str]:
    """The variables in an HTTP answer. Raises ValueError when it is none with status 200."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b"\r\n", 1)[0].split(b" ")
    if len(status) < 2 or status[1] != b"200":
        raise ValueError(f"envd answered {head[:80]!r}")
    return parse_environment(body)


def parse_environment(document: bytes) -> dict[str, str]:
    """A JSON object of strings. Raises ValueError."""
    variables: object = json.loads(document)
    if not isinstance(variables, dict):
        raise ValueError("the environment is no object")
    return {str(name): str(value) for name, value in cast("dict[object, object]", variables).items()}
