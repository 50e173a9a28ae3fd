"""Box plots, read back from what `Axes.bxp` draws: a box (patch or closed line), whiskers, caps, a median,
outliers. Everything is read as if upright; a lying plot is turned first.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from . import scales
from .texts import Chart, labels, number

_NOTCHED = 11
_Line = tuple[list[float], list[float]]
"""The coordinates of one artist: across (where the boxes stand) and along (the values)."""


@dataclass(slots=True)
class _Box:
    """`position` and `width` are across; the box goes from `low` to `high` along the values."""

    position: float
    width: float
    low: float
    high: float
    whisker_low: float
    whisker_high: float
    median: float | None = None
    median_rank: tuple[float, bool] = (0.0, False)
    outliers: list[Any] = field(default_factory=list[Any])


def is_box_plot(lines: Sequence[Any]) -> bool:
    """Of lines only: a box plot has unlabelled closed ones with whiskers, or five lines beside each."""
    boxes = [line for line in lines if _is_outline(_coordinates(line))]
    if not boxes or not all(str(line.get_label()).startswith("_") for line in boxes):
        return False
    outlines = [_coordinates(line) for line in boxes]
    parts = [_coordinates(line) for line in lines if line not in boxes]
    has_whisker = _has_whisker(outlines, parts) or _has_whisker(_turned(outlines), _turned(parts))
    return has_whisker or len(lines) >= 6 * len(boxes)


def box_chart(axes: Any) -> Chart:
    lines = [_coordinates(line) for line in axes.get_lines()]
    outlines = [_coordinates(patch) for patch in axes.patches] + [line for line in lines if _is_outline(line)]
    parts = [line for line in lines if not _is_outline(line) and line[0]]
    is_lying = _has_whisker(_turned(outlines), _turned(parts)) and not _has_whisker(outlines, parts)
    if is_lying:
        outlines, parts = _turned(outlines), _turned(parts)
    boxes = [_box(outline) for outline in outlines]
    for part in parts:
        _assign(boxes, part)
    axis = axes.yaxis if is_lying else axes.xaxis
    return {"type": "box_and_whisker", **labels(axes), "elements": [_element(axis, box) for box in boxes]}


def _coordinates(artist: Any) -> _Line:
    if hasattr(artist, "get_data"):
        across, along = artist.get_data(orig=False)
        return [float(x) for x in across], [float(y) for y in along]
    vertices = artist.get_path().vertices
    return [float(x) for x in vertices[:, 0]], [float(y) for y in vertices[:, 1]]


def _is_outline(line: _Line) -> bool:
    """Closed: 5 corners, 11 with notches."""
    across, along = line
    return (
        len(across) in (5, _NOTCHED)
        and (across[0], along[0]) == (across[-1], along[-1])
        and len(set(across)) > 1
    )


def _turned(lines: Sequence[_Line]) -> list[_Line]:
    return [(along, across) for across, along in lines]


def _box(outline: _Line) -> _Box:
    across, along = outline
    left, right, low, high = min(across), max(across), min(along), max(along)
    box = _Box((left + right) / 2, right - left, low, high, whisker_low=low, whisker_high=high)
    if len(along) >= _NOTCHED:  # the notch may reach beyond the box
        box.low, box.high, box.median = along[0], along[5], along[3]
        box.whisker_low, box.whisker_high, box.median_rank = box.low, box.high, (math.inf, True)
    return box


def _has_whisker(outlines: Sequence[_Line], parts: Sequence[_Line]) -> bool:
    return any(_whisker_end(_box(outline), part) is not None for outline in outlines for part in parts)


def _whisker_end(box: _Box, part: _Line) -> float | None:
    """The far end of a line that leaves the box in the middle of a side."""
    across, along = part
    if len(across) != 2 or across[0] != across[1] or abs(across[0] - box.position) > 1e-6 * box.width:
        return None
    near, far = along
    leaves = (near == box.low and far < box.low) or (near == box.high and far > box.high)
    return far if leaves else None


def _assign(boxes: Sequence[_Box], part: _Line) -> None:
    """Give a line to the box it stands at."""
    across, along = part
    middle = (min(across) + max(across)) / 2
    box = min(boxes, key=lambda candidate: abs(candidate.position - middle))
    end = _whisker_end(box, part)
    if end is not None:
        box.whisker_low, box.whisker_high = min(box.whisker_low, end), max(box.whisker_high, end)
    elif len(along) == 2 and along[0] == along[1] and across[0] != across[1]:
        _propose_median(box, along[0], abs(across[1] - across[0]))
    elif len(set(across)) == 1 and not (len(along) == 2 and along[0] in (box.low, box.high)):
        box.outliers += [number(value) for value in along]


def _propose_median(box: _Box, value: float, width: float) -> None:
    """Of the lines across the box the widest that is no cap on its edge; a mean's line is drawn after it."""
    rank = (width, value not in (box.low, box.high))
    if box.low <= value <= box.high and rank > box.median_rank:
        box.median, box.median_rank = value, rank


def _element(axis: Any, box: _Box) -> Chart:
    return {
        "label": scales.label_at(axis, box.position, 0.5),
        "min": number(box.whisker_low),
        "first_quartile": number(box.low),
        "median": number(box.median),
        "third_quartile": number(box.high),
        "max": number(box.whisker_high),
        "outliers": box.outliers,
    }
