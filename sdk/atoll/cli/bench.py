"""`bench create`: what a user of the API waits for, measured against this server.

Beside it stands a bare `runsc restore` of the same snapshot, measured by the server's program on this
machine.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import TypeVar

from atoll.cli.client import Client, Created
from atoll.cli.failures import Failure
from atoll.cli.guest import Guest
from atoll.cli.http import httpx, open_http
from atoll.cli.interrupts import interruptible
from atoll.cli.output import print_json, print_table
from atoll.cli.server import ensure_server
from atoll.cli.settings import Settings
from atoll_wire.api import NewSandbox
from atoll_wire.executions import Failure as CodeFailure
from atoll_wire.executions import Request
from atoll_wire.values import WireError, get_list, parse_object

T = TypeVar("T")

WARM, COLD, FIRST, LIVING, KILL = "warm create", "cold create", "first run_code", "run_code 1+1", "kill"
RESTORE = "bare runsc restore"
MEASURES = (WARM, COLD, FIRST, LIVING, KILL)
RESTORE_TIMEOUT = 600.0
SANDBOX_TIMEOUT = 120
# A warm sandbox may not be waiting yet when the next create comes; such a create was a cold one.
TRIES_PER_WARM = 5


@dataclass(frozen=True, slots=True)
class Summary:
    """Milliseconds."""

    n: int
    min: float
    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class Baselines:
    """Milliseconds of a bare ``runsc restore`` until the command returns and until the daemon answers, of a
    bare checkpoint, and of ``dd`` with fsync of as many bytes as the snapshot has."""

    restore_ms: list[float] = field(default_factory=list[float])
    answers_ms: list[float] = field(default_factory=list[float])
    checkpoint_ms: list[float] = field(default_factory=list[float])
    dd_ms: list[float] = field(default_factory=list[float])


@dataclass(slots=True)
class Samples:
    """Milliseconds by measure."""

    values: dict[str, list[float]] = field(default_factory=dict[str, list[float]])

    def add(self, measure: str, milliseconds: float) -> None:
        self.values.setdefault(measure, []).append(milliseconds)

    def count(self, measure: str) -> int:
        return len(self.values.get(measure, ()))


def summarise(values: list[float]) -> Summary:
    """Percentiles by nearest rank: each is a value that was measured."""
    ranked = sorted(values)

    def percentile(p: int) -> float:
        return ranked[max(0, -(-p * len(ranked) // 100) - 1)]

    return Summary(len(ranked), ranked[0], percentile(50), percentile(95))


def bench_create(settings: Settings, template: str, n: int, as_json: bool) -> None:
    """Raises :class:`Failure` when a step fails; a missing baseline is told, not fatal."""
    samples = Samples()
    with interruptible(), Client(settings) as client, open_http(settings.sandbox_url) as http:
        ensure_server(client)
        for _ in range(n):
            _cycle(client, http, template, samples, cold=True)
        for _ in range(n * TRIES_PER_WARM):
            if samples.count(WARM) >= n:
                break
            _cycle(client, http, template, samples, cold=False)
    baselines, missing = measure_baselines(template, n)
    for value in baselines.restore_ms:
        samples.add(RESTORE, value)
    _print(template, samples, missing, as_json)


def measure_baselines(template: str, n: int) -> tuple[Baselines, str]:
    """What runsc itself takes for a template's, or a snapshot's, image, and why that is not known."""
    command = [
        sys.executable,
        "-m",
        "atolld",
        "bench-restore",
        "--template",
        template,
        "--n",
        str(n),
        "--json",
    ]
    nothing = Baselines()
    try:
        done = subprocess.run(command, capture_output=True, timeout=RESTORE_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return nothing, f"`atolld bench-restore` was not done after {RESTORE_TIMEOUT:.0f} s"
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return nothing, lines[-1] if lines else f"`atolld bench-restore` ended with code {done.returncode}"
    try:
        return parse_baselines(done.stdout), ""
    except WireError as error:
        return nothing, f"`atolld bench-restore` printed something unexpected: {error}"


def parse_baselines(output: bytes) -> Baselines:
    """A JSON object with the fields of :class:`Baselines`; all but the first may be absent."""
    fields = parse_object(output, "the baseline")
    restores = _parse_numbers(fields, "restore_ms")
    if not restores:
        raise WireError("restore_ms holds no positive numbers")
    return Baselines(restores, *(_parse_numbers(fields, f"{n}_ms") for n in ("answers", "checkpoint", "dd")))


def _parse_numbers(fields: Mapping[str, object], name: str) -> list[float]:
    values = get_list(fields, name) if name in fields else ()
    numbers = [float(value) for value in values if isinstance(value, (int, float)) and value > 0]
    if len(numbers) != len(values):
        raise WireError(f"{name} holds no positive numbers")
    return numbers


def _cycle(client: Client, http: httpx.Client, template: str, samples: Samples, *, cold: bool) -> None:
    new = NewSandbox(template, SANDBOX_TIMEOUT, metadata={"atoll.cli": "bench"})
    created, took = measure_ms(lambda: client.create(new, "cold" if cold else "warm"))
    sandbox_id = created.sandbox.sandbox_id
    try:
        samples.add(WARM if is_warm(created, cold) else COLD, took)
        guest = Guest(client.settings, http, sandbox_id, created.sandbox.access_token)
        if guest.has_interpreter():
            for measure in (FIRST, LIVING):
                samples.add(measure, measure_ms(lambda: run_one(guest))[1])
    finally:
        _, took = measure_ms(lambda: client.kill(sandbox_id))
        samples.add(KILL, took)


def is_warm(created: Created, asked_cold: bool) -> bool:
    """What the server says of the create, else what was asked for."""
    if not created.timings_ms:
        return not asked_cold
    return "warm" in created.timings_ms


def run_one(guest: Guest) -> None:
    """``1+1``, to its end."""
    with closing(guest.execute(Request("1+1"), SANDBOX_TIMEOUT)) as events:
        for event in events:
            if isinstance(event, CodeFailure):
                raise Failure(
                    f"1+1 failed in the sandbox with {event.name}",
                    why=event.value,
                    hint="`./atoll setup` rebuilds a damaged template",
                )


def measure_ms(call: Callable[[], T]) -> tuple[T, float]:
    """Its value, and the milliseconds it took."""
    begin = time.perf_counter()
    value = call()
    return value, (time.perf_counter() - begin) * 1000


def _print(template: str, samples: Samples, missing: str, as_json: bool) -> None:
    summaries = {name: summarise(values) for name, values in samples.values.items()}
    ratio = _ratio(summaries)
    if as_json:
        measures = {name: asdict(summary) for name, summary in summaries.items()}
        document = {"template": template, "unit": "ms", "measures": measures, "coldToRestoreP50": ratio}
        print_json(document | ({"baselineMissing": missing} if missing else {}))
        return
    rows = [
        [name, str(s.n), *(f"{value:.1f}" for value in (s.min, s.p50, s.p95))]
        for name in (*MEASURES, RESTORE)
        if (s := summaries.get(name)) is not None
    ]
    print_table((f"{template}, ms", "n", "min", "p50", "p95"), rows, numbers=True)
    if ratio is not None:
        print(f"cold create p50 is {ratio:.2f} times the bare restore's")
    if missing:
        sys.stderr.write(f"atoll: there is no baseline: {missing}\n")
    if WARM not in summaries:
        sys.stderr.write("atoll: no create was warm: see ATOLL_POOL, which says how many sandboxes wait\n")


def _ratio(summaries: Mapping[str, Summary]) -> float | None:
    if COLD not in summaries or RESTORE not in summaries:
        return None
    return round(summaries[COLD].p50 / summaries[RESTORE].p50, 3)
