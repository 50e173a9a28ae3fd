"""After ``101 Switching Protocols`` (WebSocket and its like): a tunnel, raw both ways, half-close passed
on."""

from __future__ import annotations

import asyncio

from atolld.proxy.framing import UntilClose
from atolld.proxy.relay import Pour, Side


async def run_tunnel(client: Side, upstream: Side, lead: bytes) -> None:
    """Until both directions have ended, or either connection is gone. ``lead`` is the head of the answer."""
    down = Pour(upstream, client, UntilClose(), lead)
    up = Pour(client, upstream, UntilClose())
    down.done.add_done_callback(lambda _: _end(upstream, client))
    up.done.add_done_callback(lambda _: _end(client, upstream))
    await asyncio.wait((down.done, up.done))


def _end(ended: Side, other: Side) -> None:
    if ended.lost:
        other.close()
    else:
        other.half_close()
        other.cut_when_quiet()
