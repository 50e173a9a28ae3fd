"""One HTTP client for a command, and how its failures are told.

Every call has a time limit. The machine's proxy settings are not used for loopback addresses.
"""

from __future__ import annotations

import importlib
import ipaddress
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from atoll.cli.failures import EXIT_TIMEOUT, Failure
from atoll_wire.api import parse_api_error

# httpx imports its own command line (rich, pygments, click), and httpcore HTTP/2, if they can: three quarters
# of their import time. A module that is None cannot be imported, and they go without.
_NOT_NEEDED = ("httpx._main", "h2")
_absent = [name for name in _NOT_NEEDED if name not in sys.modules]
sys.modules.update(dict.fromkeys(_absent))  # type: ignore[arg-type]
try:
    importlib.import_module("httpcore")
    import httpx
finally:
    for _name in _absent:
        del sys.modules[_name]

if TYPE_CHECKING:
    from atoll.cli.settings import Settings

CONNECT_TIMEOUT = 5.0
REQUEST_TIMEOUT = 60.0
"""A create may have to restore, so this is generous; seconds."""


def open_http(url: str) -> httpx.Client:
    return httpx.Client(
        base_url=url,
        timeout=httpx.Timeout(REQUEST_TIMEOUT, connect=CONNECT_TIMEOUT),
        trust_env=not is_loopback(url),
        # Making a TLS context takes longer than a whole request to the local server.
        verify=url.startswith("https:"),
        headers={"User-Agent": "atoll-cli"},
    )


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


@contextmanager
def told(settings: Settings, doing: str) -> Generator[None]:
    """Turns a failed exchange into a :class:`Failure` that says what could not be done."""
    try:
        yield
    except httpx.ConnectError as error:
        raise unreachable(settings, str(error)) from error
    except httpx.TimeoutException as error:
        raise Failure(
            f"{doing}: {settings.url} did not answer in time",
            why=type(error).__name__,
            hint=_look(settings),
            exit_code=EXIT_TIMEOUT,
        ) from error
    except httpx.HTTPError as error:
        raise Failure(
            f"{doing}: the connection to {settings.url} failed",
            why=str(error) or type(error).__name__,
            hint=_look(settings),
        ) from error


def unreachable(settings: Settings, why: str) -> Failure:
    start = "start it with `./atoll serve`" if settings.is_local else "check E2B_API_URL, or unset it"
    return Failure(f"no server answers at {settings.url}", why=why, hint=start)


def refused(settings: Settings, doing: str, status: int, body: bytes) -> Failure:
    """The failure that an error answer of the API means."""
    error = parse_api_error(status, body)
    return Failure(f"{doing}: {error.message}", why=_reason(status), hint=_hint(settings, status))


def _reason(status: int) -> str:
    reasons = {401: "the server does not accept the key", 404: "the server does not know it"}
    return f"{reasons.get(status, 'the server refused')} (HTTP {status})"


def _hint(settings: Settings, status: int) -> str:
    if status == 401:
        where = f"in {settings.credentials}" if settings.is_local else "in E2B_API_KEY"
        return f"check the key {where}; `./atoll setup` makes a missing one"
    if status == 400:
        return "correct the request; `--help` lists what the command takes"
    if status == 404:
        return "`./atoll sandbox list` shows the sandboxes, `./atoll setup` the templates that are ready"
    if status == 429:
        return "kill sandboxes you no longer need: `./atoll sandbox list`, `./atoll sandbox kill ID`"
    return _look(settings)


def _look(settings: Settings) -> str:
    return (
        f"see the server's log {settings.log} and `./atoll doctor`"
        if settings.is_local
        else "try again later"
    )
