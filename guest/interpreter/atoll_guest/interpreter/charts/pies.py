"""Pie charts."""

from typing import Any

from .texts import Chart, number, text_or_none


def pie_chart(axes: Any) -> Chart:
    from matplotlib.patches import Wedge

    wedges = [patch for patch in axes.patches if isinstance(patch, Wedge)]
    elements = [
        {
            "label": str(wedge.get_label()),
            "angle": number(abs(wedge.theta2 - wedge.theta1)),
            "radius": number(wedge.r),
        }
        for wedge in wedges
    ]
    return {"type": "pie", "title": text_or_none(axes.get_title()), "elements": elements}
