"""The domain's name → the names of its certificate and the addresses that are listened on. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from atoll_wire.hosts import is_address
from atolld.model.errors import InvalidRequest

_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)", re.ASCII)
_LOOPBACK = ("127.0.0.1", "::1")
_LONGEST = 253 - len("65535-") - 64
"""So that a sandbox's public name still fits into DNS."""


def certificate_names(name: str) -> tuple[str, str]:
    """The names a certificate must hold. Raises :class:`InvalidRequest` when none can hold them."""
    if is_address(name):
        raise InvalidRequest(
            f"{name!r} is an address; https needs a name that every sandbox's host name can end with"
        )
    labels = name.split(".")
    if len(name) > _LONGEST or not all(map(_LABEL.fullmatch, labels)):
        raise InvalidRequest(f"{name!r} is no DNS name: give one such as sandbox.example.org, lower case")
    if len(labels) < 2:
        raise InvalidRequest(
            f"clients refuse a wildcard right under a top label (*.{name}): "
            f"take a longer domain, such as atoll.{name}"
        )
    return name, f"*.{name}"


def is_local(name: str) -> bool:
    """Whether ``name`` means this machine to every resolver that follows RFC 6761, and nobody else's."""
    return name.endswith(".localhost")


def listen_addresses(name: str, host: str | None) -> Sequence[str]:
    """Addresses to bind; an empty one stands for all of both families.

    ``::1`` is a must below ``.localhost``: resolvers name it first.
    """
    if host in ("0.0.0.0", "::", "*"):
        return ("",)
    if host in ("localhost", *_LOOPBACK):
        return _LOOPBACK
    if host:
        return (host,)
    return _LOOPBACK if is_local(name) else ("",)
