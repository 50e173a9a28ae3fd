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


@dataclass(frozen=True, slots=True)
class Config:
    home: Path = DEFAULT_HOME
    """State of everything; ``ATOLL_HOME``."""
    host: str = "127.0.0.1"
    """Address the server listens on; ``ATOLL_HOST``."""
    port: int = 8600
    """``ATOLL_PORT``."""
    domain: str = "atoll.localhost:8600"
    """What sandboxes' public names end with, port included; ``ATOLL_DOMAIN``."""
    network: IPv4Network = IPv4Network("10.213.0.0/16")
    """Range of the sandboxes' addresses, a /30 each; ``ATOLL_NETWORK``."""
    allow_egress: tuple[str, ...] | None = None
    """Private destinations that sandboxes may reach, ``address[/prefix][:port]`` or host names, by comma;
    ``None``: the host's resolvers and the package indexes the host is set up for. ``ATOLL_ALLOW_EGRESS``."""
    pool_size: int = 1
    """Restored sandboxes that wait, per template; ``ATOLL_POOL``."""
    max_timeout: int = 24 * 3600
    """Longest life of a sandbox, seconds; ``ATOLL_MAX_TIMEOUT``."""
    max_sandboxes: int = 1000
    """Sandboxes of one team at once; ``ATOLL_MAX_SANDBOXES``."""

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
        domain=environ.get("ATOLL_DOMAIN") or f"atoll.localhost:{port}",
        network=_network(environ, default.network),
        allow_egress=None if egress is None else tuple(x.strip() for x in egress.split(",") if x.strip()),
        pool_size=_number(environ, "ATOLL_POOL", default.pool_size, 0, 1000),
        max_timeout=_number(environ, "ATOLL_MAX_TIMEOUT", default.max_timeout, 1, 10**9),
        max_sandboxes=_number(environ, "ATOLL_MAX_SANDBOXES", default.max_sandboxes, 1, 10**6),
    )


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
