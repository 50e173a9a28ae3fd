"""Which sandbox this is, and its global environment.

After a memory restore everything in this process is as it was in the template, or in another clone. envd
writes the sandbox's id to a file; when its content differs from what a context last saw, the context runs
in a new sandbox.
"""

import asyncio
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import cast

ID_FILE = Path("/run/e2b/.E2B_SANDBOX_ID")
ENVD_ADDRESS = ("127.0.0.1", 49983)
_ENVD_SECONDS = 2.0


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
                self._seen = (state, self.id_file.read_text().strip())
            return self._seen[1]
        except OSError:
            return ""

    async def global_environment(self, access_token: str | None) -> dict[str, str] | None:
        """envd's `GET /envs`; None when it is not there, slow, or does not take the token."""
        try:
            async with asyncio.timeout(_ENVD_SECONDS):
                return parse_answer(await self._ask(access_token))
        except (OSError, TimeoutError, ValueError):
            return None

    async def _ask(self, access_token: str | None) -> bytes:
        token = f"X-Access-Token: {access_token}\r\n" if _is_header_safe(access_token) else ""
        reader, writer = await asyncio.open_connection(*self.envd)
        try:
            # HTTP/1.0: the answer is neither chunked nor kept alive, it ends where the connection does.
            writer.write(f"GET /envs HTTP/1.0\r\nHost: localhost\r\n{token}\r\n".encode())
            return await reader.read(-1)
        finally:
            writer.close()


def _is_header_safe(value: str | None) -> bool:
    return bool(value) and "\r" not in str(value) and "\n" not in str(value)


def parse_answer(answer: bytes) -> dict[str, str]:
    """The variables in an HTTP answer. Raises ValueError when it is none with status 200."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b"\r\n", 1)[0].split(b" ")
    if len(status) < 2 or status[1] != b"200":
        raise ValueError(f"envd answered {head[:80]!r}")
    document: object = json.loads(body)
    if not isinstance(document, dict):
        raise ValueError("envd's environment is no object")
    return {str(name): str(value) for name, value in cast("dict[object, object]", document).items()}
