from typing import Any

import pytest
from jupyter_client.session import Session

from atoll_guest.interpreter import jupyter


def test_a_real_jupyter_session_reads_our_signed_request() -> None:
    frames = jupyter.encode(
        "execute_request",
        {"code": "é"},
        session="s",
        date="2026-01-01T00:00:00+00:00",
        key=b"k",
        message_id="m1",
    )
    session = Session(key=b"k")
    _, parts = session.feed_identities(frames)
    message = session.deserialize(parts)
    assert (message["msg_id"], message["msg_type"], message["content"]) == (
        "m1",
        "execute_request",
        {"code": "é"},
    )


def test_we_read_what_a_real_jupyter_session_writes() -> None:
    session: Any = Session(key=b"k")
    parent = session.msg("execute_request")
    frames = [
        b"topic",
        *session.serialize(session.msg("stream", {"name": "stdout", "text": "x"}, parent=parent)),
    ]
    message = jupyter.decode(frames)
    assert (message.kind, message.parent_id, message.content["text"]) == ("stream", parent["msg_id"], "x")
    assert message.date


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b"<IDS|MSG>"],
        [b"<IDS|MSG>", b"", b"{", b"{}", b"{}", b"{}"],
        [b"<IDS|MSG>", b"", b"[]", b"{}", b"{}", b"{}"],
        [b"x", b"y"],
    ],
)
def test_anything_else_is_a_bad_message(frames: list[bytes]) -> None:
    with pytest.raises(jupyter.BadMessage):
        jupyter.decode(frames)
