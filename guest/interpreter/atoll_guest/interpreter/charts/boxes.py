"""Box plots, read back from what `Axes.bxp` draws: a box (patch or closed line), whiskers, a median, outliers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from . import scales
from .texts import Chart, labels, number

_NEAR = 1e-9


@dataclass(slots=True)
class _Box:
    """`position` on the category axis; the box goes from `low` to `high` on the value axis."""

    position: float
    width: float
    low: float
    high: float
    outliers: list[Any] = field(default_factory=list[Any])
    whisker_low: float | None = None
    whisker_high: float | None = None
    median: float | None = None


def is_box_plot(lines: Sequence[Any]) -> bool:
    """Only lines: a box plot has unlabelled closed ones, with open ones of two points beside them."""
    boxes = [line for line in lines if _is_box_outline(line)]
    return bool(boxes) and len(lines) >= 6 * len(boxes) and all(_is_unlabelled(line) for line in boxes)


def _is_unlabelled(line: Any) -> bool:
    return str(line.get_label()).startswith("_")


def _is_box_outline(line: Any) -> bool:
    x_values, y_values = _coordinates(line)
    is_closed = len(x_values) in (5, 11) and x_values[0] == x_values[-1] and y_values[0] == y_values[-1]
    return is_closed and len(set(x_values)) >= 2


def box_chart(axes: Any) -> Chart:
    outlines = [_coordinates(patch) for patch in axes.patches]
    outlines += [_coordinates(line) for line in axes.get_lines() if _is_box_outline(line)]
    parts = [_coordinates(line) for line in axes.get_lines() if not _is_box_outline(line)]
    is_vertical = _is_vertical(outlines, parts)
    if not is_vertical:
        outlines, parts = [(y, x) for x, y in outlines], [(y, x) for x, y in parts]
    boxes = [_box(x, y) for x, y in outlines]
    for x_values, y_values in parts:
        _assign(boxes, x_values, y_values)
    axis = axes.xaxis if is_vertical else axes.yaxis
    return {"type": "box_and_whisker", **labels(axes), "elements": [_element(axis, box) for box in boxes]}


def _coordinates(artist: Any) -> tuple[list[float], list[float]]:
    if hasattr(artist, "get_data"):
        x_values, y_values = artist.get_data(orig=False)
        return [float(x) for x in x_values], [float(y) for y in y_values]
    vertices = artist.get_path().vertices
    return [float(x) for x in vertices[:, 0]], [float(y) for y in vertices[:, 1]]


def _is_vertical(outlines: Sequence[Any], parts: Sequence[Any]) -> bool:
    """By the whiskers, which start at the middle of a box's side."""
    for x_outline, y_outline in outlines:
        box = _box(x_outline, y_outline)
        for x_values, y_values in parts:
            if (
                len(x_values) == 2
                and x_values[0] == x_values[1]
                and _is_near(x_values[0], box.position, box.width)
            ):
                if y_values[0] != y_values[1] and {box.low, box.high} & set(y_values):
                    return True
    return (
        not outlines
        or not parts
        or not any(len(set(y)) == 1 and len(x) == 2 and x[0] != x[1] for x, y in parts)
    )


def _box(x_values: Sequence[float], y_values: Sequence[float]) -> _Box:
    left, right = min(x_values), max(x_values)
    return _Box((left + right) / 2, right - left, min(y_values), max(y_values))


def _is_near(value: float, position: float, width: float) -> bool:
    return abs(value - position) <= _NEAR + width * 1e-6


def _assign(boxes: Sequence[_Box], x_values: Sequence[float], y_values: Sequence[float]) -> None:
    """Give a line to the box it belongs to: whisker, median or outliers; caps repeat a whisker's end."""
    if not x_values:
        return
    box = min(boxes, key=lambda candidate: abs(candidate.position - sum(x_values) / len(x_values)))
    if len(set(x_values)) == 1 and len(y_values) == 2 and {box.low, box.high} & {y_values[0]}:
        if y_values[0] == box.high and y_values[1] >= box.high:
            box.whisker_high = y_values[1]
        if y_values[0] == box.low and y_values[1] <= box.low:
            box.whisker_low = y_values[1]
    elif len(y_values) == 2 and y_values[0] == y_values[1] and x_values[0] != x_values[1]:
        if box.low <= y_values[0] <= box.high and box.median is None:
            box.median = y_values[0]
    elif len(set(x_values)) == 1:
        box.outliers += [number(value) for value in y_values]


def _element(axis: Any, box: _Box) -> Chart:
    return {
        "label": scales.label_at(axis, box.position, 0.5),
        "min": box.low if box.whisker_low is None else box.whisker_low,
        "first_quartile": box.low,
        "median": box.median,
        "third_quartile": box.high,
        "max": box.high if box.whisker_high is None else box.whisker_high,
        "outliers": box.outliers,
    }
