"""A figure's charts: which axes count, and what kind each is."""

from typing import Any

from . import bars, boxes, extras, pies, points
from .texts import Chart, text_or_none


def extract_chart(figure: Any) -> Chart:
    """The figure's chart, {} for a blank one. May raise on figures nobody has thought of: the caller
    shields the user.
    """
    charts = [axes_chart(axes) for axes in figure.get_axes() if not is_colorbar(axes) and axes.get_children()]
    charts = [chart for chart in charts if chart is not None]
    if not charts:
        return {}
    if len(charts) == 1:
        return charts[0]
    suptitle = getattr(figure, "_suptitle", None)
    return {
        "type": "superchart",
        "title": text_or_none(suptitle.get_text()) if suptitle is not None else None,
        "elements": charts,
    }


def extract_extras(figure: Any) -> dict[str, Chart]:
    """{MIME type: chart} of kinds the wire has no type for; several axes with the same kind become one
    superchart.
    """
    found: dict[str, list[Chart]] = {}
    for axes in figure.get_axes():
        if not is_colorbar(axes):
            for mime, chart in extras.extra_charts(axes).items():
                found.setdefault(mime, []).append(chart)
    return {
        mime: charts[0] if len(charts) == 1 else {"type": "superchart", "title": None, "elements": charts}
        for mime, charts in found.items()
    }


def is_colorbar(axes: Any) -> bool:
    return axes.get_label() == "<colorbar>" or hasattr(axes, "_colorbar")


def axes_chart(axes: Any) -> Chart | None:
    """One axes' chart; None when nothing is drawn on it."""
    artists = drawn(axes)
    if not artists:
        return None
    match detect(artists):
        case "line":
            return points.line_chart(axes)
        case "box_and_whisker":
            return boxes.box_chart(axes)
        case "scatter":
            return points.scatter_chart(axes)
        case "pie":
            return pies.pie_chart(axes)
        case "bar":
            return bars.bar_chart(axes)
        case _:
            return {"type": "unknown", "title": text_or_none(axes.get_title()), "elements": []}


def drawn(axes: Any) -> list[Any]:
    """The artists that carry data: not texts, spines, axes, titles, legends."""
    from matplotlib.text import Text

    return [artist for artist in axes._children if not isinstance(artist, Text)]


def detect(artists: list[Any]) -> str:
    """The order of the tests is the wire sheet's."""
    from matplotlib.collections import PathCollection
    from matplotlib.lines import Line2D
    from matplotlib.patches import PathPatch, Rectangle, Wedge

    if all(isinstance(artist, Line2D) for artist in artists):
        return "box_and_whisker" if boxes.is_box_plot(artists) else "line"
    if all(isinstance(artist, (PathPatch, Line2D)) for artist in artists):
        return "box_and_whisker"
    for kind, name in ((PathCollection, "scatter"), (Wedge, "pie"), (Rectangle, "bar")):
        if any(isinstance(artist, kind) for artist in artists):
            return name
    return "line" if _is_decorated_line(artists) else "unknown"


def _is_decorated_line(artists: list[Any]) -> bool:
    """Lines with a band, an area or error bars around them, as Seaborn draws them: beyond the wire's rule."""
    from matplotlib.collections import LineCollection, PolyCollection
    from matplotlib.contour import ContourSet
    from matplotlib.lines import Line2D

    if not any(isinstance(artist, Line2D) for artist in artists):
        return False
    return all(
        isinstance(artist, (Line2D, LineCollection, PolyCollection)) and not isinstance(artist, ContourSet)
        for artist in artists
    )
