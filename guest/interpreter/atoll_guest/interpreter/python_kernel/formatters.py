"""Formatters of the Python kernel beyond IPython's own: DataFrame → data, list and dict → json, Figure →
chart.

All are registered by class name, so nothing is imported before the user's code does. A formatter never
raises into the user's code: a value without that form has just not that form.
"""

from typing import Any, cast

from IPython.core.formatters import BaseFormatter
from traitlets import ObjectName, Unicode

from .plain import NotPlain, to_plain


class DataFormatter(BaseFormatter):
    """Tables."""

    format_type = Unicode("e2b/data")
    print_method = ObjectName("_repr_e2b_data_")
    _return_type = dict


class ChartFormatter(BaseFormatter):
    """Charts."""

    format_type = Unicode("e2b/chart")
    print_method = ObjectName("_repr_e2b_chart_")
    _return_type = dict

    def __call__(self, obj: Any) -> Any:
        """Asks the class itself: IPython's set-up of matplotlib unregisters every formatter of Figure."""
        if _is_figure(obj):
            return chart(obj)
        return cast("Any", super()).__call__(obj)


def install(shell: Any) -> None:
    """Into IPython's display formatter."""
    display = shell.display_formatter
    for formatter in (DataFormatter(parent=display), ChartFormatter(parent=display)):
        display.formatters[formatter.format_type] = formatter
    display.active_types = [*display.active_types, "e2b/data", "e2b/chart"]
    for module in ("pandas", "pandas.core.frame"):  # where the class says it is, by pandas' version
        display.formatters["e2b/data"].for_type_by_name(module, "DataFrame", table)
    for kind in (list, dict):
        display.formatters["application/json"].for_type(kind, json_value)


def _is_figure(value: Any) -> bool:
    return any(
        kind.__name__ == "Figure" and kind.__module__ == "matplotlib.figure" for kind in type(value).__mro__
    )


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
