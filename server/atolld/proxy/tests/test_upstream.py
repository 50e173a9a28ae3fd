"""The pool of connections, apart from any client."""

from __future__ import annotations

import asyncio

import pytest

from atolld.model.routes import Route, Routes
from atolld.model.sandbox import SandboxId
from atolld.proxy.errors import Refused
from atolld.proxy.upstream import CONNECT_SECONDS, Destination, Pool, Upstream

GONE = SandboxId("igone")


class Silent(Pool):
    """Nobody answers at the address, and nobody refuses."""

    async def _connect(self, to: Destination) -> Upstream:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")


async def test_a_connection_attempt_ends_with_the_sandbox() -> None:
    routes = Routes()
    routes.publish(GONE, Route("127.0.0.9"))
    attempt = asyncio.create_task(Silent(routes).connect(Destination(GONE, "127.0.0.9", 80)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    async with asyncio.timeout(CONNECT_SECONDS / 2):
        routes.withdraw(GONE)
        with pytest.raises(Refused) as refused:
            await attempt
    assert "was not found" in refused.value.refusal.message


async def test_a_caller_that_leaves_takes_its_attempt_along() -> None:
    routes = Routes()
    routes.publish(GONE, Route("127.0.0.9"))
    attempt = asyncio.create_task(Silent(routes).connect(Destination(GONE, "127.0.0.9", 80)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    assert asyncio.all_tasks() == {asyncio.current_task()}
