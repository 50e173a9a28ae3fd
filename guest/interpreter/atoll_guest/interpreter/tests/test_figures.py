"""A gallery of Plotly's and Vega-Lite's figures with the chart data expected of each."""

import base64
import json
import struct
from typing import Any

import pytest

from atoll_guest.interpreter import jupyter, messages
from atoll_guest.interpreter.figures import chart_in, plotly_chart, vega_chart

from .test_charts import KEYS


def packed(*values: float) -> dict[str, str]:
    """As Plotly 6 writes an array."""
    data = struct.pack(f"<{len(values)}d", *values)
    return {"dtype": "f8", "bdata": base64.b64encode(data).decode()}


def line(label: str, *points: list[Any]) -> dict[str, Any]:
    return {"label": label, "points": list(points)}


def bar(label: str, group: str, value: float) -> dict[str, Any]:
    return {"label": label, "group": group, "value": value}


AXES = {"xaxis": {"title": {"text": "Time (s)"}}, "yaxis": {"title": {"text": "v [m/s]"}, "type": "log"}}
BOX = {"min": 1, "first_quartile": 2, "median": 3, "third_quartile": 4, "max": 4, "outliers": [20]}

PLOTLY: dict[str, tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]] = {
    "line": (
        [{"x": [1, 2], "y": packed(3, 4), "mode": "lines", "name": "a"}],
        {"title": {"text": "T"}, **AXES},
        {
            **{"type": "line", "title": "T", "x_label": "Time (s)", "x_unit": "s", "y_unit": "m/s"},
            **{"x_scale": "linear", "y_scale": "log", "elements": [line("a", [1, 3], [2, 4])]},
        },
    ),
    "points": (
        [{"type": "scattergl", "x": [1, 2], "y": [3, None], "mode": "markers"}],
        {},
        {"type": "scatter", "title": None, "elements": [line("Scatter 0", [1, 3], [2, None])]},
    ),
    "dates": (
        [{"x": ["2024-01-01", "2024-01-02T00:00:00"], "y": [1, 2]}],
        {},
        {"type": "line", "x_scale": "datetime"},
    ),
    "categories": (
        [{"x": ["a", "b"], "y": [1, 2], "mode": "lines"}],
        {},
        {"x_scale": "categorical", "x_ticks": [0.0, 1.0], "x_tick_labels": ["a", "b"]},
    ),
    "stated ticks": (
        [{"y": [5, 6]}],
        {"xaxis": {"tickvals": [0, 1], "ticktext": ["p", "q"]}},
        {"x_ticks": [0, 1], "x_tick_labels": ["p", "q"], "elements": [line("Line 0", [0, 5], [1, 6])]},
    ),
    "grouped bars": (
        [
            {"type": "bar", "x": ["a", "b"], "y": [1, 2], "name": "u"},
            {"type": "bar", "x": ["a", "b"], "y": [3, 4], "name": "v"},
        ],
        {},
        {"type": "bar", "elements": [bar("a", "u", 1), bar("b", "u", 2), bar("a", "v", 3), bar("b", "v", 4)]},
    ),
    "lying bars": (
        [{"type": "bar", "orientation": "h", "x": [1, 2], "y": ["a", "b"]}],
        {"xaxis": {"title": {"text": "n (kg)"}}, "yaxis": {"title": {"text": "who"}}},
        {
            **{"type": "bar", "x_label": "who", "y_label": "n (kg)", "y_unit": "kg"},
            "elements": [bar("a", "Group 0", 1), bar("b", "Group 0", 2)],
        },
    ),
    "pie": (
        [{"type": "pie", "labels": ["a", "b", "a"], "values": [1, 3, 0]}],
        {"title": {"text": "P"}},
        {
            **{"type": "pie", "title": "P"},
            "elements": [{"label": "a", "angle": 90, "radius": 1}, {"label": "b", "angle": 270, "radius": 1}],
        },
    ),
    "boxes": (
        [{"type": "box", "y": packed(1, 2, 3, 4, 20), "name": "p"}],
        {},
        {"type": "box_and_whisker", "elements": [{"label": "p", **BOX}]},
    ),
    "boxes by their statistics": (
        [
            {
                "type": "box",
                "x": ["p"],
                "lowerfence": [1],
                "q1": [2],
                "median": [3],
                "q3": [4],
                "upperfence": [5],
            }
        ],
        {},
        {"type": "box_and_whisker", "elements": [{"label": "p", **BOX, "max": 5, "outliers": []}]},
    ),
    "subplots": (
        [{"y": [1, 2]}, {"type": "bar", "x": ["a"], "y": [1], "xaxis": "x2", "yaxis": "y2"}],
        {"title": {"text": "both"}, "xaxis2": {"title": {"text": "name"}}},
        {"type": "superchart", "title": "both"},
    ),
    "a map is unknown": ([{"type": "choropleth"}], {}, {"type": "unknown", "elements": []}),
}


@pytest.mark.parametrize("name", PLOTLY)
def test_a_plotly_figure_becomes_its_chart(name: str) -> None:
    traces, layout, expected = PLOTLY[name]
    check(plotly_chart({"data": traces, "layout": layout}), expected)


def check(found: dict[str, Any], expected: dict[str, Any]) -> None:
    json.dumps(found, allow_nan=False)
    assert set(found) == KEYS[found["type"]]
    assert {key: found[key] for key in expected} == expected


ROWS = [{"c": "a", "g": "u", "n": 1}, {"c": "b", "g": "u", "n": 3}, {"c": "a", "g": "v", "n": 5}]
C, N = {"field": "c", "type": "nominal"}, {"field": "n", "type": "quantitative"}
VEGA: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "lines by colour": (
        {"mark": {"type": "line"}, "encoding": {"x": C, "y": N, "color": {"field": "g", "type": "nominal"}}},
        {
            **{"type": "line", "x_scale": "categorical", "x_label": "c", "y_label": "n"},
            "elements": [line("u", ["a", 1], ["b", 3]), line("v", ["a", 5])],
        },
    ),
    "points on a logarithmic axis": (
        {"mark": "point", "encoding": {"x": {**N, "scale": {"type": "log"}}, "y": {**N, "title": "N (kg)"}}},
        {
            "type": "scatter",
            "x_scale": "log",
            "y_unit": "kg",
            "elements": [line("Scatter 0", [1, 1], [3, 3], [5, 5])],
        },
    ),
    "bars of sums": (
        {"title": "S", "mark": "bar", "encoding": {"x": C, "y": {**N, "aggregate": "sum"}}},
        {
            **{"type": "bar", "title": "S", "y_label": "Sum of n"},
            "elements": [bar("a", "Group 0", 6), bar("b", "Group 0", 3)],
        },
    ),
    "lying bars of counts": (
        {"mark": "bar", "encoding": {"y": C, "x": {"aggregate": "count", "type": "quantitative"}}},
        {
            **{"type": "bar", "x_label": "c", "y_label": "Count of Records"},
            "elements": [bar("a", "Group 0", 2), bar("b", "Group 0", 1)],
        },
    ),
    "pie": (
        {"mark": "arc", "encoding": {"theta": {**N, "aggregate": "sum"}, "color": C}},
        {
            "type": "pie",
            "elements": [
                {"label": "a", "angle": 240, "radius": 1},
                {"label": "b", "angle": 120, "radius": 1},
            ],
        },
    ),
    "boxes": (
        {
            "mark": "boxplot",
            "encoding": {"x": C, "y": N},
            "data": {"values": [{"c": "p", "n": n} for n in (20, 1, 2, 3, 4)]},
        },
        {"type": "box_and_whisker", "elements": [{"label": "p", **BOX}]},
    ),
    "layers": (
        {"encoding": {"x": C, "y": N}, "layer": [{"mark": "line"}, {"mark": "point"}]},
        {"type": "scatter"},
    ),
    "side by side": (
        {
            "title": "both",
            "hconcat": [
                {"mark": "bar", "encoding": {"x": C, "y": N}},
                {"mark": "point", "encoding": {"x": N, "y": N}},
            ],
        },
        {"type": "superchart", "title": "both"},
    ),
    "a histogram is binned by the browser": (
        {"mark": "bar", "encoding": {"x": {**N, "bin": True}, "y": {"aggregate": "count"}}},
        {"type": "unknown", "elements": []},
    ),
}


@pytest.mark.parametrize("name", VEGA)
def test_a_vega_lite_chart_becomes_its_chart(name: str) -> None:
    spec, expected = VEGA[name]
    check(vega_chart({"data": {"name": "d"}, "datasets": {"d": ROWS}, **spec}), expected)


def test_a_figure_in_a_message_gives_its_result_a_chart() -> None:
    bundle: dict[str, Any] = {
        "application/vnd.plotly.v1+json": {"data": [{"y": [1, 2]}], "layout": {}},
        "text/html": "<b>",
    }
    message = jupyter.Message("display_data", "", "", {"data": bundle}, {})
    (event,) = messages.to_events(message)
    assert event["chart"]["type"] == "line"
    assert event["extra"].keys() == {"application/vnd.plotly.v1+json"}


BROKEN: list[dict[str, Any]] = [
    {"data": [{"type": "bar", "x": 5}]},
    {"data": 7},
    {"data": [None, [], 3]},
    {"layout": []},
]


@pytest.mark.parametrize("document", BROKEN)
def test_what_cannot_be_read_is_no_chart_and_no_failure(document: dict[str, Any]) -> None:
    chart_in({"application/vnd.plotly.v1+json": document})
    chart_in({"application/vnd.vegalite.v5+json": {"mark": "bar", "hconcat": 3, **document}})
