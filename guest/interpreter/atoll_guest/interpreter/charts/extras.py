"""Charts beyond the wire's types: histogram, heat map, contour, area, error bars.

Each travels as an own MIME type `chart/<type>` in a result's `extra`, so that clients that know only the
wire's types are not disturbed. Shape of each: {"type", "title", "x_label", "y_label", "x_unit", "y_unit",
"elements": [...]}.

    histogram   {"label", "bins": [{"start", "end", "value"}]}
    heatmap     {"label", "values": rows of numbers, "x": edges, "y": edges, "x_tick_labels", "y_tick_labels"}
    contour     {"level", "lines": [points]}
    area        {"label", "outline": points}
    error_bars  {"label", "points": [{"x", "y", "x_low", "x_high", "y_low", "y_high"}]}
"""

import itertools
import math
from collections.abc import Iterable
from typing import Any, cast

from . import scales
from .bars import group_name
from .texts import Chart, labels, number

MAX_CELLS = 250_000
"""A heat map with more cells is a picture, not a chart."""


def extra_charts(axes: Any) -> dict[str, Chart]:
    """{MIME type: chart} of one axes."""
    found = {
        "histogram": histograms(axes),
        "heatmap": heat_maps(axes),
        "contour": contours(axes),
        "area": areas(axes),
        "error_bars": error_bars(axes),
    }
    return {
        f"chart/{kind}": {"type": kind, **labels(axes), "elements": elements}
        for kind, elements in found.items()
        if elements
    }


def histograms(axes: Any) -> list[Chart]:
    from matplotlib.container import BarContainer

    containers = [c for c in axes.containers if isinstance(c, BarContainer) and _is_gapless(list(c))]
    return [_histogram(group_name(container), list(container)) for container in containers]


def _is_gapless(bars: list[Any]) -> bool:
    """The bars of a histogram touch; two at least."""
    edges = [(float(bar.get_x()), float(bar.get_x() + bar.get_width())) for bar in bars]
    return len(edges) > 1 and all(
        math.isclose(left[1], right[0], rel_tol=1e-6, abs_tol=1e-9)
        for left, right in itertools.pairwise(edges)
    )


def _histogram(label: str, bars: list[Any]) -> Chart:
    bins = [
        {
            "start": number(bar.get_x()),
            "end": number(bar.get_x() + bar.get_width()),
            "value": number(bar.get_height()),
        }
        for bar in bars
    ]
    return {"label": label, "bins": bins}


def heat_maps(axes: Any) -> list[Chart]:
    from matplotlib.collections import QuadMesh
    from matplotlib.image import AxesImage

    images = [_image(axes, image) for image in axes.images if isinstance(image, AxesImage)]
    meshes = [_mesh(axes, mesh) for mesh in axes.collections if isinstance(mesh, QuadMesh)]
    return [found for found in (*images, *meshes) if found is not None]


def _image(axes: Any, image: Any) -> Chart | None:
    left, right, bottom, top = (float(edge) for edge in image.get_extent())
    rows = _rows(image.get_array())
    if rows is None:
        return None
    return _heat_map(axes, image, rows, _edges(left, right, len(rows[0])), _edges(bottom, top, len(rows)))


def _mesh(axes: Any, mesh: Any) -> Chart | None:
    corners = mesh.get_coordinates()
    height, width = corners.shape[0] - 1, corners.shape[1] - 1
    array = mesh.get_array()
    if array is None or array.size != height * width:
        return None
    rows = _rows(array.reshape(height, width))
    if rows is None:
        return None
    return _heat_map(axes, mesh, rows, corners[0, :, 0].tolist(), corners[:, 0, 1].tolist())


def _rows(array: Any) -> list[list[Any]] | None:
    """A matrix of numbers; None for a colour image, or for one too large."""
    if array is None or array.ndim != 2 or array.size == 0 or array.size > MAX_CELLS:
        return None
    return [[number(value) for value in row] for row in array.tolist()]


def _edges(start: float, end: float, count: int) -> list[float]:
    return [start + (end - start) * index / count for index in range(count + 1)]


def _heat_map(axes: Any, artist: Any, rows: list[list[Any]], x_edges: list[Any], y_edges: list[Any]) -> Chart:
    return {
        "label": str(artist.get_label()),
        "values": rows,
        "x": scales.values(axes.xaxis, x_edges),
        "y": scales.values(axes.yaxis, y_edges),
        "x_tick_labels": scales.tick_labels(axes.xaxis),
        "y_tick_labels": scales.tick_labels(axes.yaxis),
    }


def contours(axes: Any) -> list[Chart]:
    from matplotlib.contour import ContourSet

    elements: list[Chart] = []
    for drawn in axes.collections:
        if isinstance(drawn, ContourSet):
            paths = zip(cast("Any", drawn).levels, drawn.get_paths(), strict=False)
            elements += [{"level": number(level), "lines": _lines(path)} for level, path in paths]
    return elements


def _lines(path: Any) -> list[list[list[Any]]]:
    polygons = path.to_polygons(closed_only=False)
    return [[[number(x), number(y)] for x, y in polygon.tolist()] for polygon in polygons]


def areas(axes: Any) -> list[Chart]:
    """What `fill_between` and `stackplot` draw; other polygons (arrows, hexagons, surfaces) are none."""
    from matplotlib import collections

    # matplotlib before 3.10 has no type of its own for them
    kind = getattr(collections, "FillBetweenPolyCollection", collections.PolyCollection)
    return [
        {"label": str(area.get_label()), "outline": _points(axes, path.vertices.tolist())}
        for area in axes.collections
        if type(area) is kind
        for path in area.get_paths()
    ]


def _points(axes: Any, vertices: Iterable[Any]) -> list[list[Any]]:
    pairs = list(vertices)
    x_values = scales.values(axes.xaxis, [pair[0] for pair in pairs])
    y_values = scales.values(axes.yaxis, [pair[1] for pair in pairs])
    return [[x, y] for x, y in zip(x_values, y_values, strict=True)]


def error_bars(axes: Any) -> list[Chart]:
    from matplotlib.container import ErrorbarContainer

    containers = [container for container in axes.containers if isinstance(container, ErrorbarContainer)]
    return [found for found in map(_error_bars, containers) if found is not None]


def _error_bars(container: Any) -> Chart | None:
    line, _caps, bars = container.lines
    if line is None:
        return None
    xs, ys = line.get_data(orig=False)
    points: list[Chart] = [{"x": number(x), "y": number(y)} for x, y in zip(xs, ys, strict=True)]
    for collection in bars:
        for point, segment in zip(points, collection.get_segments(), strict=False):
            _add_range(point, segment.tolist())
    return {"label": str(container.get_label()), "points": points}


def _add_range(point: Chart, segment: list[list[float]]) -> None:
    """A vertical segment is the range of y, a level one that of x."""
    (x_start, y_start), (x_end, y_end) = segment[0], segment[-1]
    if x_start == x_end:
        point |= {"y_low": number(min(y_start, y_end)), "y_high": number(max(y_start, y_end))}
    else:
        point |= {"x_low": number(min(x_start, x_end)), "x_high": number(max(x_start, x_end))}
