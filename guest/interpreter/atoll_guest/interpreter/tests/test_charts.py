# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false, reportMissingTypeStubs=false
# pyright: reportArgumentType=false, reportUnknownArgumentType=false
"""Figures of matplotlib become charts: the gallery, what lies beyond the wire's types, what it costs."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from atoll_guest.interpreter.charts import extract_chart, extract_extras

from .gallery import GALLERY

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


def test_the_gallery_has_its_sixty_figures() -> None:
    assert len(GALLERY) >= 60


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


def test_ten_thousand_points_are_quick() -> None:
    plt.plot(np.arange(10_000), np.random.default_rng(1).random(10_000))
    spent: list[float] = []
    for _ in range(6):
        start = time.process_time()
        extract_chart(plt.gcf())
        spent.append(time.process_time() - start)
    assert min(spent) < 0.09  # 0.03 promised, on an idle machine
