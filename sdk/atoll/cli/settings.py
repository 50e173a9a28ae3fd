"""Which server the command line talks to, and with which key."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from atoll.cli.failures import Failure

DEFAULT_HOME = "/var/lib/atoll"
DEFAULT_PORT = "8600"
KEY_NAME = "E2B_API_KEY"


@dataclass(frozen=True, slots=True)
class Settings:
    home: Path
    """State directory of the server on this machine; ``ATOLL_HOME``."""
    local_url: str
    """Where the server of this machine answers, from ``ATOLL_HOST`` and ``ATOLL_PORT``."""
    url: str
    """The server to talk to: ``E2B_API_URL``, else the one of this machine."""
    sandbox_url: str
    """Where the sandboxes' traffic goes: ``E2B_SANDBOX_URL``, else ``url``."""
    domain: str
    """What sandboxes' public names end with; ``ATOLL_DOMAIN``."""
    environment_key: str | None
    """``E2B_API_KEY``."""

    @property
    def is_local(self) -> bool:
        """Whether the server is the one of this machine, which we may start."""
        return self.url == self.local_url

    @property
    def credentials(self) -> Path:
        return self.home / "credentials"

    @property
    def log(self) -> Path:
        """Output of a server that was started in the background."""
        return self.home / "logs" / "server.log"

    def key(self) -> str:
        """The key to send; raises :class:`Failure` when there is none.

        The machine's own key goes to the machine's own server only, and is preferred there: the variable may
        hold a key for another one.
        """
        if self.is_local and self.credentials.exists():
            return read_credentials(self.credentials)
        if self.environment_key:
            return self.environment_key
        if self.is_local:
            return read_credentials(self.credentials)
        raise Failure(
            f"there is no key for {self.url}",
            why=f"E2B_API_URL is set, {KEY_NAME} is not",
            hint=f"export {KEY_NAME}=e2b_…, or unset E2B_API_URL to use the server of this machine",
        )

    def published_options(self) -> dict[str, Any]:
        """What makes a published SDK's sandbox one of this server. Raises as :meth:`key` does."""
        return {"api_key": self.key(), "api_url": self.url, "sandbox_url": self.sandbox_url}


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Raises :class:`Failure`, naming the variable, when one cannot be used."""
    environ = os.environ if environ is None else environ
    port = environ.get("ATOLL_PORT") or DEFAULT_PORT
    if not (port.isascii() and port.isdecimal() and 1 <= int(port) <= 65535):
        raise Failure(
            f"ATOLL_PORT={port!r} is no port", hint="set it to a number from 1 to 65535, or unset it"
        )
    host = environ.get("ATOLL_HOST") or "127.0.0.1"
    local_url = f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"
    url = _url(environ, "E2B_API_URL") or local_url
    return Settings(
        home=Path(environ.get("ATOLL_HOME") or DEFAULT_HOME).absolute(),
        local_url=local_url,
        url=url,
        sandbox_url=_url(environ, "E2B_SANDBOX_URL") or url,
        domain=environ.get("ATOLL_DOMAIN") or f"atoll.localhost:{port}",
        environment_key=environ.get(KEY_NAME) or None,
    )


def read_credentials(path: Path) -> str:
    """The local operator's key, which set-up made."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        raise Failure(
            "this machine has no key yet",
            why=f"{path} does not exist",
            hint="run `./atoll setup`, which makes it (or set ATOLL_HOME, if the state is elsewhere)",
        ) from None
    except OSError as error:
        raise Failure(
            f"{path} cannot be read", why=str(error.strerror), hint="run the command as root"
        ) from error
    for line in lines:
        name, _, value = line.partition("=")
        if name.strip() == KEY_NAME and value.strip():
            return value.strip()
    raise Failure(
        f"{path} holds no key",
        why=f"it has no line {KEY_NAME}=…",
        hint="remove the file and run `./atoll setup`, which makes a new one",
    )


def _url(environ: Mapping[str, str], name: str) -> str | None:
    text = (environ.get(name) or "").rstrip("/")
    if not text:
        return None
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise Failure(f"{name}={text!r} is no URL", hint="set it like http://127.0.0.1:8600, or unset it")
    return text
