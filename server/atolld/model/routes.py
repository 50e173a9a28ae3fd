"""Where the front door sends a sandbox's traffic.

One table in memory, written by ``control`` and read by ``proxy`` for every request: no lock, no database. It
holds running sandboxes, and those asleep that traffic may resume.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from atolld.model.sandbox import SandboxId


@dataclass(frozen=True, slots=True)
class Route:
    """``address`` is the guest's IPv4 address, reachable from this machine; every port is the guest's own."""

    address: str
    envd_token: str | None = None
    """What envd wants in ``X-Access-Token``; ``None`` for a sandbox made without ``secure``."""
    allow_public: bool = True
    """``False``: every port but envd's wants the traffic token."""
    traffic_token_sha256: str | None = None
    """Lower-case hex of the traffic token's hash; ``None`` with ``allow_public=False`` lets nobody in."""
    mask_host: str | None = None
    """The Host that services see instead of the public one; ``${PORT}`` in it stands for their port."""
    https_ports: frozenset[int] = frozenset()
    """Ports whose services speak TLS themselves."""


class Routes:
    def __init__(self) -> None:
        self._routes: dict[SandboxId, Route] = {}
        self._asleep: dict[SandboxId, Route] = {}
        self._watchers: list[Callable[[SandboxId], None]] = []

    def watch(self, moved: Callable[[SandboxId], None]) -> None:
        """``moved`` is called when a sandbox is no longer where its route said: its connections lead nowhere,
        or, once its address is leased again, to another sandbox."""
        self._watchers.append(moved)

    def get(self, sandbox_id: SandboxId) -> Route | None:
        return self._routes.get(sandbox_id)

    def publish(self, sandbox_id: SandboxId, route: Route) -> None:
        before = self._routes.get(sandbox_id)
        self._asleep.pop(sandbox_id, None)
        self._routes[sandbox_id] = route
        if before is not None and before.address != route.address:
            self._tell(sandbox_id)

    def asleep(self, sandbox_id: SandboxId) -> Route | None:
        """What a sandbox that traffic may resume wants to see first; its address is empty."""
        return self._asleep.get(sandbox_id)

    def lay_down(self, sandbox_id: SandboxId, route: Route | None) -> None:
        """It sleeps now; with a ``route``, traffic may resume it."""
        self.withdraw(sandbox_id)
        if route is not None:
            self._asleep[sandbox_id] = route

    def withdraw(self, sandbox_id: SandboxId) -> None:
        """Idempotent."""
        self._asleep.pop(sandbox_id, None)
        if self._routes.pop(sandbox_id, None) is not None:
            self._tell(sandbox_id)

    def __contains__(self, sandbox_id: object) -> bool:
        return sandbox_id in self._routes

    def __iter__(self) -> Iterator[SandboxId]:
        return iter(tuple(self._routes))

    def __len__(self) -> int:
        return len(self._routes)

    def _tell(self, sandbox_id: SandboxId) -> None:
        for moved in self._watchers:
            moved(sandbox_id)
