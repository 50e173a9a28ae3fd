"""A Plotly figure's JSON (`{"data": [trace…], "layout": {…}}`) → chart data.

Source: Plotly's figure reference. An array is a list, or since Plotly 6 `{"dtype": "f8", "bdata": base64,
"shape": "2, 3"}` in the byte order of the machine (little-endian).
"""

import array
import base64
import sys
from collections.abc import Mapping, Sequence
from typing import Any, cast

from .shapes import Axis, Chart, Plot, box, chart_of, grouped, mapping, series, slices, superchart, text_of

_TYPE_CODES = {
    **{"i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I"},
    **{"i8": "q", "u8": "Q", "f4": "f", "f8": "d"},
}
_SCALES = {"log": "log", "date": "datetime", "category": "categorical", "multicategory": "categorical"}


def plotly_chart(figure: Mapping[str, Any]) -> Chart:
    """{} for an empty figure. May raise on figures nobody has thought of: the caller shields the user."""
    layout = mapping(figure.get("layout"))
    title = _title(layout.get("title"))
    plots: dict[tuple[str, ...], Plot] = {}
    for number, trace in enumerate(map(mapping, figure.get("data") or [])):
        if trace.get("visible") is False:
            continue
        place = _place(trace, number)
        if place not in plots:
            plots[place] = Plot(None, _axis(layout, place[0]), _axis(layout, place[-1]))
        _add(plots[place], trace, number)
    return superchart(title, [chart_of(plot) for plot in plots.values()])


def _place(trace: Mapping[str, Any], number: int) -> tuple[str, ...]:
    """The axes it is drawn on; a pie has a place of its own."""
    if trace.get("type") in ("pie", "sunburst", "treemap"):
        return ("", str(number), "")
    return str(trace.get("xaxis") or "x"), str(trace.get("yaxis") or "y")


def _axis(layout: Mapping[str, Any], name: str) -> Axis:
    """`x2` is described by `xaxis2`."""
    if not name:
        return Axis()
    found = mapping(layout.get(f"{name[0]}axis{name[1:]}"))
    ticks = values(found.get("tickvals"))
    labels = [str(label) for label in values(found.get("ticktext")) or ticks]
    return Axis(_title(found.get("title")), _SCALES.get(str(found.get("type")), ""), ticks, labels)


def _title(value: Any) -> str | None:
    text = mapping(value).get("text") if isinstance(value, dict) else value
    return str(cast("object", text)) if text else None


def _add(plot: Plot, trace: Mapping[str, Any], number: int) -> None:
    kind = str(trace.get("type") or "scatter")
    name = str(trace.get("name") or "")
    match kind:
        case "scatter" | "scattergl":
            mode = str(trace.get("mode") or "lines")
            xs, ys = _pair(trace)
            is_line = "lines" in mode
            label = name or f"{'Line' if is_line else 'Scatter'} {number}"
            plot.add("line" if is_line else "scatter", series(label, xs, ys))
        case "bar":
            plot.is_lying = trace.get("orientation") == "h"
            xs, ys = _pair(trace)
            places, heights = (ys, xs) if plot.is_lying else (xs, ys)
            plot.add("bar", *_bars(name or f"Group {number}", places, heights))
        case "pie":
            numbers = values(trace.get("values"))
            labels = values(trace.get("labels")) or list(range(len(numbers)))
            counted = numbers or [1] * len(labels)
            totals = {label: sum(parts) for label, parts in grouped(labels, counted).items()}
            plot.title = _title(trace.get("title"))
            plot.add("pie", *slices(list(totals), list(totals.values())))
        case "box":
            plot.add("box_and_whisker", *_boxes(trace, name))
        case _:
            plot.add("unknown")


def _pair(trace: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
    """Where one is missing, the points are counted."""
    xs, ys = values(trace.get("x")), values(trace.get("y"))
    return xs or list(range(len(ys))), ys or list(range(len(xs)))


def _bars(group: str, places: Sequence[Any], heights: Sequence[Any]) -> list[Chart]:
    return [
        {"label": text_of(place), "group": group, "value": height}
        for place, height in zip(places, heights, strict=False)
    ]


def _boxes(trace: Mapping[str, Any], name: str) -> list[Chart]:
    if "median" in trace:
        return _given_boxes(trace, name)
    data, places = values(trace.get("y")), values(trace.get("x"))
    if trace.get("orientation") == "h" or not data:
        data, places = places, data
    by_place = grouped(places, data) if places else {name: data}
    found = [box(text_of(place), numbers) for place, numbers in by_place.items()]
    return [element for element in found if element is not None]


def _given_boxes(trace: Mapping[str, Any], name: str) -> list[Chart]:
    """A figure may bring the statistics instead of the data."""
    names = ("lowerfence", "q1", "median", "q3", "upperfence")
    rows = zip(*(values(trace.get(key)) for key in names), strict=False)
    places = values(trace.get("x")) or [name]
    keys = ("min", "first_quartile", "median", "third_quartile", "max")
    return [
        {"label": text_of(place), **dict(zip(keys, row, strict=True)), "outliers": []}
        for place, row in zip(places, rows, strict=False)
    ]


def values(value: Any) -> list[Any]:
    """An array in either form; rows of a matrix are not told apart."""
    if isinstance(value, list):
        return cast("list[Any]", value)
    packed = mapping(value)
    code = _TYPE_CODES.get(str(packed.get("dtype", "")).lstrip("<|"))
    if code is None:
        return []
    found = array.array(code, base64.b64decode(packed.get("bdata") or ""))
    if sys.byteorder == "big":
        found.byteswap()
    return found.tolist()
