import datetime
import decimal
import json
from typing import Any

import numpy as np
import pandas as pd  # pyright: ignore[reportMissingTypeStubs]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_guest.interpreter.python_kernel import formatters
from atoll_guest.interpreter.python_kernel.plain import NotPlain, to_plain

NOW = datetime.datetime(2024, 1, 2, 3, 4, 5)
TABLE: list[tuple[Any, Any]] = [
    (None, None),
    (True, True),
    (10**30, 10**30),
    (float("nan"), None),
    (float("-inf"), None),
    ((1, [2]), [1, [2]]),
    ({True: 4, None: 3, (1, "a"): 5, 1.5: 6}, {"true": 4, "null": 3, "1, a": 5, "1.5": 6}),
    (NOW, "2024-01-02T03:04:05"),
    (NOW.date(), "2024-01-02"),
    (decimal.Decimal("1.5"), 1.5),
    (np.int64(3), 3),
    (np.float32(0.5), 0.5),
    (np.bool_(True), True),
    (np.array([[1.0, np.nan]]), [[1.0, None]]),
    (np.array(["2024-01-02", "NaT"], "datetime64[D]"), ["2024-01-02T00:00:00.000000", None]),
    (np.array([1, "x"], object), [1, "x"]),
    (pd.Timestamp(NOW), "2024-01-02T03:04:05"),
    (pd.NaT, None),
    (pd.NA, None),
]


@pytest.mark.parametrize(("value", "plain"), TABLE, ids=[repr(row[0])[:30] for row in TABLE])
def test_a_value_has_its_json_form(value: Any, plain: Any) -> None:
    assert to_plain(value) == plain


def test_keys_that_read_the_same_are_one_key() -> None:
    assert to_plain({1: "a", "1": "b"}) == {"1": "b"}


@pytest.mark.parametrize("value", [object(), b"x", {"a": {1}}, 1j])
def test_other_values_have_none(value: Any) -> None:
    with pytest.raises(NotPlain):
        to_plain(value)


def test_a_list_within_itself_has_none() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert formatters.json_value(loop) is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates() | st.datetimes(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers() | st.floats(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_the_result_is_always_valid_json(value: Any) -> None:
    json.dumps(to_plain(value), allow_nan=False)


def test_a_table_keeps_every_column_and_value() -> None:
    frame = pd.DataFrame(
        [[1, 1.5, "a", pd.Timestamp(NOW)], [2, None, None, pd.NaT]], columns=["n", "n", "s", ("t", 1)]
    )
    assert formatters.table(frame) == {
        "n": [1, 2],
        "n.1": [1.5, None],
        "s": ["a", None],
        "t, 1": ["2024-01-02T03:04:05", None],
    }


def test_a_value_without_json_form_is_its_text_in_a_table() -> None:
    assert formatters.table(pd.DataFrame({"a": [{1, 2}]})) == {"a": ["{1, 2}"]}
