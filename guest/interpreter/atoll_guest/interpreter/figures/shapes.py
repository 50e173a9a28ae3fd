"""Charts in the wire's shapes, from series of plain values."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

Chart = dict[str, Any]

_DATE = re.compile(r"\d{4}-\d\d(-\d\d([T ]\d\d(:\d\d(:\d\d(\.\d+)?)?)?)?(Z|[+-]\d\d:?\d\d)?)?")
_UNIT = re.compile(r"\s\((?P<round>[^()]*)\)|\[(?P<square>[^\[\]]*)\]")
_ORDER = ("box_and_whisker", "scatter", "pie", "bar")


@dataclass(frozen=True, slots=True)
class Axis:
    """`scale` as the wire names it; "" for what the values say."""

    label: str | None = None
    scale: str = ""
    ticks: Sequence[Any] = ()
    tick_labels: Sequence[str] = ()


@dataclass(slots=True)
class Plot:
    """One pair of axes: what is drawn on it, by the wire's type."""

    title: str | None = None
    x: Axis = Axis()
    y: Axis = Axis()
    is_lying: bool = False
    elements: dict[str, list[Chart]] = field(default_factory=dict[str, list[Chart]])

    def add(self, kind: str, *elements: Chart) -> None:
        self.elements.setdefault(kind, []).extend(elements)


def chart_of(plot: Plot) -> Chart | None:
    """None when nothing is drawn. Several types on one pair of axes: the first of the wire's order."""
    kinds = [kind for kind, elements in plot.elements.items() if elements]
    if not kinds:
        return None if "unknown" not in plot.elements else unknown(plot.title)
    if kinds == ["line"]:
        return _point_chart("line", plot)
    kind = next((kind for kind in _ORDER if kind in kinds), "line")
    if kind == "pie":
        return {"type": "pie", "title": plot.title, "elements": plot.elements["pie"]}
    if kind in ("bar", "box_and_whisker"):
        swapped = kind == "bar" and plot.is_lying
        x, y = (plot.y, plot.x) if swapped else (plot.x, plot.y)
        return {"type": kind, **_labels(plot.title, x, y), "elements": plot.elements[kind]}
    return _point_chart(kind, plot)


def superchart(title: str | None, charts: Sequence[Chart | None]) -> Chart:
    """The charts as one; {} for none."""
    found = [chart for chart in charts if chart is not None]
    if len(found) == 1:
        return found[0] | {"title": found[0]["title"] or title}
    return {"type": "superchart", "title": title, "elements": found} if found else {}


def unknown(title: str | None) -> Chart:
    return {"type": "unknown", "title": title, "elements": []}


def _labels(title: str | None, x: Axis, y: Axis) -> Chart:
    return {
        "title": title,
        "x_label": x.label,
        "y_label": y.label,
        "x_unit": _unit_of(x.label),
        "y_unit": _unit_of(y.label),
    }


def _unit_of(label: str | None) -> str | None:
    match = _UNIT.search(label or "")
    return ((match["round"] or match["square"] or "").strip() or None) if match else None


def _point_chart(kind: str, plot: Plot) -> Chart:
    elements = plot.elements[kind]
    chart = {"type": kind, **_labels(plot.title, plot.x, plot.y)}
    for name, axis, index in (("x", plot.x, 0), ("y", plot.y, 1)):
        values = [point[index] for element in elements for point in element["points"]]
        scale = axis.scale or scale_of(values)
        categories = list(dict.fromkeys(map(str, values))) if scale == "categorical" else []
        chart |= {
            f"{name}_ticks": list(axis.ticks) or [float(number) for number in range(len(categories))],
            f"{name}_tick_labels": list(axis.tick_labels) or categories,
            f"{name}_scale": scale,
        }
    return chart | {"elements": elements}


def scale_of(values: Sequence[Any]) -> str:
    texts = [value for value in values if isinstance(value, str)]
    if not texts or len(texts) < sum(value is not None for value in values):
        return "linear"
    return "datetime" if all(map(_DATE.fullmatch, texts)) else "categorical"


def series(label: str, xs: Sequence[Any], ys: Sequence[Any]) -> Chart:
    return {"label": label, "points": [[plain(x), plain(y)] for x, y in zip(xs, ys, strict=False)]}


def plain(value: Any) -> Any:
    """None for NaN and infinities."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def text_of(value: Any) -> str:
    """A category as a label: 3.0 reads as 3."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def slices(labels: Sequence[Any], values: Sequence[Any]) -> list[Chart]:
    """Of a pie, angles in degrees."""
    numbers = [float(value or 0) for value in values]
    total = math.fsum(numbers) or 1.0
    return [
        {"label": text_of(label), "angle": number / total * 360, "radius": 1}
        for label, number in zip(labels, numbers, strict=False)
    ]


def box(label: str, values: Sequence[Any]) -> Chart | None:
    """Tukey's: whiskers reach the last value within 1.5 times the height of the box."""
    data = sorted(float(value) for value in values if plain(value) is not None)
    if not data:
        return None
    low, middle, high = (quantile(data, share) for share in (0.25, 0.5, 0.75))
    reach = 1.5 * (high - low)
    inside = [value for value in data if low - reach <= value <= high + reach] or data
    return {
        "label": label,
        "min": inside[0],
        "first_quartile": low,
        "median": middle,
        "third_quartile": high,
        "max": inside[-1],
        "outliers": [value for value in data if not low - reach <= value <= high + reach],
    }


def quantile(data: Sequence[float], share: float) -> float:
    """Of sorted data, linear between neighbours (NumPy's and matplotlib's default)."""
    position = share * (len(data) - 1)
    below = math.floor(position)
    above = min(below + 1, len(data) - 1)
    return data[below] + (data[above] - data[below]) * (position - below)


def grouped(keys: Sequence[Any], values: Sequence[Any]) -> dict[Any, list[Any]]:
    """Values by their key, keys in order of appearance."""
    groups: dict[Any, list[Any]] = {}
    for key, value in zip(keys, values, strict=False):
        groups.setdefault(key, []).append(value)
    return groups


def mapping(value: Any) -> dict[str, Any]:
    """{} for what is no object."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
