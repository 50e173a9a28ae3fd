"""Certificates by ACME: the operator's file, and whether this Caddy can do what it asks for.

The file (TOML, or JSON when it ends with ``.json``) is one issuer in Caddy's own words
(https://caddyserver.com/docs/json/apps/tls/automation/policies/issuers/acme/), for example::

    module = "acme"
    email = "ops@example.org"
    [challenges.dns.provider]
    name = "cloudflare"
    api_token = "{env.CF_API_TOKEN}"

A certificate for ``*.<domain>`` is given for a DNS challenge only, and Caddy's DNS providers are modules that
are compiled in. The wheel's Caddy is the standard one and has none: ``ATOLL_CADDY`` names a Caddy that has
(``xcaddy build --with github.com/caddy-dns/<provider>``).
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, cast

from atolld.model.errors import InvalidRequest
from atolld.tls.caddy import AcmeIssuer

_PROVIDERS = "dns.providers."


def read_issuer(path: Path) -> AcmeIssuer:
    """Raises :class:`InvalidRequest` when the file cannot be read or names no DNS provider."""
    try:
        text = path.read_text()
        parsed: object = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"the ACME file {path} cannot be used: {error}") from error
    issuer = AcmeIssuer({"module": "acme", **_table(parsed)})
    if provider_name(issuer) is None:
        raise InvalidRequest(
            f"the ACME file {path} names no challenges.dns.provider.name: a certificate for "
            "every sandbox's host name is given for a DNS challenge only; name one, or give files of your own"
        )
    return issuer


def provider_name(issuer: AcmeIssuer) -> str | None:
    node: Mapping[str, Any] = issuer.issuer
    for step in ("challenges", "dns", "provider"):
        node = _table(node.get(step))
    name = node.get("name")
    return name if isinstance(name, str) and name else None


def check_provider(issuer: AcmeIssuer, modules: Collection[str], caddy: Path) -> None:
    """``modules``: as ``caddy list-modules`` prints them. Raises :class:`InvalidRequest` when missing."""
    name = provider_name(issuer)
    if f"{_PROVIDERS}{name}" in modules:
        return
    known = sorted(module.removeprefix(_PROVIDERS) for module in modules if module.startswith(_PROVIDERS))
    raise InvalidRequest(
        f"{caddy} has no DNS provider {name!r} (it has {', '.join(known) or 'none'}): build one that has it, "
        f"`xcaddy build --with github.com/caddy-dns/{name}`, and set ATOLL_CADDY to it; or let another ACME "
        "client make certificate files and give them by --cert and --key"
    )


def _table(value: object) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], value) if isinstance(value, dict) else {}
