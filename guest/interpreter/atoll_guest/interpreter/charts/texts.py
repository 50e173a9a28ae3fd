"""Titles, labels and their units; numbers as JSON has them."""

import math
import re
from typing import Any

Chart = dict[str, Any]

_UNIT = re.compile(r"\s\((?P<round>[^()]*)\)|\[(?P<square>[^\[\]]*)\]")


def text_or_none(text: str) -> str | None:
    return text or None


def unit_of(label: str) -> str | None:
    """The text in ` (…)` or `[…]` of a label."""
    match = _UNIT.search(label)
    if match is None:
        return None
    return text_or_none((match["round"] or match["square"] or "").strip())


def labels(axes: Any) -> Chart:
    """Title, labels and units: the first keys of every two-dimensional chart."""
    x_label, y_label = axes.get_xlabel(), axes.get_ylabel()
    return {
        "title": text_or_none(axes.get_title()),
        "x_label": text_or_none(x_label),
        "y_label": text_or_none(y_label),
        "x_unit": unit_of(x_label),
        "y_unit": unit_of(y_label),
    }


def number(value: Any) -> Any:
    """A Python number; None for NaN, infinities and masked values."""
    plain = value.item() if hasattr(value, "item") else value
    if isinstance(plain, float) and not math.isfinite(plain):
        return None
    return plain
