"""Line and scatter charts: series of points."""

import re
from typing import Any

from . import scales
from .texts import Chart, labels

_AUTO_LABEL = re.compile(r"_child(\d+)")


def line_chart(axes: Any) -> Chart:
    elements = [_line(axes, line) for line in axes.get_lines()]
    return _chart("line", axes, _without_empty(elements))


def scatter_chart(axes: Any) -> Chart:
    from matplotlib.collections import PathCollection

    collections = [artist for artist in axes.collections if isinstance(artist, PathCollection)]
    elements = [_series(axes, _label(cloud, "Scatter"), *_offsets(cloud)) for cloud in collections]
    return _chart("scatter", axes, _without_empty(elements))


def _chart(kind: str, axes: Any, elements: list[Chart]) -> Chart:
    return {
        "type": kind,
        **labels(axes),
        "x_ticks": scales.ticks(axes.xaxis),
        "x_tick_labels": scales.tick_labels(axes.xaxis),
        "x_scale": scales.scale(axes.xaxis),
        "y_ticks": scales.ticks(axes.yaxis),
        "y_tick_labels": scales.tick_labels(axes.yaxis),
        "y_scale": scales.scale(axes.yaxis),
        "elements": elements,
    }


def _line(axes: Any, line: Any) -> Chart:
    x_values, y_values = line.get_data(orig=False)
    return _series(axes, _label(line, "Line"), x_values, y_values)


def _offsets(cloud: Any) -> tuple[Any, Any]:
    offsets = cloud.get_offsets()
    return offsets[:, 0], offsets[:, 1]


def _series(axes: Any, label: str, x_values: Any, y_values: Any) -> Chart:
    pairs = zip(
        scales.values(axes.xaxis, _plain(x_values)), scales.values(axes.yaxis, _plain(y_values)), strict=True
    )
    return {"label": label, "points": [[x, y] for x, y in pairs]}


def _plain(coordinates: Any) -> list[Any]:
    """One call for the whole array: per point, NumPy's scalars would cost the time."""
    return list(coordinates.tolist()) if hasattr(coordinates, "tolist") else list(coordinates)


def _label(artist: Any, noun: str) -> str:
    """matplotlib's automatic `_child3` reads as `Line 3`."""
    label = str(artist.get_label())
    match = _AUTO_LABEL.fullmatch(label)
    return f"{noun} {match[1]}" if match else label


def _without_empty(elements: list[Chart]) -> list[Chart]:
    """Seaborn adds empty series for its legend."""
    return [element for element in elements if element["points"]] or elements
