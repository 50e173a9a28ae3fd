"""Bar charts: vertical, horizontal, grouped, stacked; histograms read as bars."""

import re
from collections.abc import Sequence
from typing import Any

from . import scales
from .texts import Chart, labels, number

_AUTO_GROUP = re.compile(r"_container(\d+)")


def bar_chart(axes: Any) -> Chart:
    groups = _groups(axes)
    is_horizontal = _is_horizontal(axes, [bar for _, bars in groups for bar in bars])
    axis = axes.yaxis if is_horizontal else axes.xaxis
    elements = [_element(axis, bar, group, is_horizontal) for group, bars in groups for bar in bars]
    found = labels(axes)
    if is_horizontal:
        found |= {
            "x_label": found["y_label"],
            "y_label": found["x_label"],
            "x_unit": found["y_unit"],
            "y_unit": found["x_unit"],
        }
    return {"type": "bar", **found, "elements": elements}


def _groups(axes: Any) -> list[tuple[str, list[Any]]]:
    """(name, bars) per container; loose rectangles are one group."""
    from matplotlib.container import BarContainer
    from matplotlib.patches import Rectangle

    containers: list[Any] = [
        container for container in axes.containers if isinstance(container, BarContainer)
    ]
    groups: list[tuple[str, list[Any]]] = [
        (group_name(container), list(container)) for container in containers
    ]
    if groups:
        return groups
    return [("Group 0", [patch for patch in axes.patches if isinstance(patch, Rectangle)])]


def group_name(container: Any) -> str:
    """The container's label; `hist` gives it to the first bar instead."""
    label = str(container.get_label())
    first = str(container[0].get_label()) if len(container) else ""
    if _AUTO_GROUP.fullmatch(label) and first and not first.startswith("_"):
        return first
    match = _AUTO_GROUP.fullmatch(label)
    return f"Group {match[1]}" if match else label


def _is_horizontal(axes: Any, bars: Sequence[Any]) -> bool:
    """Equal heights are the wire's rule; beyond it the containers say how they were drawn."""
    heights = {number(bar.get_height()) for bar in bars}
    if len(heights) == 1:
        return True
    orientations = {getattr(container, "orientation", None) for container in axes.containers}
    return orientations == {"horizontal"}


def _element(axis: Any, bar: Any, group: str, is_horizontal: bool) -> Chart:
    if is_horizontal:
        start, thickness, value = bar.get_y(), bar.get_height(), bar.get_width()
    else:
        start, thickness, value = bar.get_x(), bar.get_width(), bar.get_height()
    centre = float(start) + float(thickness) / 2
    return {
        "label": scales.label_at(axis, centre, _reach(axis, abs(float(thickness)))),
        "group": group,
        "value": number(value),
    }


def _reach(axis: Any, thickness: float) -> float:
    """How far from a bar's centre its label may stand: bars of a group stand beside it, numbers belong to
    one place.
    """
    return 0.5 if _has_names(axis) else thickness * 0.01


def _has_names(axis: Any) -> bool:
    from matplotlib.ticker import FixedFormatter, FuncFormatter

    formatter = axis.get_major_formatter()
    return (
        isinstance(formatter, (FixedFormatter, FuncFormatter))
        or type(formatter).__name__ == "StrCategoryFormatter"
    )
