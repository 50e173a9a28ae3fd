"""Which private addresses sandboxes may reach: reading what the operator, or the host's own set-up, names.

Pure: texts of configuration files in, destinations out. Looking up names and reading files is
`surroundings`'.
"""

from __future__ import annotations

import configparser
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from atolld.model.errors import InvalidRequest

DNS_PORT = 53
_DEFAULT_PORTS = {"http": 80, "https": 443}
_URL = re.compile(r"(?:[a-z+]+\+)?(https?://[^\s\"',;|\]]+)")
_INDEX_VARIABLES = (
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "UV_INDEX_URL",
    "UV_DEFAULT_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_INDEX",
    "NPM_CONFIG_REGISTRY",
    "npm_config_registry",
    "GOPROXY",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "http_proxy",
    "https_proxy",
)
_PIP_KEYS = ("index-url", "extra-index-url", "find-links", "proxy")
_HOST_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")


@dataclass(frozen=True, slots=True)
class Destination:
    """``host`` is an address, a network or a name; ``port`` ``None``: all."""

    host: str
    port: int | None = None


def parse_destination(text: str) -> Destination:
    """``address[/prefix][:port]`` or ``name[:port]``. Raises :class:`InvalidRequest`."""
    host, colon, port_text = text.strip().partition(":")
    if colon and not (port_text.isdecimal() and 0 < int(port_text) < 65536):
        raise InvalidRequest(f"ATOLL_ALLOW_EGRESS: {text!r} has no port from 1 to 65535 after its colon")
    if not (is_network(host) or _is_name(host)):
        raise InvalidRequest(f"ATOLL_ALLOW_EGRESS: {host!r} is neither an IPv4 address nor a host name")
    return Destination(host, int(port_text) if colon else None)


def is_network(text: str) -> bool:
    try:
        ipaddress.IPv4Network(text, strict=False)
    except ValueError:
        return False
    return True


def parse_name_servers(resolv_conf: str) -> list[str]:
    """IPv4 addresses of the resolvers, in order."""
    servers: list[str] = []
    for line in resolv_conf.splitlines():
        words = line.split("#")[0].split()
        if len(words) >= 2 and words[0] == "nameserver" and is_network(words[1]):
            servers.append(words[1])
    return servers


def is_loopback_only(resolv_conf: str) -> bool:
    """Whether all its resolvers are on this host's loopback, where no sandbox can reach them."""
    servers = parse_name_servers(resolv_conf)
    return bool(servers) and all(ipaddress.IPv4Address(server).is_loopback for server in servers)


def parse_urls(text: str) -> Iterator[Destination]:
    """The hosts of all ``http(s)`` URLs in a text."""
    for match in _URL.finditer(text):
        try:
            url = urlsplit(match.group(1))
            port = url.port or _DEFAULT_PORTS[url.scheme]
        except ValueError:
            continue
        if url.hostname and (is_network(url.hostname) or _is_name(url.hostname)):
            yield Destination(url.hostname, port)


def destinations_of_environment(environ: Mapping[str, str]) -> Iterator[Destination]:
    for name in _INDEX_VARIABLES:
        yield from parse_urls(environ.get(name, ""))


def destinations_of_pip(text: str) -> Iterator[Destination]:
    """``pip.conf``; a broken one names nothing."""
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(text)
    except configparser.Error:
        return
    for section in parser.sections():
        for key in _PIP_KEYS:
            yield from parse_urls(parser.get(section, key, fallback=""))


def destinations_of_npm(text: str) -> Iterator[Destination]:
    """``.npmrc``: ``registry=``, ``@scope:registry=``, proxies."""
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key.strip().endswith(("registry", "proxy")):
            yield from parse_urls(value)


def destinations_of_apt(text: str) -> Iterator[Destination]:
    """A ``sources.list`` or a ``.sources`` file, comments left out."""
    for line in text.splitlines():
        if not line.lstrip().startswith("#"):
            yield from parse_urls(line)


def merge(destinations: Iterable[Destination]) -> list[Destination]:
    """Each once, sorted."""
    return sorted(set(destinations), key=lambda d: (d.host, d.port or 0))


def _is_name(text: str) -> bool:
    # A dotted string of digits only is a broken address, not a name.
    return bool(_HOST_NAME.fullmatch(text)) and not text.replace(".", "").isdecimal()
