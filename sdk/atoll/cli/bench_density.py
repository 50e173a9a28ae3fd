"""`bench density`: what many sandboxes of one template take of this machine, each row with gVisor as it is
beside it, from the same run.

The measuring is the server's program's, which needs no server that runs.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Literal

from atoll.cli.bench_rows import Row, Unit, print_rows, row
from atoll.cli.failures import Failure
from atoll.cli.output import print_json
from atoll_wire.values import WireError, get_list, get_text, parse_object

_TIMEOUT = 1800.0
ALIVE, ALIVE_WITH_SWAP = 600, 1000


@dataclass(frozen=True, slots=True)
class _Promise:
    name: str
    measure: str
    unit: Unit
    text: str = ""
    limit: float | None = None
    """The most; negative: the least."""
    of: Literal["stock", "itself"] = "stock"
    """What the limit speaks of: the ratio to stock, or the value."""


_PROMISES = (
    _Promise("fresh sandbox: memory of the host", "fresh_mib", "MiB", "≤ 20 MiB", 20, "itself"),
    _Promise("fresh sandbox: charged to its cgroup", "fresh_charged_mib", "MiB"),
    _Promise("frozen, paged out: memory of the host", "paged_out_mib", "MiB", "≤ 8 MiB", 8, "itself"),
    _Promise("frozen, paged out: charged to its cgroup", "paged_out_charged_mib", "MiB"),
    _Promise("paging out", "page_out_ms", "ms"),
    _Promise("thaw and 1 + 1 after that", "thaw_and_run_ms", "ms"),
    _Promise("restore into a blank until it answers", "restore_ms", "ms", "≤ 0.6 × stock", 0.6),
    _Promise("first pandas group-by, warm", "warm_first_ms", "ms", "≤ 1.2 × stock", 1.2),
    _Promise("first pandas group-by, cold", "cold_first_ms", "ms", "≤ 4 × stock", 4),
    _Promise("the tenth", "tenth_ms", "ms", "≤ 1.05 × stock", 1.05),
    _Promise("writing all memory, first pass", "first_pass_mib_s", "MiB/s"),
    _Promise("writing all memory, after it", "later_passes_mib_s", "MiB/s", "≥ 0.95 × stock", -0.95),
    _Promise("pause, 10 of 500 MB changed: written", "pause_mib", "MiB", "≤ 12 MiB", 12, "itself"),
    _Promise("pause, 10 of 500 MB changed", "pause_ms", "ms", "≤ 0.15 × stock", 0.15),
)


def plan_rows(
    stock: Mapping[str, Sequence[float]], shared: Mapping[str, Sequence[float]], has_swap: bool
) -> list[Row]:
    """The rows of what was measured: medians."""
    rows: list[Row] = []
    for promise in _PROMISES:
        if not shared.get(promise.measure):
            continue
        value = median(shared[promise.measure])
        beside = median(stock[promise.measure]) if stock.get(promise.measure) else None
        ratio = value / beside if beside else None
        judged = value if promise.of == "itself" else ratio
        rows.append(
            row(promise.name, value, promise.unit, beside, "stock", judged, promise.text, promise.limit)
        )
    return [*rows, *_plan_forks(stock, shared), *_plan_alive(shared, has_swap)]


def _plan_forks(stock: Mapping[str, Sequence[float]], shared: Mapping[str, Sequence[float]]) -> list[Row]:
    if not shared.get("forks_mib") or not shared.get("source_mib"):
        return []
    all_forks, one = median(shared["forks_mib"]), median(shared["source_mib"])
    beside = median(stock["forks_mib"]) if stock.get("forks_mib") else None
    name = "all forks of one that holds 500 MB"
    return [row(name, all_forks, "MiB", beside, "stock", all_forks / one, "≤ 1.5 × of one", 1.5)]


def _plan_alive(shared: Mapping[str, Sequence[float]], has_swap: bool) -> list[Row]:
    if not shared.get("alive"):
        return []
    least = ALIVE_WITH_SWAP if has_swap else ALIVE
    alive, cpu = median(shared["alive"]), median(shared["alive_idle_cpu_percent"])
    return [
        row("alive, all of them answering", alive, "", None, "", alive, f"≥ {least}", -least),
        row("idle CPU of all, of a core", cpu, "%", None, "", cpu, "≤ 20 %", 20),
        row("memory of the host, each", median(shared["alive_mib"]), "MiB", None, "", None, "", None),
        row("1 + 1 in each", median(shared["alive_run_ms"]), "ms", None, "", None, "", None),
    ]


def bench_density(template: str, options: Sequence[str], *, as_json: bool) -> None:
    """``options`` are those of ``atolld bench-density``. Raises :class:`Failure`."""
    command = [sys.executable, "-m", "atolld", "bench-density", "--template", template, *options]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        raise Failure(
            f"`atolld bench-density` was not done after {_TIMEOUT:.0f} s", hint="give it less: --clones 10"
        ) from None
    if done.returncode != 0:
        raise Failure("the density was not measured", why="see above", hint="it has to run as root")
    try:
        measured = parse_object(done.stdout, "the measurement")
        stock, shared = _parse_values(measured, "stock"), _parse_values(measured, "shared")
        swap, notes = get_text(measured, "swap"), [str(note) for note in get_list(measured, "notes")]
    except WireError as error:
        raise Failure("`atolld bench-density` printed something unexpected", why=str(error)) from error
    rows = plan_rows(stock, shared, has_swap=bool(swap))
    if as_json:
        values = {"stock": stock, "shared": shared}
        measures = [asdict(row) for row in rows]
        print_json(
            {"template": template, "swap": swap, "measures": measures, "values": values, "notes": notes}
        )
        return
    print_rows(template, rows, as_json=False)
    for note in [f"paged out to {swap}" if swap else "no swap: nothing was paged out", *notes]:
        print(note)


def _parse_values(measured: Mapping[str, object], variant: str) -> dict[str, list[float]]:
    """Numbers by name."""
    values: object = measured.get(variant)
    if not isinstance(values, dict):
        raise WireError(f"{variant} is no object")
    names: dict[str, object] = {str(name): value for name, value in values.items()}  # pyright: ignore
    return {
        name: [float(value) for value in get_list(names, name) if isinstance(value, (int, float))]
        for name in names
    }
