"""`bench interpreter`: what an execution costs, beside raw Jupyter on the same kernel in the same sandbox."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from statistics import median

from atoll.cli.bench import SANDBOX_TIMEOUT, Summary, measure_ms, summarise
from atoll.cli.bench_lifecycle import RESPITE
from atoll.cli.client import Client, Created, Start
from atoll.cli.failures import Failure
from atoll.cli.guest import Guest
from atoll.cli.host_memory import measure_memory
from atoll.cli.http import httpx, open_http
from atoll.cli.interrupts import interruptible
from atoll.cli.output import print_json, print_table
from atoll.cli.server import ensure_server
from atoll.cli.settings import Settings
from atoll_wire import process
from atoll_wire.api import NewSandbox
from atoll_wire.executions import Failure as CodeFailure
from atoll_wire.executions import Request, Stdout
from atoll_wire.values import get_list, parse_object

FIRST, TENTH = "first run_code", "tenth run_code"
UNREADY = "first run_code, none waited"
"""In a sandbox that was restored for the caller: it has the template's pages to copy still."""
LIVING, JUPYTER = "run_code 1+1", "raw Jupyter 1+1"
PRINTS, JUPYTER_PRINTS = "100,000 prints", "raw Jupyter 100,000 prints"
IMPORT = "import numpy, pandas, matplotlib.pyplot"
ARRIVAL, CHART = "print to callback", "chart of 10,000 points"
LANGUAGES = ("bash", "javascript", "typescript", "r", "java")
_ONE = {"bash": "echo 1", "javascript": "1", "typescript": "1", "r": "1", "java": "1"}
_PRINT = "for i in range(100_000): print(i)"
_IMPORT = (
    "import time\nbegin = time.perf_counter()\nimport numpy, pandas, matplotlib.pyplot\n"
    "print((time.perf_counter() - begin) * 1000)"
)
_PRINT_ROUNDS = 3
_LANGUAGE_ROUNDS = 3
# Each line says when it was written. Sandbox and host read one clock.
_TELL_TIME = "import time\nfor _ in range(20):\n    time.sleep(0.05)\n    print(time.time())"
_CHART = (
    "import time\nimport matplotlib.pyplot as plt\nfrom atoll_guest.interpreter.charts import extract_chart\n"
    "figure, axes = plt.subplots()\naxes.plot(range(10_000), range(10_000))\ntimes = []\n"
    "for _ in range(10):\n"
    "    begin = time.perf_counter()\n    extract_chart(figure)\n"
    "    times.append((time.perf_counter() - begin) * 1000)\n"
    "plt.close(figure)\nprint(*times)"
)

# Runs in the sandbox, with the template's Python. argv: how often what is measured.
_RAW = """
import glob, json, sys, time
from jupyter_client import BlockingKernelClient
for path in glob.glob("/tmp/atoll-kernel-*/connection.json"):
    if json.load(open(path))["kernel_name"] == "python":
        break
client = BlockingKernelClient()
client.load_connection_file(path)
client.start_channels(hb=False, stdin=False)
client.wait_for_ready(timeout=30)
def run(code):
    begin = time.perf_counter()
    message = client.execute(code)
    client.get_shell_msg(timeout=60)
    while True:
        got = client.get_iopub_msg(timeout=60)
        if got["parent_header"].get("msg_id") == message and got["content"].get("execution_state") == "idle":
            return (time.perf_counter() - begin) * 1000
for _ in range(5):
    run("1+1")
times = [run(sys.argv[2]) for _ in range(int(sys.argv[1]))]
print(json.dumps({"ms": times}))
"""
_START = """
import json, sys, time, urllib.request
body = json.dumps({"language": sys.argv[1]}).encode()
begin = time.perf_counter()
urllib.request.urlopen("http://localhost:49999/contexts", body, timeout=120).read()
print(json.dumps({"ms": [(time.perf_counter() - begin) * 1000]}))
"""


@dataclass(slots=True)
class Findings:
    """Milliseconds by measure; a language's (first execution, start of its kernel); MiB by part."""

    samples: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    languages: dict[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    memory_mib: dict[str, float] = field(default_factory=dict[str, float])
    missing: list[str] = field(default_factory=list[str])

    def add(self, measure: str, *milliseconds: float) -> None:
        self.samples.setdefault(measure, []).extend(milliseconds)


def bench_interpreter(settings: Settings, template: str, n: int, as_json: bool) -> None:
    """Raises :class:`Failure` when a step fails; a language that is not there is told, not fatal."""
    findings = Findings()
    with interruptible(), Client(settings) as client, open_http(settings.sandbox_url) as http:
        ensure_server(client)
        waited = 0
        for _ in range(n):
            time.sleep(RESPITE)
            with _fresh(client, http, template) as (created, guest):
                if "warm" in created.timings_ms:
                    waited += 1
                    mib = measure_memory(settings.home, created.sandbox.sandbox_id)
                    findings.memory_mib = findings.memory_mib or mib
                    _measure_fresh(guest, findings)
        with _fresh(client, http, template, "cold") as (_, guest):
            findings.add(UNREADY, measure_ms(lambda: _run(guest, "1+1"))[1])
        with _fresh(client, http, template) as (_, guest):
            _measure_living(guest, findings, n)
        _measure_languages(client, http, template, findings)
    if waited < n:
        findings.missing.append(f"first run_code of {n - waited} in {n}: no warm one waited (ATOLL_POOL)")
    if not findings.memory_mib:
        findings.missing.append("memory: only root on the server's own machine can read it")
    _print(template, findings, as_json)


@contextmanager
def _fresh(
    client: Client, http: httpx.Client, template: str, start: Start = "warm"
) -> Generator[tuple[Created, Guest]]:
    new = NewSandbox(template, SANDBOX_TIMEOUT * 5, metadata={"atoll.cli": "bench"})
    created = client.create(new, start)
    sandbox = created.sandbox
    try:
        yield created, Guest(client.settings, http, sandbox.sandbox_id, sandbox.access_token)
    finally:
        client.kill(sandbox.sandbox_id)


def _measure_fresh(guest: Guest, findings: Findings) -> None:
    times = [measure_ms(lambda: _run(guest, "1+1"))[1] for _ in range(10)]
    findings.add(FIRST, times[0])
    findings.add(TENTH, times[-1])
    findings.add(IMPORT, float(_run(guest, _IMPORT)))


def _measure_living(guest: Guest, findings: Findings, n: int) -> None:
    """In turn with the baseline, so that both meet the same machine."""
    for _ in range(max(2, n // 2)):
        findings.add(LIVING, *(measure_ms(lambda: _run(guest, "1+1"))[1] for _ in range(10)))
        findings.add(JUPYTER, *_inside(guest, _RAW, "10", "1+1"))
    findings.add(ARRIVAL, *_arrivals(guest))
    findings.add(CHART, *map(float, _run(guest, _CHART).split()))
    for _ in range(_PRINT_ROUNDS):
        findings.add(PRINTS, measure_ms(lambda: _run(guest, _PRINT))[1])
        findings.add(JUPYTER_PRINTS, *_inside(guest, _RAW, "1", _PRINT))


def _measure_languages(client: Client, http: httpx.Client, template: str, findings: Findings) -> None:
    """The median of a few sandboxes each: two single starts of a JVM may differ by half."""
    found: dict[str, list[tuple[float, float]]] = {}
    missing: dict[str, Failure] = {}
    for _ in range(_LANGUAGE_ROUNDS):
        with _fresh(client, http, template) as (_, guest):
            for language in (each for each in LANGUAGES if each not in missing):
                try:
                    _, first = measure_ms(lambda language=language: _run(guest, _ONE[language], language))
                except Failure as failure:
                    missing[language] = failure
                    continue
                (start,) = _inside(guest, _START, language)
                found.setdefault(language, []).append((first, start))
    for language, pairs in found.items():
        firsts, starts = zip(*pairs, strict=True)
        findings.languages[language] = (median(firsts), median(starts))
    findings.missing += [f"{language}: {failure}" for language, failure in missing.items()]


def _run(guest: Guest, code: str, language: str | None = None) -> str:
    """What it printed. Raises :class:`Failure` when the code fails."""
    printed: list[str] = []
    with closing(guest.execute(Request(code, language=language), SANDBOX_TIMEOUT)) as events:
        for event in events:
            if isinstance(event, CodeFailure):
                raise Failure(
                    f"{code!r} failed in the sandbox with {event.name}",
                    why=event.value,
                    hint="`./atoll setup` rebuilds a damaged template",
                )
            if isinstance(event, Stdout):
                printed.append(event.text)
    return "".join(printed)


def _arrivals(guest: Guest) -> list[float]:
    """Milliseconds from the write of each line to its arrival here."""
    late: list[float] = []
    with closing(guest.execute(Request(_TELL_TIME), SANDBOX_TIMEOUT)) as events:
        for event in events:
            if isinstance(event, Stdout):
                now = time.time()
                late += [(now - float(line)) * 1000 for line in event.text.split()]
    return late


def _inside(guest: Guest, script: str, *arguments: str) -> list[float]:
    """Runs a script of ours in the sandbox; the milliseconds it prints."""
    output, errors, status = bytearray(), bytearray(), 0
    start = process.Start("/opt/python/bin/python", ("-c", script, *arguments), cwd="/home/user")
    with closing(guest.start(start, None, SANDBOX_TIMEOUT)) as events:
        for event in events:
            if isinstance(event, process.Output):
                (output if event.stream == "stdout" else errors).extend(event.data)
            elif isinstance(event, process.Ended):
                status = event.exit_code
    if status != 0:
        raise Failure(
            "the baseline failed in the sandbox",
            why=errors.decode("utf-8", "replace").strip()[-500:],
            hint="use a template with the interpreter, such as code-interpreter-v1",
        )
    values = get_list(parse_object(bytes(output), "the baseline"), "ms")
    return [float(value) for value in values if isinstance(value, (int, float))]


# --- telling


def promises(findings: Findings) -> dict[str, float]:
    """The numbers that are promised: differences in ms, ratios, MiB."""
    p50 = {name: summarise(values).p50 for name, values in findings.samples.items()}
    found = {
        "run_code over raw Jupyter, ms (at most 3)": p50[LIVING] - p50[JUPYTER],
        "prints against raw Jupyter, times as fast (at least 0.5)": p50[JUPYTER_PRINTS] / p50[PRINTS],
    }
    if FIRST in p50:
        found["first run_code over the tenth, times (at most 1.5)"] = p50[FIRST] / p50[TENTH]
    for name, measure in (
        ("first import, ms (at most 50)", IMPORT),
        ("from print to callback, ms (at most 5)", ARRIVAL),
        ("chart data of 10,000 points, ms (at most 30)", CHART),
    ):
        if measure in p50:
            found[name] = p50[measure]
    for language, (first, start) in findings.languages.items():
        found[f"{language}: first execution over its start, times (at most 1.5)"] = first / start
    if findings.memory_mib:
        found["host memory of a fresh sandbox, MiB (at most 135)"] = sum(findings.memory_mib.values())
    return {name: round(value, 2) for name, value in found.items()}


def _print(template: str, findings: Findings, as_json: bool) -> None:
    summaries = {name: summarise(values) for name, values in findings.samples.items()}
    if as_json:
        print_json(
            {
                "template": template,
                "unit": "ms",
                "measures": {name: _fields(summary) for name, summary in summaries.items()},
                "languages": {
                    language: {"firstExecution": round(first, 1), "kernelStart": round(start, 1)}
                    for language, (first, start) in findings.languages.items()
                },
                "memoryMiB": findings.memory_mib,
                "promises": promises(findings),
                "missing": findings.missing,
            }
        )
        return
    rows = [
        [name, str(s.n), *(f"{value:.1f}" for value in (s.min, s.p50, s.p95))]
        for name, s in summaries.items()
    ]
    print_table((f"{template}, ms", "n", "min", "p50", "p95"), rows, numbers=True)
    rows = [[name, f"{first:.0f}", f"{start:.0f}"] for name, (first, start) in findings.languages.items()]
    print_table(("language, ms", "first execution", "kernel's start"), rows, numbers=True)
    rows = [[name, f"{mib:.1f}"] for name, mib in findings.memory_mib.items()]
    print_table(("host memory", "MiB"), rows, numbers=True)
    print_table(
        ("promised", "measured"), [[n, f"{v:g}"] for n, v in promises(findings).items()], numbers=True
    )
    for missing in findings.missing:
        sys.stderr.write(f"atoll: not measured: {missing}\n")


def _fields(summary: Summary) -> Mapping[str, float]:
    return {"n": summary.n, "min": summary.min, "p50": summary.p50, "p95": summary.p95}
