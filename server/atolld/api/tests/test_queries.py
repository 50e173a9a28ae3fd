from __future__ import annotations

from datetime import datetime, timedelta, timezone
from urllib.parse import quote, unquote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atolld.api.queries import encode_cursor, parse_cursor, parse_list_query, parse_metadata_filter
from atolld.model.errors import InvalidRequest
from atolld.model.records import Cursor
from atolld.model.sandbox import ASLEEP, UP, new_sandbox_id

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(st.dictionaries(_TEXT, _TEXT, min_size=1))
def test_any_metadata_survives_the_three_encodings(metadata: dict[str, str]) -> None:
    inner = {quote(key): quote(value) for key, value in metadata.items()}
    as_sent = quote(urlencode(inner), safe="")
    assert parse_metadata_filter(unquote(as_sent)) == metadata


@given(st.datetimes(timezones=st.just(timezone(timedelta(hours=2)))), st.booleans())
def test_a_cursor_comes_back(moment: datetime, ascending: bool) -> None:
    cursor = Cursor(moment, new_sandbox_id())
    assert parse_cursor(encode_cursor(cursor, ascending=ascending), ascending=ascending) == cursor
    with pytest.raises(InvalidRequest):
        parse_cursor(encode_cursor(cursor, ascending=ascending), ascending=not ascending)


@given(st.text())
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_cursor(text, ascending=False)


def test_without_a_query_all_that_runs_or_sleeps_is_shown() -> None:
    query = parse_list_query({})
    assert (query.states, query.limit, query.ascending) == (UP | ASLEEP, 100, False)
    assert parse_list_query({"state": "paused"}).states == ASLEEP
