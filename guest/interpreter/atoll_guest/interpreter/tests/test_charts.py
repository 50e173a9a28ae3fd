# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false, reportMissingTypeStubs=false
# pyright: reportArgumentType=false, reportUnknownArgumentType=false
"""A gallery of figures with the chart data expected of each."""

import datetime
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib as mpl
import pytest

mpl.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from atoll_guest.interpreter.charts import extract_chart, extract_extras

POINT_KEYS = {
    *("type", "title", "x_label", "y_label", "x_unit", "y_unit", "elements"),
    *("x_ticks", "x_tick_labels", "x_scale", "y_ticks", "y_tick_labels", "y_scale"),
}
LABEL_KEYS = {"type", "title", "x_label", "y_label", "x_unit", "y_unit", "elements"}
KEYS = {
    "line": POINT_KEYS,
    "scatter": POINT_KEYS,
    "bar": LABEL_KEYS,
    "box_and_whisker": LABEL_KEYS,
    "pie": {"type", "title", "elements"},
    "superchart": {"type", "title", "elements"},
    "unknown": {"type", "title", "elements"},
}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    plt.close("all")
    yield
    plt.close("all")


def drawn(draw: Callable[[], object]) -> dict[str, Any]:
    draw()
    found = extract_chart(plt.gcf())
    json.dumps(found, allow_nan=False)
    if found:
        assert set(found) == KEYS[found["type"]]
    return found


def labelled(*texts: str) -> Callable[[], None]:
    def draw() -> None:
        plt.plot([1, 2], [3, 4], label="a")
        plt.title(texts[0])
        plt.xlabel(texts[1])
        plt.ylabel(texts[2])

    return draw


DAYS = pd.date_range("2024-01-01", periods=3)
GALLERY: dict[str, tuple[Callable[[], object], dict[str, Any]]] = {
    "line": (
        labelled("T", "Time (s)", "Speed [m/s]"),
        {
            **{"type": "line", "title": "T", "x_label": "Time (s)", "x_unit": "s", "y_unit": "m/s"},
            **{"x_scale": "linear", "elements": [{"label": "a", "points": [[1, 3], [2, 4]]}]},
        },
    ),
    "no texts": (labelled("", "", ""), {"title": None, "x_label": None, "x_unit": None}),
    "a label without a unit": (labelled("", "f(x)", "a b"), {"x_unit": None, "y_unit": None}),
    "automatic labels": (
        lambda: plt.plot([1, 2], [[1, 2], [3, 4]]),
        {
            "elements": [
                {"label": "Line 0", "points": [[1, 1], [2, 3]]},
                {"label": "Line 1", "points": [[1, 2], [2, 4]]},
            ]
        },
    ),
    "a gap in a line": (
        lambda: plt.plot([1, 2, 3], [1, float("nan"), 3], label="a"),
        {"elements": [{"label": "a", "points": [[1, 1], [2, None], [3, 3]]}]},
    ),
    "logarithmic": (lambda: plt.loglog([1, 10], [1, 100]), {"x_scale": "log", "y_scale": "log"}),
    "symlog": (lambda: (plt.plot([1]), plt.yscale("symlog")), {"y_scale": "symlog"}),
    "asinh": (lambda: (plt.plot([1]), plt.yscale("asinh")), {"y_scale": "asinh"}),
    "categories": (
        lambda: plt.plot(["a", "b", "c"], [1, 2, 3]),
        {"x_scale": "categorical", "x_tick_labels": ["a", "b", "c"], "x_ticks": [0.0, 1.0, 2.0]},
    ),
    "dates": (
        lambda: plt.plot([datetime.datetime(2024, 1, day) for day in (1, 2)], [1, 2], label="a"),
        {
            "x_scale": "datetime",
            "elements": [{"label": "a", "points": [["2024-01-01T00:00:00", 1], ["2024-01-02T00:00:00", 2]]}],
        },
    ),
    "pandas series by date": (
        lambda: pd.Series([1.0, 2.0, 3.0], index=DAYS, name="s").plot(),
        {
            "x_scale": "datetime",
            "elements": [
                {
                    "label": "s",
                    "points": [[day.isoformat(), n] for day, n in zip(DAYS, (1, 2, 3), strict=True)],
                }
            ],
        },
    ),
    "pandas frame": (
        lambda: pd.DataFrame({"u": [1, 2], "v": [3, 4]}).plot(),
        {
            "elements": [
                {"label": "u", "points": [[0, 1], [1, 2]]},
                {"label": "v", "points": [[0, 3], [1, 4]]},
            ]
        },
    ),
    "a grid is ignored": (lambda: (plt.plot([1, 2]), plt.grid(True)), {"type": "line"}),
    "a legend is ignored": (lambda: (plt.plot([1, 2], label="a"), plt.legend()), {"type": "line"}),
    "a text is ignored": (lambda: (plt.plot([1, 2]), plt.text(0, 0, "x")), {"type": "line"}),
    "a line with a band": (
        lambda: (plt.plot([1, 2], label="a"), plt.fill_between([0, 1], [0, 1], [2, 3])),
        {"type": "line", "elements": [{"label": "a", "points": [[0, 1], [1, 2]]}]},
    ),
    "scatter": (
        lambda: plt.scatter([1, 2], [3, 4], label="s"),
        {"type": "scatter", "elements": [{"label": "s", "points": [[1, 3], [2, 4]]}]},
    ),
    "two scatters": (
        lambda: (plt.scatter([1], [2], label="a"), plt.scatter([3], [4], label="b")),
        {"elements": [{"label": "a", "points": [[1, 2]]}, {"label": "b", "points": [[3, 4]]}]},
    ),
    "scatter by date": (
        lambda: plt.scatter(DAYS, [1, 2, 3]),
        {"type": "scatter", "x_scale": "datetime"},
    ),
    "pandas scatter": (
        lambda: pd.DataFrame({"a": [1, 2], "b": [3, 4]}).plot.scatter("a", "b"),
        {"type": "scatter", "x_label": "a", "y_label": "b"},
    ),
    "bars": (
        lambda: plt.bar(["a", "b"], [1, 2.5], label="g"),
        {
            "type": "bar",
            "elements": [
                {"label": "a", "group": "g", "value": 1},
                {"label": "b", "group": "g", "value": 2.5},
            ],
        },
    ),
    "bars without a group": (
        lambda: plt.bar(["a", "b"], [1, 2]),
        {
            "elements": [
                {"label": "a", "group": "Group 0", "value": 1},
                {"label": "b", "group": "Group 0", "value": 2},
            ]
        },
    ),
    "lying bars swap their labels": (
        lambda: (plt.barh(["a", "b"], [1, 2]), plt.xlabel("n (kg)"), plt.ylabel("who")),
        {
            **{"type": "bar", "x_label": "who", "y_label": "n (kg)", "x_unit": None, "y_unit": "kg"},
            "elements": [
                {"label": "a", "group": "Group 0", "value": 1},
                {"label": "b", "group": "Group 0", "value": 2},
            ],
        },
    ),
    "lying bars of different heights": (
        lambda: plt.barh(["a", "b"], [1, 2], height=[0.3, 0.5]),
        {
            "elements": [
                {"label": "a", "group": "Group 0", "value": 1},
                {"label": "b", "group": "Group 0", "value": 2},
            ]
        },
    ),
    "equal heights are taken as lying": (
        lambda: plt.bar(["a", "b"], [2, 2]),
        {"type": "bar"},
    ),
    "grouped bars": (
        lambda: pd.DataFrame({"u": [1, 2], "v": [3, 4]}, index=["a", "b"]).plot.bar(),
        {
            "elements": [
                {"label": "a", "group": "u", "value": 1},
                {"label": "b", "group": "u", "value": 2},
                {"label": "a", "group": "v", "value": 3},
                {"label": "b", "group": "v", "value": 4},
            ]
        },
    ),
    "stacked bars": (
        lambda: (
            plt.bar(["a", "b"], [1, 2], label="u"),
            plt.bar(["a", "b"], [3, 5], bottom=[1, 2], label="v"),
        ),
        {
            "elements": [
                {"label": "a", "group": "u", "value": 1},
                {"label": "b", "group": "u", "value": 2},
                {"label": "a", "group": "v", "value": 3},
                {"label": "b", "group": "v", "value": 5},
            ]
        },
    ),
    "bars with errors": (lambda: plt.bar(["a", "b"], [1, 2], yerr=[0.1, 0.2]), {"type": "bar"}),
    "pie": (
        lambda: plt.pie([1, 3], labels=["a", "b"]),
        {
            "type": "pie",
            "elements": [{"label": "a", "angle": 90, "radius": 1}, {"label": "b", "angle": 270, "radius": 1}],
        },
    ),
    "heat map": (lambda: plt.imshow([[1, 2], [3, 4]]), {"type": "unknown", "elements": []}),
}


@pytest.mark.parametrize("name", GALLERY)
def test_a_figure_becomes_its_chart(name: str) -> None:
    draw, expected = GALLERY[name]
    found = drawn(draw)
    for key, value in expected.items():
        assert found[key] == value or found[key] == pytest.approx(value), key


BOXES: list[dict[str, Any]] = [
    {},
    {"patch_artist": True},
    {"orientation": "horizontal"},
    {"patch_artist": True, "orientation": "horizontal"},
    {"showmeans": True, "meanline": True},
    {"notch": True, "patch_artist": True},
    {"showcaps": False},
]


@pytest.mark.parametrize("options", BOXES, ids=[str(options) for options in BOXES])
def test_a_box_plot_has_its_statistics(options: dict[str, Any]) -> None:
    found = drawn(
        lambda: plt.boxplot([[1, 2, 3, 4, 20], [2, 3, 4, 5, 6.5]], tick_labels=["p", "q"], **options)
    )
    assert found["type"] == "box_and_whisker"
    assert found["elements"] == [
        {
            "label": "p",
            "min": 1,
            "first_quartile": 2,
            "median": 3,
            "third_quartile": 4,
            "max": 4,
            "outliers": [20],
        },
        {
            "label": "q",
            "min": 2,
            "first_quartile": 3,
            "median": 4,
            "third_quartile": 5,
            "max": 6.5,
            "outliers": [],
        },
    ]


def test_several_axes_are_a_superchart() -> None:
    figure, (left, right) = plt.subplots(1, 2)
    left.plot([1, 2])
    right.pie([1, 2])
    figure.suptitle("both")
    found = extract_chart(figure)
    assert found["type"] == "superchart"
    assert found["title"] == "both"
    assert [chart["type"] for chart in found["elements"]] == ["line", "pie"]


def test_a_colour_bar_is_no_chart() -> None:
    image = plt.imshow([[1, 2], [3, 4]])
    plt.colorbar(image)
    assert extract_chart(plt.gcf())["type"] == "unknown"


@pytest.mark.parametrize("draw", [plt.figure, plt.subplots], ids=["no axes", "empty axes"])
def test_a_blank_figure_has_no_chart(draw: Callable[[], object]) -> None:
    draw()
    assert extract_chart(plt.gcf()) == {}


EXTRAS: dict[str, tuple[Callable[[], object], str, list[dict[str, Any]]]] = {
    "histogram": (
        lambda: plt.hist([1, 1, 2, 3], bins=[1, 2, 3, 4], label="h"),
        "chart/histogram",
        [
            {
                "label": "h",
                "bins": [{"start": s, "end": s + 1, "value": v} for s, v in ((1, 2), (2, 1), (3, 1))],
            }
        ],
    ),
    "imshow": (
        lambda: plt.imshow([[1, 2], [3, float("nan")]], extent=(0, 4, 0, 2)),
        "chart/heatmap",
        [{"values": [[1, 2], [3, None]], "x": [0, 2, 4], "y": [0, 1, 2]}],
    ),
    "pcolormesh": (
        lambda: plt.pcolormesh([0, 1, 2], [0, 5], [[7, 8]]),
        "chart/heatmap",
        [{"values": [[7, 8]], "x": [0, 1, 2], "y": [0, 5]}],
    ),
    "contour": (
        lambda: plt.contour([[0, 0], [1, 1]], levels=[0.5]),
        "chart/contour",
        [{"level": 0.5}],
    ),
    "area": (
        lambda: plt.fill_between([0, 1], [1, 2], label="f"),
        "chart/area",
        [{"label": "f"}],
    ),
    "error bars": (
        lambda: plt.errorbar([1, 2], [3, 4], yerr=[1, 0.5], label="e"),
        "chart/error_bars",
        [
            {
                "label": "e",
                "points": [
                    {"x": 1, "y": 3, "y_low": 2, "y_high": 4},
                    {"x": 2, "y": 4, "y_low": 3.5, "y_high": 4.5},
                ],
            }
        ],
    ),
}


@pytest.mark.parametrize("name", EXTRAS)
def test_kinds_beyond_the_wire_are_extra(name: str) -> None:
    draw, mime, expected = EXTRAS[name]
    draw()
    found = extract_extras(plt.gcf())
    json.dumps(found, allow_nan=False)
    elements = found[mime]["elements"]
    assert len(elements) == len(expected)
    for element, wanted in zip(elements, expected, strict=True):
        assert {key: element[key] for key in wanted} == wanted


def test_a_plain_line_has_no_extras() -> None:
    plt.plot([1, 2])
    assert extract_extras(plt.gcf()) == {}


def test_extraction_changes_nothing() -> None:
    figure, axes = plt.subplots()
    axes.plot([1, 2], [3, 4])
    limits, children = (axes.get_xlim(), axes.get_ylim()), len(axes.get_children())
    extract_chart(figure)
    assert (axes.get_xlim(), axes.get_ylim()) == limits
    assert len(axes.get_children()) == children


def test_ten_thousand_points_are_quick() -> None:
    plt.plot(np.arange(10_000), np.random.default_rng(1).random(10_000))
    spent: list[float] = []
    for _ in range(6):
        start = time.process_time()
        extract_chart(plt.gcf())
        spent.append(time.process_time() - start)
    assert min(spent) < 0.09  # 0.03 promised, on an idle machine
