"""Is https served, and does it work from here? Asked by doing it."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass

import httpx

from atolld.config import Config
from atolld.model.errors import AtollError
from atolld.tls.front import Announcement, announcement_file, find_caddy
from atolld.tls.names import certificate_names, listen_addresses
from atolld.tls.ports import usable_addresses

_SECONDS = 5.0
_LOOK = "see logs/server.log and logs/caddy.log in the state directory; `./atoll down`, `./atoll serve`"


@dataclass(frozen=True, slots=True)
class Health:
    is_well: bool
    detail: str
    mend: str = ""
    """What to do; empty when all is well."""


async def examine_https(config: Config) -> Health:
    """Of the server that runs; where none serves https, whether one could."""
    if config.tls.wanted is False:
        return Health(True, "is off (ATOLL_TLS=off)")
    said = read_announcement(config)
    return _could_serve(config) if said is None else await _ask(said)


def read_announcement(config: Config) -> Announcement | None:
    try:
        return Announcement(**json.loads(announcement_file(config).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _could_serve(config: Config) -> Health:
    if find_caddy(config) is None:
        return Health(False, "Caddy is not installed", "set ATOLL_CADDY to one, or ATOLL_TLS=off")
    try:
        certificate_names(config.tls.name)
        usable_addresses(listen_addresses(config.tls.name, config.tls.host), config.tls.port)
    except AtollError as error:
        return Health(False, error.message, "set ATOLL_TLS_PORT or ATOLL_DOMAIN, or ATOLL_TLS=off")
    return Health(True, f"could be served at {config.tls.domain}")


async def _ask(said: Announcement) -> Health:
    url = f"https://api.{said.domain}/health"
    try:
        context = ssl.create_default_context(cafile=said.bundle)
        async with httpx.AsyncClient(verify=context, trust_env=False, timeout=_SECONDS) as client:
            answer = await client.get(url)
    except (httpx.HTTPError, OSError) as error:
        return Health(False, f"{url}: {error or repr(error)}", _LOOK)
    if answer.status_code != 204:
        return Health(False, f"{url} answered {answer.status_code}", _LOOK)
    return Health(True, f"{url} answers")
