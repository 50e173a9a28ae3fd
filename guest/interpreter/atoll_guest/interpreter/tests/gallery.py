# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false, reportMissingTypeStubs=false
# pyright: reportArgumentType=false, reportUnknownArgumentType=false
"""A gallery of matplotlib's and pandas' figures, each with the keys of its chart that are to be so."""

import datetime
from collections.abc import Callable
from typing import Any

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle


def series(label: str, *points: list[Any]) -> dict[str, Any]:
    return {"label": label, "points": list(points)}


def bar(label: str, value: float, group: str = "Group 0") -> dict[str, Any]:
    return {"label": label, "group": group, "value": value}


def wedge(label: str, angle: float, radius: float = 1) -> dict[str, Any]:
    return {"label": label, "angle": angle, "radius": radius}


def labelled(*texts: str) -> Callable[[], None]:
    def draw() -> None:
        plt.plot([1, 2], [3, 4], label="a")
        plt.title(texts[0])
        plt.xlabel(texts[1])
        plt.ylabel(texts[2])

    return draw


DAYS = pd.date_range("2024-01-01", periods=3)
GALLERY: dict[str, tuple[Callable[[], object], dict[str, Any]]] = {
    "line": (
        labelled("T", "Time (s)", "Speed [m/s]"),
        {
            **{"type": "line", "title": "T", "x_label": "Time (s)", "x_unit": "s", "y_unit": "m/s"},
            **{"x_scale": "linear", "elements": [{"label": "a", "points": [[1, 3], [2, 4]]}]},
        },
    ),
    "no texts": (labelled("", "", ""), {"title": None, "x_label": None, "x_unit": None}),
    "a label without a unit": (labelled("", "f(x)", "a b"), {"x_unit": None, "y_unit": None}),
    "automatic labels": (
        lambda: plt.plot([1, 2], [[1, 2], [3, 4]]),
        {
            "elements": [
                {"label": "Line 0", "points": [[1, 1], [2, 3]]},
                {"label": "Line 1", "points": [[1, 2], [2, 4]]},
            ]
        },
    ),
    "a gap in a line": (
        lambda: plt.plot([1, 2, 3], [1, float("nan"), 3], label="a"),
        {"elements": [{"label": "a", "points": [[1, 1], [2, None], [3, 3]]}]},
    ),
    "logarithmic": (lambda: plt.loglog([1, 10], [1, 100]), {"x_scale": "log", "y_scale": "log"}),
    "symlog": (lambda: (plt.plot([1]), plt.yscale("symlog")), {"y_scale": "symlog"}),
    "asinh": (lambda: (plt.plot([1]), plt.yscale("asinh")), {"y_scale": "asinh"}),
    "categories": (
        lambda: plt.plot(["a", "b", "c"], [1, 2, 3]),
        {"x_scale": "categorical", "x_tick_labels": ["a", "b", "c"], "x_ticks": [0.0, 1.0, 2.0]},
    ),
    "dates": (
        lambda: plt.plot([datetime.datetime(2024, 1, day) for day in (1, 2)], [1, 2], label="a"),
        {
            "x_scale": "datetime",
            "elements": [{"label": "a", "points": [["2024-01-01T00:00:00", 1], ["2024-01-02T00:00:00", 2]]}],
        },
    ),
    "pandas series by date": (
        lambda: pd.Series([1.0, 2.0, 3.0], index=DAYS, name="s").plot(),
        {
            "x_scale": "datetime",
            "elements": [
                {
                    "label": "s",
                    "points": [[day.isoformat(), n] for day, n in zip(DAYS, (1, 2, 3), strict=True)],
                }
            ],
        },
    ),
    "pandas frame": (
        lambda: pd.DataFrame({"u": [1, 2], "v": [3, 4]}).plot(),
        {
            "elements": [
                {"label": "u", "points": [[0, 1], [1, 2]]},
                {"label": "v", "points": [[0, 3], [1, 4]]},
            ]
        },
    ),
    "a grid is ignored": (lambda: (plt.plot([1, 2]), plt.grid(True)), {"type": "line"}),
    "a legend is ignored": (lambda: (plt.plot([1, 2], label="a"), plt.legend()), {"type": "line"}),
    "a text is ignored": (lambda: (plt.plot([1, 2]), plt.text(0, 0, "x")), {"type": "line"}),
    "a line with a band": (
        lambda: (plt.plot([1, 2], label="a"), plt.fill_between([0, 1], [0, 1], [2, 3])),
        {"type": "line", "elements": [{"label": "a", "points": [[0, 1], [1, 2]]}]},
    ),
    "scatter": (
        lambda: plt.scatter([1, 2], [3, 4], label="s"),
        {"type": "scatter", "elements": [{"label": "s", "points": [[1, 3], [2, 4]]}]},
    ),
    "two scatters": (
        lambda: (plt.scatter([1], [2], label="a"), plt.scatter([3], [4], label="b")),
        {"elements": [{"label": "a", "points": [[1, 2]]}, {"label": "b", "points": [[3, 4]]}]},
    ),
    "scatter by date": (
        lambda: plt.scatter(DAYS, [1, 2, 3]),
        {"type": "scatter", "x_scale": "datetime"},
    ),
    "pandas scatter": (
        lambda: pd.DataFrame({"a": [1, 2], "b": [3, 4]}).plot.scatter("a", "b"),
        {"type": "scatter", "x_label": "a", "y_label": "b"},
    ),
    "bars": (
        lambda: plt.bar(["a", "b"], [1, 2.5], label="g"),
        {
            "type": "bar",
            "elements": [
                {"label": "a", "group": "g", "value": 1},
                {"label": "b", "group": "g", "value": 2.5},
            ],
        },
    ),
    "bars without a group": (
        lambda: plt.bar(["a", "b"], [1, 2]),
        {
            "elements": [
                {"label": "a", "group": "Group 0", "value": 1},
                {"label": "b", "group": "Group 0", "value": 2},
            ]
        },
    ),
    "lying bars swap their labels": (
        lambda: (plt.barh(["a", "b"], [1, 2]), plt.xlabel("n (kg)"), plt.ylabel("who")),
        {
            **{"type": "bar", "x_label": "who", "y_label": "n (kg)", "x_unit": None, "y_unit": "kg"},
            "elements": [
                {"label": "a", "group": "Group 0", "value": 1},
                {"label": "b", "group": "Group 0", "value": 2},
            ],
        },
    ),
    "lying bars of different heights": (
        lambda: plt.barh(["a", "b"], [1, 2], height=[0.3, 0.5]),
        {
            "elements": [
                {"label": "a", "group": "Group 0", "value": 1},
                {"label": "b", "group": "Group 0", "value": 2},
            ]
        },
    ),
    "equal heights are taken as lying": (
        lambda: plt.bar(["a", "b"], [2, 2]),
        {"type": "bar"},
    ),
    "grouped bars": (
        lambda: pd.DataFrame({"u": [1, 2], "v": [3, 4]}, index=["a", "b"]).plot.bar(),
        {
            "elements": [
                {"label": "a", "group": "u", "value": 1},
                {"label": "b", "group": "u", "value": 2},
                {"label": "a", "group": "v", "value": 3},
                {"label": "b", "group": "v", "value": 4},
            ]
        },
    ),
    "stacked bars": (
        lambda: (
            plt.bar(["a", "b"], [1, 2], label="u"),
            plt.bar(["a", "b"], [3, 5], bottom=[1, 2], label="v"),
        ),
        {
            "elements": [
                {"label": "a", "group": "u", "value": 1},
                {"label": "b", "group": "u", "value": 2},
                {"label": "a", "group": "v", "value": 3},
                {"label": "b", "group": "v", "value": 5},
            ]
        },
    ),
    "bars with errors": (lambda: plt.bar(["a", "b"], [1, 2], yerr=[0.1, 0.2]), {"type": "bar"}),
    "pie": (
        lambda: plt.pie([1, 3], labels=["a", "b"]),
        {
            "type": "pie",
            "elements": [{"label": "a", "angle": 90, "radius": 1}, {"label": "b", "angle": 270, "radius": 1}],
        },
    ),
    "heat map": (lambda: plt.imshow([[1, 2], [3, 4]]), {"type": "unknown", "elements": []}),
    # --- more lines
    "one point": (lambda: plt.plot([3], [4], "o", label="a"), {"elements": [series("a", [3, 4])]}),
    "steps": (
        lambda: plt.step([1, 2], [3, 4], label="a"),
        {"type": "line", "elements": [series("a", [1, 3], [2, 4])]},
    ),
    "stems": (lambda: plt.stem([1, 2], [3, 4], label="a"), {"type": "line"}),
    "infinities are gaps": (
        lambda: plt.plot([1, 2], [float("inf"), 4], label="a"),
        {"elements": [series("a", [1, None], [2, 4])]},
    ),
    "masked values are gaps": (
        lambda: plt.plot([1, 2], np.ma.masked_array([3.0, 4.0], [True, False]), label="a"),
        {"elements": [series("a", [1, None], [2, 4])]},
    ),
    "an empty series beside a full one": (
        lambda: (plt.plot([], [], label="none"), plt.plot([1], [2], label="a")),
        {"elements": [series("a", [1, 2])]},
    ),
    "stated ticks": (
        lambda: (plt.plot([1, 2], [3, 4]), plt.xticks([1, 2], ["p", "q"])),
        {"x_ticks": [1.0, 2.0], "x_tick_labels": ["p", "q"], "x_scale": "linear"},
    ),
    "an axis the other way round": (
        lambda: (plt.plot([1, 2], [3, 4], label="a"), plt.gca().invert_xaxis()),
        {"elements": [series("a", [1, 3], [2, 4])]},
    ),
    "logit": (lambda: (plt.plot([0.1, 0.9]), plt.yscale("logit")), {"y_scale": "logit"}),
    "a scale by functions": (
        lambda: (plt.plot([1, 2]), plt.yscale("function", functions=(np.square, np.sqrt))),
        {"y_scale": "function"},
    ),
    "a logarithm of functions": (
        lambda: (plt.plot([1, 2]), plt.yscale("functionlog", functions=(np.square, np.sqrt))),
        {"y_scale": "functionlog"},
    ),
    "one logarithmic axis": (lambda: plt.semilogy([1, 10]), {"x_scale": "linear", "y_scale": "log"}),
    "NumPy's dates": (
        lambda: plt.plot(np.array(["2024-01-01", "2024-01-02"], "datetime64[D]"), [1, 2], label="a"),
        {
            "x_scale": "datetime",
            "elements": [series("a", ["2024-01-01T00:00:00", 1], ["2024-01-02T00:00:00", 2])],
        },
    ),
    "dates upwards": (
        lambda: plt.plot([1, 2, 3], DAYS, label="a"),
        {
            "y_scale": "datetime",
            "elements": [series("a", *([n, day.isoformat()] for n, day in enumerate(DAYS, 1)))],
        },
    ),
    "categories upwards": (
        lambda: plt.plot([1, 2], ["a", "b"]),
        {"y_scale": "categorical", "y_tick_labels": ["a", "b"]},
    ),
    "months of pandas": (
        lambda: pd.Series([1, 2], index=pd.period_range("2024-01", periods=2, freq="M"), name="s").plot(),
        {
            "x_scale": "datetime",
            "elements": [series("s", ["2024-01-01T00:00:00", 1], ["2024-02-01T00:00:00", 2])],
        },
    ),
    "areas of pandas": (
        lambda: pd.DataFrame({"u": [1, 2]}).plot.area(),
        {"type": "line", "elements": [series("Line 0", [0, 1], [1, 2])]},
    ),
    "error bars": (
        lambda: plt.errorbar([1, 2], [3, 4], yerr=0.5),
        {"type": "line"},
    ),
    "a line added by hand": (
        lambda: plt.gca().add_line(Line2D([1, 2], [3, 4], label="a")),
        {"type": "line", "elements": [series("a", [1, 3], [2, 4])]},
    ),
    "a unit in brackets of two": (
        labelled("", "T [°C]", "share of all (%)"),
        {"x_unit": "°C", "y_unit": "%"},
    ),
    "a polar line": (
        lambda: plt.polar([0, 1], [1, 2], label="a"),
        {"type": "line", "elements": [series("a", [0, 1], [1, 2])]},
    ),
    # --- more points
    "points and a line are points": (
        lambda: (plt.scatter([1], [2], label="s"), plt.plot([1, 2], [3, 4])),
        {"type": "scatter", "elements": [series("s", [1, 2])]},
    ),
    "points over names": (
        lambda: plt.scatter(["a", "b"], [1, 2], label="s"),
        {"type": "scatter", "x_scale": "categorical", "x_tick_labels": ["a", "b"]},
    ),
    "points with a colour bar": (
        lambda: plt.colorbar(plt.scatter([1, 2], [3, 4], c=[5, 6], label="s")),
        {"type": "scatter", "elements": [series("s", [1, 3], [2, 4])]},
    ),
    "points without a name": (
        lambda: plt.scatter([1], [2]),
        {"elements": [series("Scatter 0", [1, 2])]},
    ),
    # --- more bars
    "bars at numbers": (
        lambda: plt.bar([10, 20], [1, 2]),
        {"elements": [bar("10", 1), bar("20", 2)]},
    ),
    "bars at dates": (
        lambda: plt.bar(list(DAYS[:2]), [1, 2]),
        {"elements": [bar("2024-01-01T00:00:00", 1), bar("2024-01-02T00:00:00", 2)]},
    ),
    "bars below zero": (
        lambda: plt.bar(["a", "b"], [-1, 2]),
        {"elements": [bar("a", -1), bar("b", 2)]},
    ),
    "bars and a line are bars": (
        lambda: (plt.bar(["a", "b"], [1, 2]), plt.plot(["a", "b"], [3, 4])),
        {"type": "bar", "elements": [bar("a", 1), bar("b", 2)]},
    ),
    "bars with their values written": (
        lambda: plt.bar_label(plt.bar(["a", "b"], [1, 2])),
        {"type": "bar", "elements": [bar("a", 1), bar("b", 2)]},
    ),
    "groups side by side": (
        lambda: (
            plt.bar([-0.2, 0.8], [1, 2], 0.4, label="u"),
            plt.bar([0.2, 1.2], [3, 4], 0.4, label="v"),
            plt.xticks([0, 1], ["a", "b"]),
        ),
        {"elements": [bar("a", 1, "u"), bar("b", 2, "u"), bar("a", 3, "v"), bar("b", 4, "v")]},
    ),
    "lying groups of pandas": (
        lambda: pd.DataFrame({"u": [1, 2], "v": [3, 4]}, index=["a", "b"]).plot.barh(),
        {"elements": [bar("a", 1, "u"), bar("b", 2, "u"), bar("a", 3, "v"), bar("b", 4, "v")]},
    ),
    "stacked bars of pandas": (
        lambda: pd.DataFrame({"u": [1, 2], "v": [3, 5]}, index=["a", "b"]).plot.bar(stacked=True),
        {"elements": [bar("a", 1, "u"), bar("b", 2, "u"), bar("a", 3, "v"), bar("b", 5, "v")]},
    ),
    "stacked lying bars": (
        lambda: (
            plt.barh(["a", "b"], [1, 2], label="u"),
            plt.barh(["a", "b"], [3, 5], left=[1, 2], label="v"),
        ),
        {"elements": [bar("a", 1, "u"), bar("b", 2, "u"), bar("a", 3, "v"), bar("b", 5, "v")]},
    ),
    "a histogram reads as bars": (
        lambda: plt.hist([1, 1, 2, 3], bins=[1, 2, 3, 4]),
        {"type": "bar", "elements": [bar("1.5", 2), bar("2.5", 1), bar("3.5", 1)]},
    ),
    "a histogram of pandas": (
        lambda: pd.Series([1, 1, 2, 3], name="s").plot.hist(bins=[1, 2, 3, 4]),
        {"type": "bar", "y_label": "Frequency"},
    ),
    "rectangles": (
        lambda: (plt.gca().add_patch(Rectangle((0, 0), 1, 2)), plt.xlim(0, 3)),
        {"type": "bar"},
    ),
    # --- more pies
    "a ring": (
        lambda: plt.pie([1, 1], labels=["a", "b"], radius=2, wedgeprops={"width": 0.5}),
        {"type": "pie", "elements": [wedge("a", 180, 2), wedge("b", 180, 2)]},
    ),
    "a pie clockwise with a part out": (
        lambda: plt.pie([1, 3], labels=["a", "b"], explode=[0.1, 0], counterclock=False, startangle=90),
        {"elements": [wedge("a", 90), wedge("b", 270)]},
    ),
    "a pie with shares written": (
        lambda: plt.pie([1, 3], labels=["a", "b"], autopct="%d", shadow=True),
        {"type": "pie"},
    ),
    "a pie of pandas": (
        lambda: pd.Series([1, 3], index=["a", "b"], name="s").plot.pie(),
        {"type": "pie", "elements": [wedge("a", 90), wedge("b", 270)]},
    ),
    # --- boxes and what has no type
    "boxes of pandas": (
        lambda: pd.DataFrame({"p": [1, 2, 3, 4, 20]}).plot.box(),
        {
            "type": "box_and_whisker",
            "elements": [
                {
                    **{"label": "p", "min": 1, "first_quartile": 2, "median": 3},
                    **{"third_quartile": 4, "max": 4, "outliers": [20]},
                }
            ],
        },
    ),
    "violins": (lambda: plt.violinplot([[1, 2, 3]], bw_method=1), {"type": "unknown", "elements": []}),
    "hexagons": (lambda: plt.hexbin([1, 2], [3, 4], gridsize=3), {"type": "unknown"}),
    "arrows": (lambda: plt.quiver([1], [2], [3], [4]), {"type": "unknown"}),
    "filled contours": (lambda: plt.contourf([[0, 0], [1, 1]]), {"type": "unknown"}),
    "stacked areas": (lambda: plt.stackplot([1, 2], [3, 4]), {"type": "unknown"}),
    "a surface": (
        lambda: plt.figure().add_subplot(projection="3d").plot_surface(*(np.eye(3) for _ in range(3))),
        {"type": "unknown"},
    ),
    # --- several axes
    "two scales on one place": (
        lambda: (plt.plot([1, 2], label="a"), plt.gca().twinx().plot([3, 4], label="b")),
        {"type": "superchart", "title": None},
    ),
    "frames of pandas apart": (
        lambda: pd.DataFrame({"u": [1, 2], "v": [3, 4]}).plot(subplots=True, title="both"),
        {"type": "superchart", "title": "both"},
    ),
    "a blank place beside a chart": (
        lambda: plt.subplots(1, 2)[1][0].bar(["a", "b"], [1, 2]),
        {"type": "bar", "elements": [bar("a", 1), bar("b", 2)]},
    ),
}
