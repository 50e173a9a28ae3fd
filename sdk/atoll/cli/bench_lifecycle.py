"""`bench lifecycle`: a sandbox's life as its user waits for it, each row beside its baseline of the same run.

Baselines are this machine's own: a bare ``runsc restore`` or ``checkpoint`` of the same image by runsc's
commands, ``dd`` with fsync of as many bytes. ``--trace`` draws where the time of one create went.
"""

from __future__ import annotations

import functools
import importlib.util
import time
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from atoll.cli.bench import Baselines, Summary, measure_baselines, measure_ms, run_one, summarise
from atoll.cli.client import Client, Created, Start
from atoll.cli.failures import Failure
from atoll.cli.guest import Guest
from atoll.cli.http import httpx, open_http
from atoll.cli.interrupts import interruptible
from atoll.cli.output import print_json, print_table
from atoll.cli.server import ensure_server
from atoll.cli.settings import Settings
from atoll_wire import process
from atoll_wire.api import NewSandbox
from atoll_wire.executions import Failure as CodeFailure
from atoll_wire.executions import Request
from atoll_wire.values import get_text, parse_object

BASE = "base"
LIFE = 600
BURST = 100
FORKS = 10
MUCH_MEMORY = "import os; filler = bytearray(os.urandom(1 << 20)) * 200"
RESPITE = 1.0
"""Seconds between two creates, in which the pool may refill: a person's pause, not a burst."""
BETWEEN_BURSTS = 12.0
"""Seconds."""
_GONE_WITHIN = 10.0
_STANDSTILL = """
import time
end, last, longest = time.monotonic() + {seconds}, time.monotonic(), 0.0
while last < end:
    time.sleep(0.0005)
    now = time.monotonic()
    longest, last = max(longest, now - last), now
print(longest * 1000)
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One measure, milliseconds. ``promise`` speaks of ``judged``, which is ``limit`` at most."""

    name: str
    measured: Summary
    promise: str
    limit: float
    judged: float
    baseline: float | None = None
    baseline_name: str = ""

    @property
    def held(self) -> bool:
        return self.judged <= self.limit


def within(name: str, values: list[float], limit: float, *, p95: float | None = None) -> list[Row]:
    """The median, and the 95th of 100 where that is promised too, against fixed figures."""
    if not values:
        return []
    summary = summarise(values)
    rows = [Row(name, summary, f"p50 ≤ {limit:g} ms", limit, summary.p50)]
    if p95 is not None:
        rows.append(Row(name, summary, f"p95 ≤ {p95:g} ms", p95, summary.p95))
    return rows


def against(name: str, values: list[float], factor: float, baseline: float | None, of: str) -> list[Row]:
    """The median against a baseline's; nothing is said without one."""
    if not values or not baseline:
        return []
    summary = summarise(values)
    return [
        Row(name, summary, f"≤ {factor:g} × {of}", factor, round(summary.p50 / baseline, 3), baseline, of)
    ]


def draw_trace(title: str, took_ms: float, timings_ms: Mapping[str, float], width: int = 50) -> list[str]:
    """One create as a row of spans, in the server's order; what the server does not tell of is the way there
    and back, at the end. ``server`` is the whole of its part; ``warm`` and the like are no times."""
    spans = {name: ms for name, ms in timings_ms.items() if name not in ("server", "warm", "blank")}
    spans["else in the server"] = max(0.0, timings_ms.get("server", 0.0) - sum(spans.values()))
    spans["client, door, API"] = max(0.0, took_ms - sum(spans.values()))
    lines, begin = [f"{title}: {took_ms:.1f} ms"], 0.0
    for name, ms in spans.items():
        left = round(width * begin / took_ms)
        bar = "█" * max(1, round(width * ms / took_ms))
        lines.append(f"  {name:<20}{ms:8.2f}  {' ' * left}{bar}")
        begin += ms
    return lines


class Bench:
    """``interpreter``: the template that has one."""

    def __init__(
        self, settings: Settings, client: Client, http: httpx.Client, interpreter: str, n: int
    ) -> None:
        self._settings = settings
        self._client = client
        self._http = http
        self._interpreter = interpreter
        self._n = n
        self.traces: list[str] = []
        self.notes: list[str] = []

    def rows(self) -> list[Row]:
        bare = self._baselines(BASE)
        answers = _p50(bare.answers_ms)
        rows = [*self._warm(BASE), *self._warm(self._interpreter), *self._published()]
        rows += self._cold("create from a blank", "cold", 0.45, answers)
        rows += self._cold("create from nothing", "bare", 1.1, answers)
        rows += self._resident(BASE, None)
        rows += self._big()
        rows += self._fork(bare)
        return rows + self._bursts() + self._kill()

    # -- the rows ------------------------------------------------------------------------------------------

    def _warm(self, template: str) -> list[Row]:
        creates: list[float] = []
        servers: list[float] = []
        first: list[float] = []
        for _ in range(self._n * 2):
            if len(creates) == self._n:
                break
            time.sleep(RESPITE)
            begin = time.perf_counter()
            with self._sandbox(template) as (created, guest):
                took = (time.perf_counter() - begin) * 1000
                _run_true(guest)
                interactive = (time.perf_counter() - begin) * 1000
            if "warm" in created.timings_ms:
                creates.append(took)
                first.append(interactive)
                servers.append(created.timings_ms.get("server", 0.0))
                self._trace(f"warm create of {template}", took, created)
        if not creates:
            self.notes.append(f"no create of {template} was warm: see ATOLL_POOL")
        return [
            *within(f"warm create, {template}", creates, 12, p95=40),
            *within(f"warm create, {template}: the server's part", servers, 5),
            *within(f"create and first command, {template}", first, 40),
        ]

    def _published(self) -> list[Row]:
        """The same through the published SDK, where it is installed."""
        if importlib.util.find_spec("e2b") is None:
            return []
        from e2b import Sandbox

        options = self._settings.published_options()
        creates: list[float] = []
        first: list[float] = []
        for _ in range(self._n + 1):
            time.sleep(RESPITE)
            begin = time.perf_counter()
            sandbox = Sandbox.create(BASE, timeout=LIFE, **options)
            creates.append((time.perf_counter() - begin) * 1000)
            sandbox.commands.run("true")
            first.append((time.perf_counter() - begin) * 1000)
            sandbox.kill()
        # The first one opens the SDK's connections, and imports half of it.
        return [
            *within("warm create, base, published SDK", creates[1:], 12, p95=40),
            *within("create and first command, base, published SDK", first[1:], 40),
        ]

    def _cold(self, name: str, start: Start, factor: float, baseline: float | None) -> list[Row]:
        values: list[float] = []
        for _ in range(self._n * 2):
            if len(values) == self._n:
                break
            time.sleep(RESPITE)
            begin = time.perf_counter()
            with self._sandbox(BASE, start) as (created, _):
                took = (time.perf_counter() - begin) * 1000
            if ("blank" in created.timings_ms) == (start == "cold"):
                values.append(took)
                self._trace(name, took, created)
        return against(name, values, factor, baseline, "bare restore until it answers")

    def _resident(self, template: str, code: str | None) -> list[Row]:
        values: list[float] = []
        for _ in range(min(self._n, 5)):
            with self._sandbox(template) as (created, guest):
                if code is not None:
                    _run_code(guest, code)
                sandbox_id = created.sandbox.sandbox_id
                self._client.act(sandbox_id, "pause", {})
                answer, took = measure_ms(functools.partial(self._connect, sandbox_id))
                if "resident" in answer.headers.get("Server-Timing", ""):
                    values.append(took)
        what = template if code is None else f"{template} with 200 MB"
        return within(f"resume from memory, {what}", values, 12)

    def _big(self) -> list[Row]:
        """A kernel that holds 200 MB: pause, standstill, and restoring it from the disk."""
        template, pauses, gaps, restores = self._interpreter, list[float](), list[float](), list[float]()
        with self._sandbox(template) as (created, guest):
            _run_code(guest, MUCH_MEMORY)
            sandbox_id = created.sandbox.sandbox_id
            for _ in range(min(self._n, 3)):
                _, took = measure_ms(lambda: self._client.act(sandbox_id, "pause", {}))
                pauses.append(took)
                self._connect(sandbox_id)
            snapshot = ""
            for _ in range(min(self._n, 3)):
                snapshot, gap = self._snapshot_and_gap(guest, sandbox_id)
                gaps.append(gap)
            bare = self._baselines(snapshot, 3)
            for _ in range(min(self._n, 5)):
                time.sleep(RESPITE)
                _, took = measure_ms(lambda: self._create_and_kill(snapshot))
                restores.append(took)
        dd, checkpoint = _p50(bare.dd_ms), _p50(bare.checkpoint_ms)
        return [
            *against("pause, kernel with 200 MB", pauses, 1.5, dd, "dd of as many bytes with fsync"),
            *against("it stands still for a snapshot", gaps, 1.2, checkpoint, "bare checkpoint"),
            *against(
                "its snapshot from the disk", restores, 0.8, _p50(bare.answers_ms), "bare restore of the same"
            ),
            *self._resident(template, MUCH_MEMORY),
        ]

    def _fork(self, bare: Baselines) -> list[Row]:
        values: list[float] = []
        for _ in range(min(self._n, 3)):
            time.sleep(RESPITE)
            with self._sandbox(BASE) as (created, _):
                sandbox_id = created.sandbox.sandbox_id
                fields = {"count": FORKS, "timeout": LIFE}
                answer, took = measure_ms(functools.partial(self._client.act, sandbox_id, "fork", fields))
                values.append(took)
                for item in answer.json():
                    self._client.kill(item["sandbox"]["sandboxID"])
        ten = _p50(bare.answers_ms) * FORKS + _p50(bare.checkpoint_ms)
        return against(f"fork into {FORKS}", values, 0.5, ten, f"{FORKS} bare restores and a checkpoint")

    def _bursts(self) -> list[Row]:
        """The first finds what waits by default; by the third the pool knows that such come."""
        time.sleep(RESPITE)
        rows = self._burst(f"burst of {BURST} creates, all of them")
        self._burst("")
        time.sleep(BETWEEN_BURSTS)
        return rows + self._burst(f"burst of {BURST} creates, the third in a minute")

    def _burst(self, name: str) -> list[Row]:
        good: list[str] = []
        failures: list[Failure] = []

        def make(new: NewSandbox) -> None:
            try:
                good.append(self._client.create(new).sandbox.sandbox_id)
            except Failure as failure:
                failures.append(failure)

        begin = time.perf_counter()
        try:
            with ThreadPoolExecutor(BURST) as crowd:
                list(crowd.map(make, [_new(BASE)] * BURST))
            took = (time.perf_counter() - begin) * 1000
        finally:
            with ThreadPoolExecutor(BURST) as crowd:
                list(crowd.map(self._client.kill, good))
        rows = within(name, [took], 6000)
        if not failures:
            return rows
        self.notes.append(f"burst: {len(failures)} of {BURST} creates failed, one with: {failures[0]}")
        return [replace(row, judged=float("inf")) for row in rows]

    def _kill(self) -> list[Row]:
        kills: list[float] = []
        gone: list[float] = []
        for _ in range(self._n):
            time.sleep(RESPITE)
            sandbox_id = self._client.create(_new(BASE)).sandbox.sandbox_id
            begin = time.perf_counter()
            self._client.kill(sandbox_id)
            kills.append((time.perf_counter() - begin) * 1000)
            if self._settings.is_local:
                self._wait_gone(sandbox_id)
                gone.append((time.perf_counter() - begin) * 1000)
        return [*within("kill", kills, 10), *within("kill, until all of it is gone", gone, 1000)]

    # -- what they are made of -----------------------------------------------------------------------------

    @contextmanager
    def _sandbox(self, template: str, start: Start = "warm") -> Generator[tuple[Created, Guest]]:
        created = self._client.create(_new(template), start)
        sandbox_id = created.sandbox.sandbox_id
        try:
            yield created, Guest(self._settings, self._http, sandbox_id, created.sandbox.access_token)
        finally:
            self._client.kill(sandbox_id)

    def _create_and_kill(self, template: str) -> None:
        with self._sandbox(template, "cold"):
            pass

    def _connect(self, sandbox_id: str) -> httpx.Response:
        return self._client.act(sandbox_id, "connect", {"timeout": LIFE})

    def _snapshot_and_gap(self, guest: Guest, sandbox_id: str) -> tuple[str, float]:
        """The name of a snapshot, and the longest time that a process inside was not let run meanwhile."""
        with ThreadPoolExecutor(1) as beside:
            watching = beside.submit(_output, guest, _STANDSTILL.format(seconds=3))
            time.sleep(0.5)  # until it watches
            taken = self._client.act(sandbox_id, "snapshots", {})
            gap = float(watching.result())
        return get_text(parse_object(taken.content, "the snapshot"), "snapshotID"), gap

    def _wait_gone(self, sandbox_id: str) -> None:
        """Its slot's directory is the last thing that goes."""
        until = time.monotonic() + _GONE_WITHIN
        while time.monotonic() < until and _has_slot(self._settings.home, sandbox_id):
            time.sleep(0.005)

    def _baselines(self, template: str, n: int = 0) -> Baselines:
        measured, why = measure_baselines(template, n or self._n)
        if why:
            self.notes.append(f"no baseline: {why}")
        return measured

    def _trace(self, title: str, took: float, created: Created) -> None:
        self.traces += draw_trace(title, took, created.timings_ms)


def bench_lifecycle(settings: Settings, interpreter: str, n: int, *, as_json: bool, trace: bool) -> None:
    """Raises :class:`Failure` when a step fails; a baseline that is missing is told, not fatal."""
    with interruptible(), Client(settings) as client, open_http(settings.sandbox_url) as http:
        ensure_server(client)
        bench = Bench(settings, client, http, interpreter, n)
        rows = bench.rows()
    if as_json:
        print_json(
            {
                "unit": "ms",
                "measures": [asdict(row) | {"held": row.held} for row in rows],
                "notes": bench.notes,
                "trace": bench.traces if trace else [],
            }
        )
        return
    _print(rows)
    for line in [*bench.notes, *(bench.traces if trace else [])]:
        print(line)


def _print(rows: Sequence[Row]) -> None:
    cells = [
        [
            row.name,
            str(row.measured.n),
            *(f"{value:.1f}" for value in (row.measured.min, row.measured.p50, row.measured.p95)),
            "" if row.baseline is None else f"{row.baseline:.1f}",
            "" if row.baseline is None else f"{row.judged:.2f}",
            row.promise,
            "held" if row.held else "MISSED",
        ]
        for row in rows
    ]
    columns = ("ms", "n", "min", "p50", "p95", "baseline", "ratio", "promise", "")
    print_table(columns, cells, numbers=True)


def _new(template: str) -> NewSandbox:
    return NewSandbox(template, LIFE, metadata={"atoll.cli": "bench"})


def _run_true(guest: Guest) -> None:
    with closing(guest.start(process.Start("/bin/true"), None, 60)) as events:
        for event in events:
            if isinstance(event, process.Ended):
                return


def _output(guest: Guest, script: str) -> str:
    """What a Python script inside printed."""
    printed = bytearray()
    with closing(guest.start(process.Start("python3", ["-c", script]), None, 60)) as events:
        for event in events:
            if isinstance(event, process.Output):
                printed += event.data
    return printed.decode()


def _run_code(guest: Guest, code: str) -> None:
    run_one(guest)
    with closing(guest.execute(Request(code), 120)) as events:
        for event in events:
            if isinstance(event, CodeFailure):
                raise Failure(
                    f"the measured code failed: {event.name}",
                    why=event.value,
                    hint="`./atoll setup` rebuilds a damaged template",
                )


def _has_slot(home: Path, sandbox_id: str) -> bool:
    """Whether a slot of the local server names the sandbox."""
    for record in (home / "run" / "sandboxes").glob("*/record.json"):
        try:
            if sandbox_id in record.read_text():
                return True
        except OSError:
            continue
    return False


def _p50(values: list[float]) -> float:
    return summarise(values).p50 if values else 0.0
