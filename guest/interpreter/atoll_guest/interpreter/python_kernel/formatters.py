"""Formatters of the Python kernel beyond IPython's own: DataFrame → data, list and dict → json, Figure →
chart.

All are registered by class name, so nothing is imported before the user's code does. A formatter never
raises into the user's code: a value without that form has just not that form.
"""

from typing import Any, cast

from .plain import NotPlain, to_plain


def install(shell: Any) -> None:
    """Into IPython's display formatter. Tables and charts go through the bundle formatter, which IPython's
    set-up of matplotlib leaves alone (it unregisters Figure from all others).
    """
    display = shell.display_formatter
    bundles = display.mimebundle_formatter
    for module in ("pandas", "pandas.core.frame"):  # where the class says it is, by pandas' version
        bundles.for_type_by_name(module, "DataFrame", table_bundle)
    bundles.for_type_by_name("matplotlib.figure", "Figure", figure_bundle)
    for version in ("v5", "v6"):
        bundles.for_type_by_name(f"altair.vegalite.{version}.api", "TopLevelMixin", altair_bundle)
    for kind in (list, dict):
        display.formatters["application/json"].for_type(kind, json_value)


def table_bundle(frame: Any) -> dict[str, Any]:
    data = table(frame)
    return {} if data is None else {"e2b/data": data}


def figure_bundle(figure: Any) -> dict[str, Any]:
    return {"e2b/chart": chart(figure), **extras(figure)}


def altair_bundle(chart: Any) -> Any:
    """Altair's own bundle holds the chart as a web page only; ours adds its data."""
    from atoll_guest.interpreter.figures import vega_chart

    shown = chart._repr_mimebundle_()
    try:
        found = vega_chart(chart.to_dict())
    except Exception:  # the user's chart is shown in any case
        return shown
    if not found:
        return shown
    data, metadata = cast("Any", shown if isinstance(shown, tuple) else (shown, {}))
    return {**data, "e2b/chart": found}, metadata


def table(frame: Any) -> dict[str, list[Any]] | None:
    """{column: values}; columns of the same name get `.1`, `.2` … as pandas' own readers name them."""
    columns: dict[str, list[Any]] = {}
    try:
        for index, name in enumerate(frame.columns):
            columns[_free_name(_column_name(name), columns)] = column_values(frame.iloc[:, index])
    except NotPlain:
        return None
    return columns


def _column_name(name: Any) -> str:
    if isinstance(name, tuple):
        return ", ".join(str(part) for part in cast("tuple[Any, ...]", name))
    return str(name)


def _free_name(name: str, taken: dict[str, Any]) -> str:
    number, free = 0, name
    while free in taken:
        number += 1
        free = f"{name}.{number}"
    return free


def column_values(column: Any) -> list[Any]:
    """One column; a value without a JSON form becomes its text."""
    kind = getattr(column.dtype, "kind", "O")
    if kind in "biu" and not column.hasnans:
        return cast("list[Any]", column.tolist())
    values: list[Any] = []
    for value in column.tolist():
        try:
            values.append(to_plain(value))
        except NotPlain:
            values.append(str(value))
    return values


def json_value(value: Any) -> Any:
    """A list or dict as JSON, None when something in it has no JSON form."""
    try:
        return to_plain(value)
    except (NotPlain, RecursionError):
        return None


def chart(figure: Any) -> dict[str, Any]:
    """The figure's chart data; {} when there is none or it cannot be read."""
    from atoll_guest.interpreter.charts import extract_chart

    try:
        return extract_chart(figure)
    except Exception:  # the user's plot is shown in any case
        return {}


def extras(figure: Any) -> dict[str, Any]:
    from atoll_guest.interpreter.charts import extract_extras

    try:
        return extract_extras(figure)
    except Exception:  # as above
        return {}
