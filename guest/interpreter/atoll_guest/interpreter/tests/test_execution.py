"""What an execution tells, whichever of the kernel's sockets is read first."""

from typing import Any, cast

import pytest

from atoll_guest.interpreter.execution import emit_events
from atoll_guest.interpreter.jupyter import Message
from atoll_guest.interpreter.kernel import Output, Reply, Running

_DATE = "2026-12-01T00:00:00Z"
_RESULT = Output(
    Message("display_data", "1", _DATE, {"data": {"text/plain": "plot"}, "metadata": {}}, metadata={})
)
_REPLY = Reply(Message("execute_reply", "1", _DATE, {"status": "ok", "payload": []}, metadata={}))


class Told:
    """A request whose messages are there already."""

    displays_values = True

    def __init__(self, *items: Output | Reply) -> None:
        self._items = list(items)

    async def next(self) -> Output | Reply | None:
        return self._items.pop(0) if self._items else None


@pytest.mark.parametrize("items", [(_RESULT, _REPLY), (_REPLY, _RESULT)])
async def test_a_result_beside_the_reply_is_never_lost(items: tuple[Output | Reply, ...]) -> None:
    events: list[Any] = []

    async def note(event: Any) -> None:
        events.append(event)

    await emit_events(cast("Running", Told(*items)), note, 1 << 20, "r")
    assert [(event["text"], event["is_main_result"]) for event in events if event["type"] == "result"] == [
        ("plot", True)
    ]
