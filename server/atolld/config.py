"""Settings: one frozen value, read once from the environment.

Every setting has a default that works on one machine, and a variable ``ATOLL_<NAME>``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Network, NetmaskValueError
from pathlib import Path

from atolld.model.errors import InvalidRequest

DEFAULT_HOME = Path("/var/lib/atoll")
DEFAULT_NAME = "atoll.localhost"
DEFAULT_TLS_PORT = 8443
HTTPS_PORT = 443
_DEFAULT_NETWORK = IPv4Network("10.213.0.0/16")


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """The https front: all that ``https://api.<domain>`` and ``https://<port>-<id>.<domain>`` need."""

    wanted: bool | None = None
    """``ATOLL_TLS`` = ``on``, ``off`` or ``auto``: whenever this machine can, else without and saying so."""
    name: str = DEFAULT_NAME
    """The domain's name, without a port."""
    port: int = DEFAULT_TLS_PORT
    """Listened on; ``ATOLL_TLS_PORT``, else the domain's own port, else 443 for a domain that was given."""
    domain: str = f"{DEFAULT_NAME}:{DEFAULT_TLS_PORT}"
    """What public names over https end with: the name, and the port unless it is 443."""
    host: str | None = None
    """Address to listen on; ``ATOLL_TLS_HOST``. ``None``: loopback below ``.localhost``, else all."""
    certificate: Path | None = None
    """Of the operator, for the name and ``*.`` it, PEM with its chain; ``ATOLL_TLS_CERT``."""
    key: Path | None = None
    """PEM; ``ATOLL_TLS_KEY``."""
    acme: Path | None = None
    """A file that says who issues certificates by ACME, see :mod:`atolld.tls.acme`; ``ATOLL_TLS_ACME``."""
    caddy: Path | None = None
    """A Caddy of the operator's instead of the wheel's; ``ATOLL_CADDY``."""


@dataclass(frozen=True, slots=True)
class Config:
    home: Path = DEFAULT_HOME
    """State of everything; ``ATOLL_HOME``."""
    host: str = "127.0.0.1"
    """Address the server listens on; ``ATOLL_HOST``."""
    port: int = 8600
    """``ATOLL_PORT``."""
    domain: str = f"{DEFAULT_NAME}:8600"
    """What sandboxes' public names end with, port included; ``ATOLL_DOMAIN``."""
    network: IPv4Network = _DEFAULT_NETWORK
    """Range of the sandboxes' addresses, a /30 each; ``ATOLL_NETWORK``."""
    allow_egress: tuple[str, ...] | None = None
    """Private destinations that sandboxes may reach, ``address[/prefix][:port]`` or host names, by comma;
    ``None``: the host's resolvers and the package indexes the host is set up for. ``ATOLL_ALLOW_EGRESS``."""
    pool_size: int = 1
    """Restored sandboxes that wait, per template, at least; 0: none ever. ``ATOLL_POOL``."""
    blank_size: int = 2
    """Created sandboxes that wait for a snapshot, per template, at least; 0: none. ``ATOLL_BLANKS``."""
    pool_memory_mib: int | None = None
    """Memory that all of these may take, more of them where more are asked for; ``None``: a sixteenth of the
    machine's. ``ATOLL_POOL_MEMORY``."""
    resident_memory_mib: int | None = None
    """Memory that paused sandboxes may stay in, so that they come back at once; ``None``: a quarter of the
    machine's. ``ATOLL_RESIDENT_MEMORY``."""
    shared_pages: bool = True
    """Sandboxes of a template share the pages of its snapshot that they do not write;
    ``ATOLL_SHARED_PAGES`` = ``on``, ``off`` or ``off:`` and names of templates, by comma."""
    unshared_templates: frozenset[str] = frozenset()
    """Those names."""
    least_shared: int = 8 << 20
    """Bytes of a snapshot's pages from which on they are shared."""
    page_out: bool = True
    """Frozen sandboxes leave memory where the machine has swap, and idle ones when there is little left;
    ``ATOLL_PAGE_OUT`` = ``on`` or ``off``."""
    paused_days: int = 30
    """How long a paused sandbox is kept; ``ATOLL_PAUSED_DAYS``."""
    ended_days: int = 7
    """How long it is told why a sandbox ended; ``ATOLL_ENDED_DAYS``."""
    pause_at_stop: bool = False
    """A server that is stopped pauses what runs, and the next one resumes it, also after a restart of the
    machine. ``ATOLL_AT_STOP`` = ``pause``, or ``leave``: they run on as long as the machine does."""
    max_timeout: int = 24 * 3600
    """Longest life of a sandbox, seconds; ``ATOLL_MAX_TIMEOUT``."""
    max_sandboxes: int = 1000
    """Sandboxes of one team at once; ``ATOLL_MAX_SANDBOXES``."""
    tls: TlsSettings = TlsSettings()

    @property
    def url(self) -> str:
        """Where clients on this machine reach the server."""
        return f"http://{'127.0.0.1' if self.host in ('0.0.0.0', '::') else self.host}:{self.port}"


def read_config(environ: Mapping[str, str]) -> Config:
    """Raises :class:`InvalidRequest`, naming the variable, when one cannot be read."""
    default = Config()
    port = _number(environ, "ATOLL_PORT", default.port, 1, 65535)
    egress = environ.get("ATOLL_ALLOW_EGRESS")
    return Config(
        home=Path(environ.get("ATOLL_HOME") or default.home).absolute(),
        host=environ.get("ATOLL_HOST") or default.host,
        port=port,
        domain=environ.get("ATOLL_DOMAIN") or f"{DEFAULT_NAME}:{port}",
        network=_network(environ, default.network),
        allow_egress=None if egress is None else tuple(x.strip() for x in egress.split(",") if x.strip()),
        pool_size=_number(environ, "ATOLL_POOL", default.pool_size, 0, 1000),
        blank_size=_number(environ, "ATOLL_BLANKS", default.blank_size, 0, 1000),
        pool_memory_mib=_number(environ, "ATOLL_POOL_MEMORY", -1, 0, 10**9)
        if environ.get("ATOLL_POOL_MEMORY")
        else None,
        resident_memory_mib=_number(environ, "ATOLL_RESIDENT_MEMORY", -1, 0, 10**9)
        if environ.get("ATOLL_RESIDENT_MEMORY")
        else None,
        shared_pages=_shared_pages(environ) is not None,
        unshared_templates=_shared_pages(environ) or frozenset(),
        page_out=_choice(environ, "ATOLL_PAGE_OUT", {"on": True, "off": False}, "on") is True,
        paused_days=_number(environ, "ATOLL_PAUSED_DAYS", default.paused_days, 1, 36500),
        ended_days=_number(environ, "ATOLL_ENDED_DAYS", default.ended_days, 1, 36500),
        pause_at_stop=_choice(environ, "ATOLL_AT_STOP", {"pause": True, "leave": False}, "leave") is True,
        max_timeout=_number(environ, "ATOLL_MAX_TIMEOUT", default.max_timeout, 1, 10**9),
        max_sandboxes=_number(environ, "ATOLL_MAX_SANDBOXES", default.max_sandboxes, 1, 10**6),
        tls=_tls(environ, port),
    )


def _tls(environ: Mapping[str, str], plain_port: int) -> TlsSettings:
    name, _, own = (environ.get("ATOLL_DOMAIN") or "").partition(":")
    own_port = _number({"ATOLL_DOMAIN": own}, "ATOLL_DOMAIN", 0, 1, 65535)
    if own_port == plain_port:
        own_port = 0  # the domain of plain HTTP
    usual = HTTPS_PORT if name and not own else DEFAULT_TLS_PORT
    port = _number(environ, "ATOLL_TLS_PORT", own_port or usual, 1, 65535)
    name = name or DEFAULT_NAME
    public = own_port or port
    settings = TlsSettings(
        wanted=_choice(environ, "ATOLL_TLS", {"on": True, "off": False, "auto": None}, "auto"),
        name=name.lower(),
        port=port,
        domain=name.lower() if public == HTTPS_PORT else f"{name.lower()}:{public}",
        host=environ.get("ATOLL_TLS_HOST") or None,
        certificate=_path(environ, "ATOLL_TLS_CERT"),
        key=_path(environ, "ATOLL_TLS_KEY"),
        acme=_path(environ, "ATOLL_TLS_ACME"),
        caddy=_path(environ, "ATOLL_CADDY"),
    )
    if (settings.certificate is None) != (settings.key is None):
        raise InvalidRequest("ATOLL_TLS_CERT and ATOLL_TLS_KEY belong together: set both or neither")
    if settings.certificate and settings.acme:
        raise InvalidRequest("ATOLL_TLS_CERT and ATOLL_TLS_ACME exclude each other: unset one of them")
    return settings


def _shared_pages(environ: Mapping[str, str]) -> frozenset[str] | None:
    """The templates that share nothing; ``None``: none shares."""
    text = environ.get("ATOLL_SHARED_PAGES") or "on"
    names = frozenset(name.strip() for name in text.removeprefix("off:").split(",") if name.strip())
    if text in ("on", "off"):
        return frozenset() if text == "on" else None
    if not text.startswith("off:") or not names:
        raise InvalidRequest(
            f"ATOLL_SHARED_PAGES={text!r} is none of on, off, off:TEMPLATE,…: correct or unset it"
        )
    return names


def _path(environ: Mapping[str, str], name: str) -> Path | None:
    text = environ.get(name)
    return Path(text).absolute() if text else None


def _choice(
    environ: Mapping[str, str], name: str, choices: Mapping[str, bool | None], default: str
) -> bool | None:
    text = environ.get(name) or default
    if text not in choices:
        raise InvalidRequest(f"{name}={text!r} is none of {', '.join(choices)}: correct or unset it")
    return choices[text]


def _number(environ: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = environ.get(name)
    if not text:
        return default
    if not text.isdecimal() or not low <= int(text) <= high:
        raise InvalidRequest(f"{name}={text!r} is no whole number from {low} to {high}: correct or unset it")
    return int(text)


def _network(environ: Mapping[str, str], default: IPv4Network) -> IPv4Network:
    text = environ.get("ATOLL_NETWORK")
    if not text:
        return default
    try:
        network = IPv4Network(text)
    except (AddressValueError, NetmaskValueError, ValueError) as error:
        raise InvalidRequest(f"ATOLL_NETWORK={text!r} is no IPv4 network ({error})") from error
    if network.prefixlen > 28:
        raise InvalidRequest(f"ATOLL_NETWORK={text!r} is too small: give a /28 or larger, such as {default}")
    return network
