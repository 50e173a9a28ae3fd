"""The rows of a benchmark: what was measured, beside what, what is promised, and whether that is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from atoll.cli.output import print_json, print_table

Unit = Literal["ms", "MiB/s", "MiB", "%", ""]


@dataclass(frozen=True, slots=True)
class Row:
    """One measure. ``ratio`` is what ``promise`` speaks of; ``kept`` whether it is so."""

    name: str
    value: float
    unit: str
    baseline: float | None
    baseline_name: str
    ratio: float | None
    promise: str
    kept: bool | None


def row(
    name: str,
    value: float,
    unit: Unit,
    baseline: float | None,
    baseline_name: str,
    ratio: float | None,
    promise: str,
    limit: float | None,
) -> Row:
    """``limit``: the most that ``ratio`` may be; negative: the least; ``None``: nothing is promised."""
    kept = None if ratio is None or limit is None else (ratio <= limit if limit > 0 else ratio >= -limit)
    return Row(name, value, unit, baseline, baseline_name, ratio, promise, kept)


def print_rows(template: str, rows: Sequence[Row], as_json: bool) -> None:
    if as_json:
        print_json({"template": template, "measures": [asdict(row) for row in rows]})
        return
    cells = [
        [
            row.name,
            f"{row.value:.1f} {row.unit}",
            "-" if row.baseline is None else f"{row.baseline:.1f} ({row.baseline_name})",
            "-" if row.ratio is None else f"{row.ratio:.2f}",
            row.promise,
            {True: "kept", False: "NOT KEPT", None: ""}[row.kept],
        ]
        for row in rows
    ]
    print_table((template, "measured", "baseline", "against it", "promise", ""), cells, numbers=True)
