"""Where the front door sends a sandbox's traffic.

One table in memory, written by ``control`` and read by ``proxy`` for every request: no lock, no database. It
holds running sandboxes only; what is not here either sleeps or does not exist.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from atolld.model.sandbox import SandboxId


@dataclass(frozen=True, slots=True)
class Route:
    """``address`` is the guest's IPv4 address, reachable from this machine; every port is the guest's own."""

    address: str
    envd_token: str | None = None
    """What envd wants in ``X-Access-Token``; ``None`` for a sandbox made without ``secure``."""


class Routes:
    def __init__(self) -> None:
        self._routes: dict[SandboxId, Route] = {}

    def get(self, sandbox_id: SandboxId) -> Route | None:
        return self._routes.get(sandbox_id)

    def publish(self, sandbox_id: SandboxId, route: Route) -> None:
        self._routes[sandbox_id] = route

    def withdraw(self, sandbox_id: SandboxId) -> None:
        """Idempotent."""
        self._routes.pop(sandbox_id, None)

    def __contains__(self, sandbox_id: object) -> bool:
        return sandbox_id in self._routes

    def __iter__(self) -> Iterator[SandboxId]:
        return iter(tuple(self._routes))

    def __len__(self) -> int:
        return len(self._routes)
