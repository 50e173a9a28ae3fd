"""An axis: its scale, its ticks, and how its coordinates read as data."""

import math
from collections.abc import Sequence
from typing import Any, cast

from .texts import number


def is_datetime(axis: Any) -> bool:
    """The axis counts days since the epoch: its unit converter, or its locator, is one of matplotlib's for
    dates.
    """
    converter = axis.get_converter() if hasattr(axis, "get_converter") else getattr(axis, "converter", None)
    if converter is not None:
        name = type(converter).__name__
        is_matplotlibs = "Date" in name and "pandas" not in type(converter).__module__
        return is_matplotlibs or name == "DatetimeConverter"
    from matplotlib import dates

    return isinstance(axis.get_major_locator(), dates.DateLocator)


def period_frequency(axis: Any) -> str | None:
    """pandas draws regular time series on an axis of period numbers; the frequency turns them back into
    dates.
    """
    frequency = (
        getattr(axis, "freq", None) or getattr(axis.axes, "freq", None) if axis.axis_name == "x" else None
    )
    return str(getattr(frequency, "freqstr", frequency)) if frequency else None


def values(axis: Any, coordinates: Sequence[Any]) -> list[Any]:
    """Coordinates as data: ISO 8601 text on a date axis, else numbers (None: not drawn)."""
    numbers = [number(value) for value in coordinates]
    frequency = period_frequency(axis)
    if frequency is not None:
        return [_period_text(value, frequency) for value in numbers]
    if is_datetime(axis):
        return [_date_text(value) for value in numbers]
    return numbers


def _date_text(value: float | None) -> str | None:
    from matplotlib import dates

    if value is None:
        return None
    moment = cast("Any", dates).num2date(value)
    return (
        moment.replace(tzinfo=None).isoformat()
        if moment.utcoffset() is None or not moment.utcoffset()
        else moment.isoformat()
    )


def _period_text(value: float | None, frequency: str) -> str | None:
    import pandas  # pyright: ignore[reportMissingTypeStubs]

    if value is None:
        return None
    period: Any = pandas.Period(ordinal=round(value), freq=frequency)
    return period.start_time.isoformat()


def ticks(axis: Any) -> list[Any]:
    """Numbers as floats, dates as ISO 8601 text."""
    found = values(axis, axis.get_ticklocs())
    return [float(tick) if isinstance(tick, int) else tick for tick in found]


def tick_labels(axis: Any) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


def scale(axis: Any) -> str:
    """The axis' scale name, or "datetime", or "categorical": linear ticks 0..n-1 whose labels are not their
    numbers.
    """
    if is_datetime(axis) or period_frequency(axis) is not None:
        return "datetime"
    name = str(axis.get_scale())
    return "categorical" if name == "linear" and is_categorical(axis) else name


def is_categorical(axis: Any) -> bool:
    locations = [number(location) for location in axis.get_ticklocs()]
    names = tick_labels(axis)
    if not locations or len(names) != len(locations) or locations != list(range(len(locations))):
        return False
    return not any(_reads_as(name, location) for name, location in zip(names, locations, strict=True))


def _reads_as(name: str, location: float) -> bool:
    try:
        return math.isclose(float(name.replace("−", "-")), location)
    except ValueError:
        return False


def label_at(axis: Any, position: float, reach: float) -> str:
    """What stands at `position`: the label of a tick within `reach`, else the position itself; a date in any
    case, as not every date has a tick.
    """
    if is_datetime(axis):
        return str(values(axis, [position])[0])
    best: tuple[float, str] | None = None
    for location, name in zip(axis.get_ticklocs(), tick_labels(axis), strict=False):
        distance = abs(float(location) - position)
        if name and distance <= reach and (best is None or distance < best[0]):
            best = (distance, name)
    if best is not None:
        return best[1]
    value = values(axis, [position])[0]
    return value if isinstance(value, str) else f"{position:g}"
