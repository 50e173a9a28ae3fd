"""Limits of one execution's output, from the service's environment. Pure.

ATOLL_MAX_RESULT_MIB (default 128): a larger result is refused before it is in memory; its decoding would take
several times its size. ATOLL_MAX_OUTPUT_MIB_PER_SECOND (default none): what is printed faster is dropped, and
the execution says how much.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from . import messages
from .messages import MIB, Event

DEFAULT_RESULT_MIB = 128.0


@dataclass(frozen=True, slots=True)
class Limits:
    """`result_bytes` of one message as it travels; `output_rate` in characters per second, None for no
    limit.
    """

    result_bytes: int = int(DEFAULT_RESULT_MIB * MIB)
    output_rate: float | None = None


def read_limits(environ: Mapping[str, str]) -> Limits:
    """Raises ValueError, which names the variable, for a value that is no positive number."""
    result = _positive(environ, "ATOLL_MAX_RESULT_MIB")
    rate = _positive(environ, "ATOLL_MAX_OUTPUT_MIB_PER_SECOND")
    return Limits(int((result or DEFAULT_RESULT_MIB) * MIB), rate * MIB if rate else None)


def _positive(environ: Mapping[str, str], name: str) -> float | None:
    text = environ.get(name, "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} is {text!r}; it must be a positive number of MiB, or empty for the default")
    return value


class RateGuard:
    """Passes an execution's events on; drops what is printed faster than `rate`, bursts of a second aside."""

    def __init__(self, rate: float | None, now: float) -> None:
        self._rate = rate
        self._allowance = rate or 0.0
        self._last = now
        self._dropped = 0

    def admit(self, event: Event, now: float) -> list[Event]:
        """What goes out in place of `event`; `now` in seconds of any steady clock."""
        if self._rate is None:
            return [event]
        self._allowance = min(self._rate, self._allowance + (now - self._last) * self._rate)
        self._last = now
        if event["type"] in ("stdout", "stderr"):
            size = len(event["text"])
            if size > self._allowance:
                self._dropped += size
                return []
            self._allowance -= size
        return [*self._notice(), event]

    def _notice(self) -> list[Event]:
        if not self._dropped:
            return []
        dropped, self._dropped = self._dropped, 0
        text = (
            f"[{dropped} characters of output were dropped: they came faster than "
            f"{(self._rate or 0) / MIB:g} MiB/s (ATOLL_MAX_OUTPUT_MIB_PER_SECOND)]\n"
        )
        return [messages.stream("stderr", text, datetime.now(UTC).isoformat())]
