"""What this host passes on to its sandboxes: resolver, certificates, and the private addresses they may
reach."""

from __future__ import annotations

import base64
import binascii
import os
import re
import socket
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from atolld.node import egress
from atolld.node.egress import Destination

_RESOLV_CONF = Path("/etc/resolv.conf")
_SYSTEMD_RESOLV_CONF = Path("/run/systemd/resolve/resolv.conf")
_PIP_FILES = ("/etc/pip.conf", "~/.config/pip/pip.conf", "~/.pip/pip.conf")
_NPM_FILES = ("/etc/npmrc", "~/.npmrc")
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
)
_DISTRIBUTED = ("/usr/share/ca-certificates", "/usr/share/pki/ca-trust-source")
"""Where the distribution's own certificates lie: every template has these already."""
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Surroundings:
    guest_files: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    """Path inside → contents, written into every sandbox before it is handed out."""
    ca_bundle: str = ""
    """PEM of the certificates this host trusts beyond its distribution's; guests trust them too."""
    allowances: frozenset[str] = frozenset()
    """``network`` or ``network:port`` that sandboxes may reach although its range is closed."""

    @property
    def digest(self) -> str:
        """Of what lies inside a sandbox, lower-case hex: one that has it already needs no visit."""
        inside = sha256(self.ca_bundle.encode())
        for path, content in sorted(self.guest_files.items()):
            inside.update(f"\0{path}\0{len(content)}\0".encode() + content)
        return inside.hexdigest()


def look_around(allow_egress: Iterable[str] | None, environ: Mapping[str, str]) -> Surroundings:
    """Reads it all now; blocks for the look-ups of names. ``allow_egress`` ``None``: what the host is set
    up for.

    Raises :class:`~atolld.model.errors.InvalidRequest` when a destination of the operator is none.
    """
    resolv_conf = _read_resolv_conf()
    if allow_egress is None:
        destinations = _own_destinations(resolv_conf, environ)
    else:
        destinations = egress.merge(egress.parse_destination(text) for text in allow_egress)
    return Surroundings(
        guest_files={"/etc/resolv.conf": resolv_conf.encode()},
        ca_bundle=_read_own_certificates(),
        allowances=_resolve(destinations),
    )


def own_certificates(bundle: str, distributed: str) -> str:
    """The certificates of ``bundle`` that are not in ``distributed``, as PEM."""
    known = {_certificate_bytes(body) for body in _CERTIFICATE.findall(distributed)}
    own = (m for m in _CERTIFICATE.finditer(bundle) if _certificate_bytes(m.group(1)) not in known)
    return "".join(f"{match.group(0)}\n" for match in own)


def _read_resolv_conf() -> str:
    text = _read(_RESOLV_CONF)
    upstream = _read(_SYSTEMD_RESOLV_CONF)
    return upstream if upstream and egress.is_loopback_only(text) else text


def _own_destinations(resolv_conf: str, environ: Mapping[str, str]) -> list[Destination]:
    apt = [
        Path("/etc/apt/sources.list"),
        *_list(Path("/etc/apt/sources.list.d")),
        *_list(Path("/etc/apt/mirrors")),
    ]
    found: list[Destination] = [
        *(Destination(server, egress.DNS_PORT) for server in egress.parse_name_servers(resolv_conf)),
        *egress.destinations_of_environment(environ),
    ]
    for name in (*_PIP_FILES, environ.get("PIP_CONFIG_FILE", "")):
        found += egress.destinations_of_pip(_read(Path(name).expanduser())) if name else ()
    for name in _NPM_FILES:
        found += egress.destinations_of_npm(_read(Path(name).expanduser()))
    for path in apt:
        found += egress.destinations_of_apt(_read(path))
    return egress.merge(found)


def _resolve(destinations: list[Destination]) -> frozenset[str]:
    """Addresses and ports; names that do not resolve now are left out."""
    if not destinations:
        return frozenset()
    with ThreadPoolExecutor(max_workers=8) as pool:
        networks = pool.map(_networks_of, (d.host for d in destinations))
        return frozenset(
            network if destination.port is None else f"{network}:{destination.port}"
            for destination, found in zip(destinations, networks, strict=True)
            for network in found
        )


def _networks_of(host: str) -> list[str]:
    if egress.is_network(host):
        return [host]
    try:
        answers = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
    except OSError:
        return []
    return sorted({str(address[0]) for *_, address in answers})


def _read_own_certificates() -> str:
    bundle = next((text for name in _BUNDLES if (text := _read(Path(name)))), "")
    files = [
        Path(folder) / name
        for root in _DISTRIBUTED
        for folder, _, names in os.walk(root)
        for name in names
        if name.endswith((".crt", ".pem", ".p11-kit"))
    ]
    distributed = "\n".join(_read(path) for path in files)
    return own_certificates(bundle, distributed) if distributed else ""


def _certificate_bytes(body: str) -> bytes:
    try:
        return base64.b64decode("".join(body.split()))
    except (binascii.Error, ValueError):
        return body.encode()


def _list(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if path.is_file()) if directory.is_dir() else []


def _read(path: Path) -> str:
    """The file's text; empty when it cannot be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
