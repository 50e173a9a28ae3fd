import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_guest.interpreter import languages, messages
from atoll_guest.interpreter.jupyter import Message

DATE = "2026-01-01T00:00:00+00:00"


def message(kind: str, content: Any) -> Message:
    return Message(kind, "parent", DATE, content, {})


RESULT = {"type": "result", "is_main_result": False}
TABLE: list[tuple[str, Any, list[Any]]] = [
    (
        "stream",
        {"name": "stdout", "text": "a\r"},
        [{"type": "stdout", "text": "a\r", "timestamp": DATE}],
    ),
    ("stream", {"name": "stderr", "text": "b"}, [{"type": "stderr", "text": "b", "timestamp": DATE}]),
    ("execute_input", {"execution_count": 7}, [{"type": "number_of_executions", "execution_count": 7}]),
    (
        "execute_result",
        {"data": {"text/plain": "'it''s'"}},
        [{"type": "result", "is_main_result": True, "text": "it''s", "extra": {}}],
    ),
    (
        "display_data",
        {"data": {"image/png": "aGk=\n", "text/plain": "<Figure>", "x/y": {"a": 1}}},
        [{**RESULT, "png": "aGk=", "text": "<Figure>", "extra": {"x/y": {"a": 1}}}],
    ),
    ("display_data", {"data": {"e2b/chart": {}}}, [{**RESULT, "chart": {}, "extra": {}}]),
    ("display_data", {"data": {"text/html": ["<b>", "</b>"]}}, [{**RESULT, "html": "<b></b>", "extra": {}}]),
    ("display_data", {"data": {"application/json": [1, 2]}}, [{**RESULT, "json": [1, 2], "extra": {}}]),
    ("display_data", {"data": {"application/json": '{"a": 1}'}}, [{**RESULT, "json": {"a": 1}, "extra": {}}]),
    ("display_data", {"data": {"application/json": "7"}}, [{**RESULT, "json": "7", "extra": {}}]),
    ("display_data", {"data": {"image/png": "aG\nk=\n"}}, [{**RESULT, "png": "aGk=", "extra": {}}]),
    ("display_data", {"data": {"text/latex": None}}, [{**RESULT, "extra": {}}]),
    (
        "update_display_data",
        {"data": {"text/plain": "2"}, "transient": {"display_id": "d"}},
        [{**RESULT, "text": "2", "extra": {}, "display_id": "d"}],
    ),
    ("clear_output", {"wait": True}, [{"type": "clear_output", "wait": True}]),
    (
        "error",
        {"ename": "E", "evalue": "\x1b[31mbad\x1b[0m", "traceback": ["\x1b[0;31mone\x1b[0m", "two"]},
        [{"type": "error", "name": "E", "value": "bad", "traceback": "onetwo"}],
    ),
    ("status", {"execution_state": "busy"}, []),
    ("comm_open", {}, []),
]


@pytest.mark.parametrize(
    ("kind", "content", "events"), TABLE, ids=[f"{i}-{row[0]}" for i, row in enumerate(TABLE)]
)
def test_each_message_becomes_its_events(kind: str, content: Any, events: list[Any]) -> None:
    assert messages.to_events(message(kind, content)) == events


@pytest.mark.parametrize("mime", messages.FIELDS)
def test_every_format_has_its_field(mime: str) -> None:
    value: Any = {"k": 1} if mime in ("application/json", "e2b/data", "e2b/chart") else "v"
    (event,) = messages.to_events(message("display_data", {"data": {mime: value}}))
    assert event[messages.FIELDS[mime]] == value
    assert event["extra"] == {}


@pytest.mark.parametrize(
    ("text", "stripped"),
    [("'a'", "a"), ('"a"', "a"), ("''a''", "'a'"), ("'", "'"), ("''", ""), ("'a\"", "'a\""), ("a", "a")],
)
def test_the_quotes_of_a_string_are_stripped_once(text: str, stripped: str) -> None:
    assert messages.strip_quotes(text) == stripped


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KINDS = st.sampled_from(
    ["stream", "execute_result", "display_data", "update_display_data", "error", "status"]
)
CONTENT = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["stdout", "stderr"]) | st.text(),
        "text": st.text(),
        "data": st.dictionaries(st.sampled_from(list(messages.FIELDS)) | st.text(), JSON),
        "ename": JSON,
        "evalue": JSON,
        "traceback": st.none() | st.lists(JSON),
        "transient": st.none() | st.dictionaries(st.text(), JSON),
    },
)


@given(KINDS, CONTENT)
def test_whatever_a_kernel_sends_each_event_is_one_ascii_line_of_json(kind: str, content: Any) -> None:
    for event in messages.to_events(message(kind, content)):
        line = messages.encode_line(event)
        assert line.isascii()
        assert len(line.decode().splitlines()) == 1
        assert line.endswith(b"\n")
        assert json.loads(line) == event


@given(CONTENT, st.sampled_from(languages.BUILT_IN))
def test_an_error_always_has_its_three_texts(content: Any, language: str) -> None:
    event = messages.to_error(content, language)
    assert all(isinstance(event[name], str) for name in ("name", "value", "traceback"))
    assert "\x1b[" not in event["traceback"]


def test_a_help_page_is_a_result() -> None:
    reply = {"payload": [{"source": "page", "data": {"text/plain": "help"}}, {"source": "set_next_input"}]}
    assert messages.pages(reply) == [{**RESULT, "text": "help", "extra": {}}]
