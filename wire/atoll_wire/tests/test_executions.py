import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_wire import executions
from atoll_wire.executions import (
    FORMATS,
    Count,
    End,
    Event,
    Failure,
    Keepalive,
    LineDecoder,
    Request,
    Result,
    Stderr,
    Stdout,
)
from atoll_wire.values import WireError

TEXTS = st.text(max_size=30)
EVENTS = st.one_of(
    st.builds(Count, st.integers(0, 10**6)),
    st.builds(Stdout, TEXTS, TEXTS),
    st.builds(Stderr, TEXTS, TEXTS),
    st.builds(
        Result,
        st.dictionaries(st.sampled_from(FORMATS), TEXTS | st.dictionaries(TEXTS, st.integers())),
        st.booleans(),
        st.dictionaries(TEXTS, TEXTS, max_size=2),
    ),
    st.builds(Failure, TEXTS, TEXTS, TEXTS),
    st.just(Keepalive()),
    st.just(End()),
)


@given(st.lists(EVENTS, max_size=6), st.data())
def test_events_come_out_whole_wherever_the_bytes_are_split(events: list[Event], data: st.DataObject) -> None:
    body = b"".join(executions.encode_event(event) for event in events)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=10)))
    decoder = LineDecoder()
    lines: list[bytes] = []
    for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True):
        lines += decoder.feed(body[start:end])
    assert [executions.parse_event(line) for line in lines] == events
    assert decoder.pending == 0


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ({"type": "number_of_executions", "execution_count": 1}, Count(1)),
        ({"type": "stdout", "text": "a\n", "timestamp": "2026-01-01T00:00:00Z"}, None),
        ({"type": "result", "text": "2", "is_main_result": True, "extra": {}}, Result({"text": "2"}, True)),
        ({"type": "result", "chart": {}, "png": None}, Result({"chart": {}})),
        ({"type": "error", "name": "E", "value": "v", "traceback": "t"}, Failure("E", "v", "t")),
        ({"type": "end_of_execution"}, End()),
    ],
)
def test_lines_as_they_are_on_the_wire(line: object, expected: Event | None) -> None:
    event = executions.parse_event(json.dumps(line))
    assert event == (expected or Stdout("a\n", "2026-01-01T00:00:00Z"))


def test_a_line_of_an_unknown_type_is_none() -> None:
    assert executions.parse_event('{"type":"progress"}') is None


@pytest.mark.parametrize("line", ["", "null", '{"type":"stdout","text":1}', '{"type":"result","extra":[]}'])
def test_a_line_that_is_garbage_is_an_error(line: str) -> None:
    with pytest.raises(WireError):
        executions.parse_event(line)


def test_a_body_that_is_cut_off_leaves_bytes_pending() -> None:
    decoder = LineDecoder()
    assert decoder.feed(b'{"type":"end_of_exe') == []
    assert decoder.pending == 19


def test_a_line_without_end_is_refused() -> None:
    decoder = LineDecoder(max_line=10)
    decoder.feed(b"123456\n789")
    with pytest.raises(WireError, match="more than 10"):
        decoder.feed(b"12345678")


def test_a_request_leaves_out_what_is_not_given() -> None:
    assert json.loads(executions.encode_request(Request("1+1"))) == {"code": "1+1"}
    assert json.loads(executions.encode_request(Request("1", "c", None, {"A": "b"}))) == {
        "code": "1",
        "context_id": "c",
        "env_vars": {"A": "b"},
    }
