"""Python values → JSON values, pure. Understands NumPy and pandas scalars and arrays without importing
either.

NaN and infinities become null (JSON has none), dates ISO 8601 text, keys text.
"""

import math
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from typing import Any, cast

Json = Any
MAX_DEPTH = 200


class NotPlain(TypeError):
    """The value has no JSON form."""


def to_plain(value: object, depth: int = 0) -> Json:
    """Raises NotPlain, also for values nested deeper than MAX_DEPTH (or within themselves)."""
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if kind is float:
        return value if math.isfinite(cast("float", value)) else None
    if depth > MAX_DEPTH:
        raise NotPlain("nested too deeply")
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        return {_key(name): to_plain(item, depth + 1) for name, item in items}
    if isinstance(value, (list, tuple)):
        return [to_plain(item, depth + 1) for item in cast("list[object]", value)]
    return _scalar(value, depth)


def _key(name: object) -> str:
    if isinstance(name, str):
        return str(name)
    plain = to_plain(name)
    if plain is None:
        return "null"
    if isinstance(plain, bool):
        return "true" if plain else "false"
    if isinstance(plain, (int, float, str)):
        return str(plain)
    return ", ".join(str(part) for part in plain)


def _scalar(value: Any, depth: int) -> Json:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (bool, int)):
        return int(value)
    if isinstance(value, float):
        return to_plain(float(value))
    if isinstance(value, (datetime, date, time)):
        return None if value != value else value.isoformat()  # NaT is not equal to itself
    if isinstance(value, timedelta):
        return None if value != value else str(value)
    module = type(value).__module__.partition(".")[0]
    if module == "numpy":
        return _numpy(value, depth)
    if module == "pandas" and hasattr(value, "isoformat"):
        return value.isoformat()
    if module == "pandas":
        return None if type(value).__name__ in ("NAType", "NaTType") else str(value)
    if module == "decimal":
        return to_plain(float(value))
    raise NotPlain(f"{type(value).__name__} has no JSON form")


def _numpy(value: Any, depth: int) -> Json:
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if kind == "M":
        return _dates(value)
    if kind == "m":
        return to_plain(value.astype(str).tolist(), depth + 1)
    if kind in "biufSU" and kind != "S":
        return to_plain(value.tolist(), depth + 1)
    if kind == "O":
        return to_plain(value.tolist(), depth + 1)
    raise NotPlain(f"NumPy's {getattr(value, 'dtype', type(value).__name__)} has no JSON form")


def _dates(value: Any) -> Json:
    """datetime64, one or an array: ISO 8601 as NumPy writes it, NaT as null."""
    texts = value.astype("datetime64[us]").astype(str).tolist()
    return _nulled(texts)


def _nulled(texts: Any) -> Json:
    if isinstance(texts, list):
        return [_nulled(text) for text in cast("list[Any]", texts)]
    return None if texts == "NaT" else texts
