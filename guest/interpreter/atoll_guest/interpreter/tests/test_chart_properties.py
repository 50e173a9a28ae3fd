# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false, reportMissingTypeStubs=false
# pyright: reportArgumentType=false, reportUnknownArgumentType=false
"""What holds of extraction whatever the figure: it changes nothing, raises nothing, and gives valid JSON."""

import io
import json
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import ticker

from atoll_guest.interpreter.charts import extract_chart, extract_extras
from atoll_guest.interpreter.python_kernel import formatters

from .gallery import DAYS, GALLERY

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    plt.close("all")
    yield
    plt.close("all")


def picture(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="raw", dpi=40)
    return buffer.getvalue()


def drawn(draw: Callable[[], object]) -> Any:
    plt.close("all")
    draw()
    return plt.gcf()


@pytest.mark.parametrize("name", GALLERY)
def test_extraction_never_changes_the_figure(name: str) -> None:
    """Before it was ever drawn, when limits and ticks are not fixed yet, and afterwards."""
    draw, _ = GALLERY[name]
    untouched = picture(drawn(draw))
    figure = drawn(draw)
    children = [list(axes.get_children()) for axes in figure.get_axes()]
    found = extract_chart(figure), extract_extras(figure)
    assert [list(axes.get_children()) for axes in figure.get_axes()] == children
    assert picture(figure) == untouched
    assert (extract_chart(figure)["type"], extract_extras(figure).keys()) == (
        found[0]["type"],
        found[1].keys(),
    )
    assert picture(figure) == untouched


def _failing(*_: object) -> str:
    raise RuntimeError("a formatter of the user's")


NUMBERS = st.floats(width=32) | st.integers(-1000, 1000) | st.just(float("nan"))
LISTS = st.lists(NUMBERS, min_size=0, max_size=5)
Step = Callable[[Any], object]
"""Draws something on the axes it is given."""


def _two(name: str) -> st.SearchStrategy[Step]:
    return st.lists(st.tuples(NUMBERS, NUMBERS), max_size=5).map(
        lambda pairs: lambda axes: getattr(axes, name)([x for x, _ in pairs], [y for _, y in pairs])
    )


def _one(name: str, **options: Any) -> st.SearchStrategy[Step]:
    return LISTS.map(lambda numbers: lambda axes: getattr(axes, name)(numbers, **options))


FIXED: list[Step] = [
    lambda axes: axes.set_xscale("log"),
    lambda axes: axes.set_yscale("symlog"),
    lambda axes: axes.set_xlabel("x ("),
    lambda axes: axes.set_ylabel("$\\frac{1}{$ [m"),
    lambda axes: axes.set_title("\N{BALLOON} \n[]"),
    lambda axes: axes.set_xticks([]),
    lambda axes: axes.set_axis_off(),
    lambda axes: axes.legend(),
    lambda axes: axes.remove(),
    lambda axes: axes.inset_axes([0.1, 0.1, 0.2, 0.2]).plot([1]),
    lambda axes: axes.twiny().scatter([1], [2]),
    lambda axes: axes.imshow(np.zeros((2, 2, 3))),
    lambda axes: axes.imshow([[float("nan")]]),
    lambda axes: axes.pcolormesh([[1, 2], [3, 4]]),
    lambda axes: axes.contour([[0, 1], [1, 0]]),
    lambda axes: axes.plot(DAYS, range(3)),
    lambda axes: axes.plot(["a", "b"], [1, 2]),
    lambda axes: axes.bar([], []),
    lambda axes: axes.bar([None], [1]),
    lambda axes: axes.boxplot([[], [1]]),
    lambda axes: axes.pie([0, 0]),
    lambda axes: axes.axvspan(0, 1),
    lambda axes: axes.xaxis.set_major_formatter(ticker.FuncFormatter(_failing)),
    lambda axes: axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda *_: None)),
    lambda axes: [artist.remove() for artist in list(axes.lines)],
    lambda axes: [container.remove() for container in list(axes.containers)],
    lambda axes: setattr(axes, "label", "x"),
]
STEPS = st.one_of(
    st.sampled_from(FIXED),
    *(_two(name) for name in ("plot", "scatter", "bar", "barh", "step", "fill_between", "errorbar", "stem")),
    *(_one(name) for name in ("plot", "hist", "boxplot", "pie", "eventplot", "stackplot")),
    _one("boxplot", patch_artist=True, notch=True),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), STEPS), max_size=6), st.booleans())
def test_no_figure_makes_extraction_fail(steps: list[tuple[int, Step]], two: bool) -> None:
    plt.close("all")
    figure, places = plt.subplots(1, 2 if two else 1, squeeze=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for index, step in steps:
            try:
                step(places[0][index % (1 + two)])
            except Exception:  # matplotlib itself refuses it: what was drawn so far is odd enough
                continue
        bundle = formatters.figure_bundle(figure)
    json.dumps(bundle, allow_nan=False)
    assert "e2b/chart" in bundle
