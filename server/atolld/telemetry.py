"""Logs and counters.

A log line is one event with fields, ``room.noun.verb_past``: pretty on a terminal, else JSON into
``logs/server.log`` (three files of 10 MB). Counters are served by the API's ``/metrics``.
"""

from __future__ import annotations

import logging
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()

SANDBOXES_STARTED = Counter(
    "atolld_control_sandbox_started", "Sandboxes created.", ["template"], registry=REGISTRY
)
SANDBOXES_ENDED = Counter(
    "atolld_control_sandbox_ended", "Sandboxes that ended, by reason.", ["reason"], registry=REGISTRY
)
START_SECONDS = Histogram(
    "atolld_control_sandbox_start_seconds",
    "From the request to a sandbox that answers.",
    buckets=(0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 5, 10, 30),
    registry=REGISTRY,
)
SANDBOXES_RUNNING = Gauge("atolld_control_sandbox_running", "Sandboxes with a route.", registry=REGISTRY)

_MOST_BYTES = 10_000_000
_FILES = 3


def configure_logs(directory: Path) -> None:
    """Once, when a process starts. Libraries' own warnings take the same way."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    handler, last = _destination(directory)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    for chatty in ("httpx", "httpcore", "asyncio", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def _destination(directory: Path) -> tuple[logging.Handler, list[Any]]:
    if sys.stderr.isatty():
        return logging.StreamHandler(), [structlog.dev.ConsoleRenderer()]
    directory.mkdir(parents=True, exist_ok=True)
    rotating = RotatingFileHandler(directory / "server.log", maxBytes=_MOST_BYTES, backupCount=_FILES - 1)
    return rotating, [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
