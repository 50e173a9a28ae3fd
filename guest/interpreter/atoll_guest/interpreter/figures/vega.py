"""A Vega-Lite specification with its data (what Altair makes) → chart data.

Source: Vega-Lite's documentation of marks, encodings and compositions. Read are data that lies in the
specification, fields and aggregates; transforms and bins are the browser's work, such a chart is `unknown`.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from .shapes import Axis, Chart, Plot, box, chart_of, grouped, mapping, series, slices, superchart, text_of

Row = Mapping[str, Any]

_MARKS = {
    **{"line": "line", "trail": "line", "area": "line", "bar": "bar", "arc": "pie"},
    **{"point": "scatter", "circle": "scatter", "square": "scatter", "boxplot": "box_and_whisker"},
}
_SERIES = ("color", "stroke", "fill", "detail", "strokeDash", "shape", "xOffset", "yOffset")
_DISCRETE = ("nominal", "ordinal")
_AGGREGATES: dict[str, Callable[[list[float]], float]] = {
    "sum": sum,
    "mean": statistics.fmean,
    "average": statistics.fmean,
    "median": statistics.median,
    "min": min,
    "max": max,
}


def vega_chart(spec: Mapping[str, Any]) -> Chart:
    """{} for one without a mark. May raise on specifications nobody has thought of: the caller shields."""
    return superchart(_text(spec.get("title")), [chart_of(plot) for plot in _plots(spec, spec, {})])


def _plots(spec: Mapping[str, Any], top: Mapping[str, Any], above: Mapping[str, Any]) -> list[Plot]:
    """One per pair of axes; what an outer specification says holds for the inner ones."""
    inherited = {
        "data": spec.get("data") or above.get("data"),
        "encoding": {**mapping(above.get("encoding")), **mapping(spec.get("encoding"))},
        "is_transformed": bool(spec.get("transform")) or above.get("is_transformed"),
    }
    for name in ("hconcat", "vconcat", "concat"):
        if name in spec:
            return [plot for part in _parts(spec, name) for plot in _plots(part, top, inherited)]
    if "facet" in spec or "repeat" in spec:
        return [Plot(_text(spec.get("title")), elements={"unknown": []})]
    plot = Plot(_text(spec.get("title")) if spec is not top else None)
    for layer in _parts(spec, "layer") or [spec]:
        own = _inherit(inherited, layer) if layer is not spec else inherited
        if "mark" in layer:
            _add(plot, layer, own, top)
    return [plot]


def _parts(spec: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    return [mapping(part) for part in cast("list[Any]", spec.get(name) or [])]


def _inherit(above: Mapping[str, Any], layer: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "data": layer.get("data") or above["data"],
        "encoding": {**above["encoding"], **mapping(layer.get("encoding"))},
        "is_transformed": above["is_transformed"] or bool(layer.get("transform")),
    }


def _add(plot: Plot, spec: Mapping[str, Any], own: Mapping[str, Any], top: Mapping[str, Any]) -> None:
    mark = spec["mark"]
    kind = _MARKS.get(str(mapping(mark).get("type") if isinstance(mark, dict) else mark), "")
    encoding: dict[str, dict[str, Any]] = {
        name: mapping(channel) for name, channel in own["encoding"].items()
    }
    rows = _rows(mapping(own["data"]), top)
    is_derived = own["is_transformed"] or any(c.get("bin") or c.get("timeUnit") for c in encoding.values())
    if not kind or rows is None or is_derived:
        plot.add("unknown")
        return
    plot.x, plot.y = _axis(encoding.get("x")), _axis(encoding.get("y"))
    channels = {name: encoding[name] for name in ("x", "y", "theta", *_SERIES) if name in encoding}
    table = (
        _aggregate(rows, channels) if kind != "box_and_whisker" else [_pick(row, channels) for row in rows]
    )
    _DRAW[kind](plot, table, channels)


def _rows(data: Mapping[str, Any], top: Mapping[str, Any]) -> list[Row] | None:
    """None for data that is elsewhere."""
    found: Any = data.get("values")
    if found is None and "name" in data:
        found = mapping(top.get("datasets")).get(str(data["name"]))
    return cast("list[Row]", found) if isinstance(found, list) else None


def _axis(channel: Mapping[str, Any] | None) -> Axis:
    if channel is None:
        return Axis()
    scale = str(mapping(channel.get("scale")).get("type") or "")
    by_type = {"temporal": "datetime", "nominal": "categorical", "ordinal": "categorical"}
    named = scale if scale in ("log", "symlog") else by_type.get(str(channel.get("type")), "")
    return Axis(_name(channel), named)


def _name(channel: Mapping[str, Any]) -> str | None:
    """What Vega-Lite writes at an axis."""
    for title in (channel, mapping(channel.get("axis"))):
        if "title" in title:
            return _text(title["title"])
    field, aggregate = channel.get("field"), channel.get("aggregate")
    if aggregate == "count":
        return "Count of Records"
    return f"{str(aggregate).capitalize()} of {field}" if aggregate else _text(field)


def _text(value: Any) -> str | None:
    text = mapping(value).get("text") if isinstance(value, dict) else value
    if isinstance(text, list):
        text = " ".join(map(str, cast("list[Any]", text)))
    return str(cast("object", text)) if text else None


def _pick(row: Row, channels: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {
        name: row.get(str(channel["field"]))
        if "field" in channel
        else mapping(channel).get("value", channel.get("datum"))
        for name, channel in channels.items()
    }


def _aggregate(rows: Sequence[Row], channels: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """{channel: value} per mark: rows that agree in all that is not aggregated are one."""
    aggregated = {
        name: str(channel["aggregate"]) for name, channel in channels.items() if channel.get("aggregate")
    }
    picked = [_pick(row, channels) for row in rows]
    if not aggregated:
        return picked
    keys = [tuple(row[name] for name in channels if name not in aggregated) for row in picked]
    table: list[dict[str, Any]] = []
    for members in grouped(keys, picked).values():
        merged = dict(members[0])
        for name, aggregate in aggregated.items():
            merged[name] = _merge(aggregate, [member[name] for member in members])
        table.append(merged)
    return table


def _merge(aggregate: str, found: list[Any]) -> Any:
    """Raises KeyError for an aggregate that is not known here."""
    if aggregate == "count":
        return len(found)
    numbers = [value for value in found if value is not None]
    return _AGGREGATES[aggregate](numbers) if numbers else None


def _series_name(row: Mapping[str, Any], default: str) -> str:
    return next((text_of(row[name]) for name in _SERIES if row.get(name) is not None), default)


def _draw_points(kind: str) -> Callable[[Plot, list[dict[str, Any]], Mapping[str, Any]], None]:
    def draw(plot: Plot, table: list[dict[str, Any]], channels: Mapping[str, Any]) -> None:
        default = "Line" if kind == "line" else "Scatter"
        offset = len(plot.elements.get(kind, []))
        named = grouped([_series_name(row, f"{default} {offset}") for row in table], table)
        for name, rows in named.items():
            plot.add(kind, series(name, [row.get("x") for row in rows], [row.get("y") for row in rows]))

    return draw


def _draw_bars(plot: Plot, table: list[dict[str, Any]], channels: Mapping[str, Any]) -> None:
    plot.is_lying = _is_lying(channels)
    place, height = ("y", "x") if plot.is_lying else ("x", "y")
    for group, rows in grouped([_group_name(row) for row in table], table).items():
        bars = [{"label": text_of(row.get(place)), "group": group, "value": row.get(height)} for row in rows]
        plot.add("bar", *bars)


def _group_name(row: Mapping[str, Any]) -> str:
    """Bars that are only coloured by their own place are one group."""
    name = _series_name(row, "Group 0")
    return "Group 0" if name in (text_of(row.get("x")), text_of(row.get("y"))) else name


def _is_lying(channels: Mapping[str, Any]) -> bool:
    """The places are on the discrete axis."""
    x_type, y_type = (mapping(channels.get(name)).get("type") for name in ("x", "y"))
    return y_type in _DISCRETE and x_type not in _DISCRETE


def _draw_slices(plot: Plot, table: list[dict[str, Any]], channels: Mapping[str, Any]) -> None:
    plot.add("pie", *slices([_series_name(row, "") for row in table], [row.get("theta") for row in table]))


def _draw_boxes(plot: Plot, table: list[dict[str, Any]], channels: Mapping[str, Any]) -> None:
    place, height = ("y", "x") if _is_lying(channels) else ("x", "y")
    for label, rows in grouped([row.get(place) for row in table], table).items():
        element = box("" if label is None else text_of(label), [row.get(height) for row in rows])
        if element is not None:
            plot.add("box_and_whisker", element)


_DRAW: dict[str, Callable[[Plot, list[dict[str, Any]], Mapping[str, Any]], None]] = {
    "line": _draw_points("line"),
    "scatter": _draw_points("scatter"),
    "bar": _draw_bars,
    "pie": _draw_slices,
    "box_and_whisker": _draw_boxes,
}
