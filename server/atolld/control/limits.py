"""What a caller may ask for. Pure; the texts are the wire's."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from atolld.model.errors import InvalidRequest
from atolld.model.records import SandboxRecord

_HOUR = 3600


def check_timeout(timeout: int, longest: int) -> None:
    """Raises :class:`InvalidRequest` unless ``0 < timeout <= longest`` (seconds)."""
    if timeout <= 0:
        raise InvalidRequest("Timeout must be greater than 0")
    if timeout > longest:
        shown = f"{longest // _HOUR} hours" if longest % _HOUR == 0 else f"{longest} seconds"
        raise InvalidRequest(f"Timeout cannot be greater than {shown}")


def check_envs(envs: Mapping[str, str]) -> None:
    """Raises :class:`InvalidRequest` for a variable no process can have."""
    for name, value in envs.items():
        if not name or "=" in name or "\0" in name + value:
            raise InvalidRequest(f'Environment variable "{name[:80]}" has an empty name, or "=" or NUL in it')


def life_left(record: SandboxRecord, now: datetime, longest: int) -> float:
    """How many seconds from ``now`` a sandbox may live at most, over its whole life."""
    return longest - (now - record.started_at).total_seconds()
