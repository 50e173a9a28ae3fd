"""Request head → who gets it. Pure; nothing else in the server decides this.

A host label ``<port>-<sandboxID>`` on any domain names a sandbox. The two routing headers do so only on a
host that all sandboxes share: localhost, an address, ``sandbox.…``, or a name of our own. Everything else is
the control API's.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from atoll_wire.hosts import (
    ENVD_PORT,
    SANDBOX_ID_HEADER,
    SANDBOX_PORT_HEADER,
    is_address,
    parse_port,
    parse_routing_headers,
    parse_sandbox_host,
)
from atolld.model.routes import Route
from atolld.model.sandbox import SandboxId
from atolld.proxy import errors
from atolld.proxy.errors import Refusal
from atolld.proxy.heads import RequestHead

_HOST = re.compile(r"([a-z0-9._-]+|\[[0-9a-f:.%a-z]+\])(?::([0-9]{0,5}))?", re.ASCII)
_NAMES_A_PORT = re.compile(r"([0-9]+)-[^.]*\.", re.ASCII)
_ID_HEADER = SANDBOX_ID_HEADER.lower().encode()
_PORT_HEADER = SANDBOX_PORT_HEADER.lower().encode()
_ENVD_TOKEN_HEADER = b"x-access-token"
_TOKEN_HEADER = errors.TRAFFIC_TOKEN_HEADER.encode()

_RESERVED = frozenset(
    (b"init", b"freeze", b"unfreeze", b"collapse", b"fsfreeze", b"fsthaw", b"upgrade", b"tunnel")
)
"""First path segments of envd that only its host may call; envd asks for the host's signature besides, and
for the tunnel the sandbox's token."""


@dataclass(frozen=True, slots=True)
class ToApi:
    pass


@dataclass(frozen=True, slots=True)
class ToSandbox:
    sandbox_id: SandboxId
    port: int


Decision = ToApi | ToSandbox | Refusal


def host_names(own_hosts: Collection[str]) -> frozenset[str]:
    """Our names as :func:`decide` compares them: lower case, with and without their port."""
    lower = [host.lower() for host in own_hosts]
    return frozenset(lower) | {_without_port(host) for host in lower}


def decide(head: RequestHead, own_hosts: frozenset[str]) -> Decision:
    host = head.host.decode("latin-1").lower()
    if host and not _HOST.fullmatch(host):
        return _invalid("host")
    name = _without_port(host)
    if host in own_hosts or name in own_hosts:
        return _by_headers(head)
    if labelled := _NAMES_A_PORT.match(host):
        return _by_label(host, labelled[1])
    return _by_headers(head) if _is_shared(name) else ToApi()


def admit(to: ToSandbox, head: RequestHead, route: Route) -> Refusal | None:
    """Why the sandbox does not take this request from just anyone; ``None`` when it does."""
    if route.allow_public or to.port == ENVD_PORT:
        return None
    tokens = head.values(_TOKEN_HEADER)
    if not tokens:
        return errors.token_missing(to.sandbox_id)
    given, expected = hashlib.sha256(tokens[0]).hexdigest(), route.traffic_token_sha256 or ""
    return None if hmac.compare_digest(given, expected) else errors.token_invalid(to.sandbox_id)


def may_wake(to: ToSandbox, head: RequestHead, route: Route) -> Refusal | None:
    """Why the request does not resume a sandbox that sleeps; ``None`` when it does. Only who may use a port
    can make the machine work for it, so envd's token is looked at here, and here alone."""
    if to.port != ENVD_PORT:
        return admit(to, head, route)
    given = (head.values(_ENVD_TOKEN_HEADER) or [b""])[0]
    if route.envd_token is None or hmac.compare_digest(given, route.envd_token.encode()):
        return None
    return errors.may_not_wake(to.sandbox_id)


def is_reserved(to: ToSandbox, target: bytes) -> bool:
    """Whether envd could read ``target`` as one of its host's routes, however the path is spelled."""
    if to.port != ENVD_PORT:
        return False
    path, decoded = b"", _before_query(target)
    while decoded != path:
        path, decoded = decoded, unquote_to_bytes(decoded)
    path = path.replace(b"\\", b"/").lower()
    return not _RESERVED.isdisjoint((_first_segment(path), _first_segment(_before_query(path))))


def _before_query(target: bytes) -> bytes:
    return re.split(rb"[?#]", target, maxsplit=1)[0]


def _first_segment(path: bytes) -> bytes:
    kept: list[bytes] = []
    for segment in path.split(b"/"):
        bare = segment.partition(b";")[0].strip(b" \t\r\n\0")
        if bare == b"..":
            kept = kept[:-1]
        elif bare not in (b"", b"."):
            kept.append(bare)
    return kept[0] if kept else b""


def _by_label(host: str, port: str) -> Decision:
    named = parse_sandbox_host(host)
    if named is not None:
        return ToSandbox(SandboxId(named[1]), named[0])
    return _invalid("sandbox port") if parse_port(port) is None else _invalid("sandbox ID")


def _by_headers(head: RequestHead) -> Decision:
    ids, ports = head.values(_ID_HEADER), head.values(_PORT_HEADER)
    if not ids and not ports:
        return ToApi()
    if not ids or not ports:
        return Refusal(400, "missing header", text=True)
    port = ports[0].decode("latin-1")
    if len(ports) > 1 or parse_port(port) is None:
        return _invalid("sandbox port")
    named = None if len(ids) > 1 else parse_routing_headers(ids[0].decode("latin-1"), port)
    return _invalid("sandbox ID") if named is None else ToSandbox(SandboxId(named[1]), named[0])


def _is_shared(name: str) -> bool:
    return name == "localhost" or name.startswith("sandbox.") or is_address(name)


def _without_port(host: str) -> str:
    found = _HOST.fullmatch(host)
    return found[1] if found else host


def _invalid(what: str) -> Refusal:
    return Refusal(400, f"Invalid {what}", text=True)
