"""Figures of Plotly and Vega-Lite (Altair) → chart data, from the figure's JSON. Pure, standard library only.

The same keys as `charts` gives for matplotlib (the interpreter's wire sheet, "Chart schema"). These figures
leave their ticks to the browser: `x_ticks` and the like are empty unless the figure states them or the axis
has categories.
"""

import re
from collections.abc import Mapping
from typing import Any, cast

from .plotly import plotly_chart
from .vega import vega_chart

__all__ = ["chart_in", "plotly_chart", "vega_chart"]

_PLOTLY = "application/vnd.plotly.v1+json"
_VEGA_LITE = re.compile(r"application/vnd\.vegalite\.v\d+(\.json|\+json)")


def chart_in(bundle: Mapping[str, Any]) -> dict[str, Any] | None:
    """The chart data of the figure in a MIME bundle, None without one or for one that cannot be read."""
    try:
        for mime, document in bundle.items():
            if isinstance(document, dict):
                if mime == _PLOTLY:
                    return plotly_chart(cast("dict[str, Any]", document)) or None
                if _VEGA_LITE.fullmatch(mime):
                    return vega_chart(cast("dict[str, Any]", document)) or None
    except Exception:  # the figure itself is shown in any case, and this one nobody has thought of
        return None
    return None
