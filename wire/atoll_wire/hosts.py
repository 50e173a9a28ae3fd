"""How a sandbox's port is named: ``<port>-<sandboxID>.<domain>``, or two headers on a shared host name."""

from __future__ import annotations

import re
from ipaddress import ip_address

SANDBOX_ID_HEADER = "E2b-Sandbox-Id"
SANDBOX_PORT_HEADER = "E2b-Sandbox-Port"
ENVD_PORT = 49983
INTERPRETER_PORT = 49999

# The label may go on after the id (`-clientID`, from old clients); what follows is ignored.
_LABEL = re.compile(r"([0-9]{1,5})-([a-z0-9]{1,64})(?:-[a-z0-9-]*)?", re.ASCII)
_SANDBOX_ID = re.compile(r"[a-z0-9]{1,64}", re.ASCII)


def parse_sandbox_host(host: str) -> tuple[int, str] | None:
    """Port and sandbox id in a Host header, whatever the domain; ``None`` when it names no sandbox."""
    label, dot, _ = host.lower().partition(".")
    found = _LABEL.fullmatch(label)
    if not dot or found is None:
        return None
    port = parse_port(found[1])
    return None if port is None else (port, found[2])


def sandbox_host(port: int, sandbox_id: str, domain: str) -> str:
    return f"{port}-{sandbox_id}.{domain}"


def is_address(host: str) -> bool:
    """Whether a host, without its port, is an IP literal; IPv6 with or without brackets."""
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def parse_port(text: str) -> int | None:
    """A TCP port, 1 to 65535, in ASCII digits."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 5):
        return None
    port = int(text)
    return port if 1 <= port <= 65535 else None


def parse_routing_headers(sandbox_id: str, port: str) -> tuple[int, str] | None:
    """Port and sandbox id of the values of the two routing headers; ``None`` when they name no sandbox."""
    head, _, _ = sandbox_id.lower().partition("-")
    number = parse_port(port)
    return None if number is None or not _SANDBOX_ID.fullmatch(head) else (number, head)
