"""Settings → Caddy's configuration (its JSON, https://caddyserver.com/docs/json/). Pure.

Certificates come from files, or from ACME; nothing is decided by Caddy's own automatic https, and it never
touches the machine's trust store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_IDLE = "620s"
"""As long as the front door keeps a connection: whoever is behind it sees no difference."""

_FLUSH = "2ms"
"""A body of unknown length, server-sent events and two-way streams are flushed at every write whatever stands
here; this bounds the wait of bodies of a known length. Never -1: Caddy then lets a request run on when its
client is gone (caddyserver/caddy#4922)."""

_STREAM_END = "87600h"
"""New certificates are loaded without ending the WebSockets that are open."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """PEM files; both may be the same."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class AcmeIssuer:
    """One issuer in Caddy's own words, see :mod:`atolld.tls.acme`."""

    issuer: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Layout:
    """All that one Caddy is to do."""

    names: Sequence[str]
    """Of the certificate; the first is the domain's."""
    addresses: Sequence[str]
    port: int
    upstream: str
    """``address:port`` of the front door."""
    certificates: CertificateFiles | AcmeIssuer
    admin_socket: Path
    storage: Path
    log: Path


def plan_config(layout: Layout) -> dict[str, Any]:
    return {
        "admin": {"listen": f"unix//{layout.admin_socket}|0600", "config": {"persist": False}},
        "logging": {"logs": {"default": {"level": "INFO", "writer": _log_file(layout.log)}}},
        "storage": {"module": "file_system", "root": str(layout.storage)},
        "apps": {
            "http": {"servers": {"front": _server(layout)}},
            "tls": _tls(layout),
        },
    }


def listen_names(addresses: Sequence[str], port: int) -> list[str]:
    return [f"tcp/[{address}]:{port}" if ":" in address else f"tcp/{address}:{port}" for address in addresses]


def _server(layout: Layout) -> dict[str, Any]:
    return {
        "listen": listen_names(layout.addresses, layout.port),
        # HTTP/3 needs UDP and none of the clients speaks it.
        "protocols": ["h1", "h2"],
        "automatic_https": {"disable": True},
        "tls_connection_policies": [{"default_sni": layout.names[0]}],
        "read_header_timeout": "60s",
        "idle_timeout": _IDLE,
        "routes": [{"handle": [_proxy(layout.upstream)]}],
    }


def _proxy(upstream: str) -> dict[str, Any]:
    """Host goes through as it came. No time limit on a response: streams may be silent for long."""
    return {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": upstream}],
        "flush_interval": _FLUSH,
        "stream_close_delay": _STREAM_END,
        "transport": {
            "protocol": "http",
            "versions": ["1.1"],
            "dial_timeout": "10s",
            # Else Caddy would ask for gzip itself and unpack it.
            "compression": False,
            "keep_alive": {"idle_timeout": "120s", "max_idle_conns_per_host": 256},
        },
    }


def _tls(layout: Layout) -> dict[str, Any]:
    found = layout.certificates
    if isinstance(found, CertificateFiles):
        files = {"certificate": str(found.certificate), "key": str(found.key)}
        return {"certificates": {"load_files": [files]}}
    policy = {"subjects": list(layout.names), "issuers": [dict(found.issuer)]}
    return {"certificates": {"automate": list(layout.names)}, "automation": {"policies": [policy]}}


def _log_file(path: Path) -> dict[str, Any]:
    return {"output": "file", "filename": str(path), "mode": "0600", "roll_size_mb": 10, "roll_keep": 2}
