"""Logs and counters.

A log line is one event with fields, ``room.noun.verb_past``, on standard error: pretty on a terminal, else
JSON. Counters are served by the API's ``/metrics``.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
from typing import TextIO

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()

SANDBOXES_STARTED = Counter(
    "atolld_control_sandbox_started", "Sandboxes created.", ["template"], registry=REGISTRY
)
SANDBOXES_ENDED = Counter(
    "atolld_control_sandbox_ended", "Sandboxes that ended, by reason.", ["reason"], registry=REGISTRY
)
_SECONDS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 5, 10, 30)
START_SECONDS = Histogram(
    "atolld_control_sandbox_start_seconds",
    "From the request to a sandbox that answers.",
    buckets=_SECONDS,
    registry=REGISTRY,
)
PAUSE_SECONDS = Histogram(
    "atolld_control_sandbox_pause_seconds",
    "From the request to a state that is safe on the disk.",
    buckets=_SECONDS,
    registry=REGISTRY,
)
RESUME_SECONDS = Histogram(
    "atolld_control_sandbox_resume_seconds",
    "From the request to a sandbox that answers again.",
    buckets=_SECONDS,
    registry=REGISTRY,
)
SANDBOXES_RUNNING = Gauge("atolld_control_sandbox_running", "Sandboxes with a route.", registry=REGISTRY)

_MOST_BYTES = 10_000_000


def configure_logs(level: int = logging.INFO) -> None:
    """Once, when a process starts. Libraries' own warnings take the same way."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler = _BoundedHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers()],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for chatty in ("httpx", "httpcore", "asyncio", "uvicorn", "pyroute2"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def _renderers() -> list[structlog.typing.Processor]:
    if sys.stderr.isatty():
        return [structlog.dev.ConsoleRenderer()]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


class _BoundedHandler(logging.StreamHandler[TextIO]):
    """Standard error. Where that is a file, its older half is dropped when it is full: whoever started us in
    the background gave us the file, and nobody else looks after it."""

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        descriptor = self.stream.fileno()
        state = os.fstat(descriptor)
        if stat.S_ISREG(state.st_mode) and state.st_size > _MOST_BYTES:
            _drop_older_half(descriptor, state.st_size)


def _drop_older_half(descriptor: int, size: int) -> None:
    path = f"/proc/self/fd/{descriptor}"
    with open(path, "rb") as file:
        file.seek(size // 2)
        file.readline()
        newer = file.read()
    with open(path, "r+b") as file:
        file.write(newer)
        file.truncate()
