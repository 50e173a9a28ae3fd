"""What commands print: JSON for programs, tables for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from atoll_wire.api import SandboxInfo


def print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = False) -> None:
    """Upper-case headers, no borders; ``numbers``: all but the first column to the right.

    Rich is imported here, since most commands print no table.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for index, name in enumerate(columns):
        table.add_column(name.upper(), justify="right" if numbers and index else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    # A pipe's reader wants whole lines: there the table is as wide as its content.
    Console(width=None if sys.stdout.isatty() else 10_000, highlight=False).print(table)


def describe(info: SandboxInfo) -> dict[str, object]:
    """A sandbox with the field names of the API."""
    kept: dict[str, object] = {} if info.kept_until is None else {"keptUntil": info.kept_until.isoformat()}
    return {
        **kept,
        "sandboxID": info.sandbox_id,
        "templateID": info.template_id,
        "alias": info.alias,
        "state": info.state,
        "startedAt": info.started_at.isoformat(),
        "endAt": info.end_at.isoformat(),
        "cpuCount": info.vcpu,
        "memoryMB": info.memory_mb,
        "diskSizeMB": info.disk_mb,
        "envdVersion": info.envd_version,
        "metadata": dict(info.metadata),
    }


def tell_time(moment: datetime) -> str:
    """In the reader's time zone."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def tell_metadata(metadata: Mapping[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in metadata.items())


def parse_pairs(pairs: Iterable[str], option: str) -> dict[str, str]:
    """``KEY=VALUE`` arguments. Raises :class:`Failure`."""
    from atoll.cli.failures import Failure

    values: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise Failure(
                f"{option} {pair!r} is not KEY=VALUE", hint=f"write it like {option} NAME=value", exit_code=2
            )
        values[key] = value
    return values
