"""The part of a sandbox's ``network`` that is about its ports: who may reach them, and how they are asked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType, field

from atoll_wire.hosts import ENVD_PORT
from atolld.model.errors import InvalidRequest
from atolld.model.records import SandboxRecord

_HOST = re.compile(r"([A-Za-z0-9._-]|\$\{PORT\})+(:([0-9]{1,5}|\$\{PORT\}))?", re.ASCII)
_LONGEST = 253


class PortsBody(msgspec.Struct, omit_defaults=True):
    allow_public_traffic: bool | None = field(name="allowPublicTraffic", default=None)
    mask_request_host: str | None = field(name="maskRequestHost", default=None)
    """``${PORT}`` in it stands for the port that is asked for."""
    https_ports: list[int] | None = field(name="httpsPorts", default=None)


PORTS_FIELDS = frozenset(each.encode_name for each in msgspec.structs.fields(PortsBody))


def parse_ports(network: Mapping[str, Any]) -> PortsBody:
    """Other fields of ``network`` are somebody else's. Raises :class:`InvalidRequest`."""
    try:
        ports = msgspec.convert({name: network[name] for name in PORTS_FIELDS & network.keys()}, PortsBody)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"Invalid network: {error}") from error
    mask = ports.mask_request_host
    if mask and (len(mask) > _LONGEST or not _HOST.fullmatch(mask)):
        raise InvalidRequest(
            "maskRequestHost is no host name: give ASCII letters, digits, dots and dashes, perhaps a port"
        )
    for port in ports.https_ports or ():
        if not 1 <= port <= 65535 or port == ENVD_PORT:
            raise InvalidRequest(f"httpsPorts cannot hold {port}: give ports of yours, 1 to 65535")
    return ports


def encode_ports(record: SandboxRecord) -> PortsBody | UnsetType:
    """What was asked for; absent when nothing was."""
    ports = PortsBody(
        allow_public_traffic=None if record.traffic_token is None else False,
        mask_request_host=record.mask_host,
        https_ports=sorted(record.https_ports) or None,
    )
    return UNSET if ports == PortsBody() else ports
