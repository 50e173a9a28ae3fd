"""Whose a range of addresses is, from what the machine's routes say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from ipaddress import IPv4Network
from typing import Any

import pytest

from atolld.node.linux import netns

_LINKS = {1: "lo", 2: "eth0", 3: f"{netns.LINK_PREFIX}0adb0005"}
_GONE = 99


class _Routes:
    """Netlink's face, as far as it is asked for routes."""

    def __init__(self, destination: str, index: int | None) -> None:
        address, length = destination.split("/")
        self._route = {"dst": address, "dst_len": int(length), "type": 1, "oif": index}

    async def route(self, *_: object, **__: object) -> AsyncIterator[dict[str, Any]]:
        async def rows() -> AsyncIterator[dict[str, Any]]:
            yield self._route

        return rows()


@pytest.mark.parametrize(
    ("destination", "index", "told"),
    [
        ("10.219.0.0/24", 2, "10.219.0.0/24 at eth0"),
        ("10.0.0.0/8", None, "10.0.0.0/8 at no interface"),
        ("10.219.0.4/30", 3, None),
        ("192.168.0.0/16", 2, None),
        ("10.219.0.4/30", _GONE, None),
    ],
    ids=["another's", "no link's", "ours", "elsewhere", "of a link that just went"],
)
async def test_only_routes_of_others_are_in_the_way(
    monkeypatch: pytest.MonkeyPatch, destination: str, index: int | None, told: str | None
) -> None:
    def name(number: int) -> str:
        if number not in _LINKS:
            raise OSError("no such device")
        return _LINKS[number]

    monkeypatch.setattr(netns.socket, "if_indextoname", name)
    routes: Any = _Routes(destination, index)
    assert await netns.find_overlap(routes, IPv4Network("10.219.0.0/18")) == told
