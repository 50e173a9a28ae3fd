"""Reading values out of decoded JSON: every ``parse_*`` of this package narrows through these.

protojson's leniences are here, once: an absent field is its default value, a 64-bit integer may be a string.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from typing import cast

_INT64 = re.compile(r"-?[0-9]{1,19}")

Object = Mapping[str, object]
"""A decoded JSON object."""


class WireError(ValueError):
    """Bytes from the other side that are not what the contract says; the text names what and where."""


def parse_json(data: bytes | str, what: str) -> object:
    """Raises :class:`WireError`, naming ``what`` was to be read."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise WireError(f"{what} is no JSON ({error})") from error


def parse_object(data: bytes | str, what: str) -> Object:
    """A JSON object; raises :class:`WireError` for anything else."""
    return as_object(parse_json(data, what), what)


def as_object(value: object, what: str) -> Object:
    if not isinstance(value, dict):
        raise WireError(f"{what} is no JSON object: {_excerpt(value)}")
    return cast("Object", value)


def as_list(value: object, what: str) -> Sequence[object]:
    if not isinstance(value, list):
        raise WireError(f"{what} is no JSON array: {_excerpt(value)}")
    return cast("Sequence[object]", value)


def get(source: Object, name: str) -> object:
    """A field by its lowerCamelCase name, which may also come in snake_case; ``None`` when absent."""
    if name in source:
        return source[name]
    return source.get("".join(f"_{c.lower()}" if c.isupper() else c for c in name))


def get_text(source: Object, name: str, default: str = "") -> str:
    value = get(source, name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise WireError(f"{name} is no string: {_excerpt(value)}")
    return value


def need_text(source: Object, name: str, what: str) -> str:
    """A string that must be there."""
    if get(source, name) is None:
        raise WireError(f"{what} has no {name}")
    return get_text(source, name)


def get_optional_text(source: Object, name: str) -> str | None:
    return None if get(source, name) is None else get_text(source, name)


def get_int(source: Object, name: str, default: int = 0) -> int:
    value = get(source, name)
    if value is None:
        return default
    if isinstance(value, str) and _INT64.fullmatch(value):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise WireError(f"{name} is no whole number: {_excerpt(value)}")
    return value


def get_bool(source: Object, name: str, default: bool = False) -> bool:
    value = get(source, name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise WireError(f"{name} is neither true nor false: {_excerpt(value)}")
    return value


def get_bytes(source: Object, name: str) -> bytes:
    """Standard base64 on the wire."""
    try:
        return base64.b64decode(get_text(source, name), validate=True)
    except (binascii.Error, ValueError) as error:
        raise WireError(f"{name} is no base64 ({error})") from error


def get_object(source: Object, name: str) -> Object | None:
    """A nested message; ``None`` when absent, which for a oneof means another member is set."""
    value = get(source, name)
    return None if value is None else as_object(value, name)


def get_list(source: Object, name: str) -> Sequence[object]:
    value = get(source, name)
    return () if value is None else as_list(value, name)


def get_texts(source: Object, name: str) -> dict[str, str]:
    """A map from string to string."""
    value = get_object(source, name) or {}
    return {key: get_text(value, key) for key in value}


def encode(value: Mapping[str, object]) -> bytes:
    """Compact JSON, in ASCII: a lone surrogate, which UTF-8 cannot hold, stays an escape."""
    return json.dumps(value, separators=(",", ":")).encode()


def _excerpt(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"
