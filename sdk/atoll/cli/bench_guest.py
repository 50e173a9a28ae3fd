"""`bench guest`: the daemon inside a sandbox and the way to it.

Each row has its baseline from the same sandbox and run, what is promised of it, and whether that is kept. The
published SDK's own figures stand beside ours where it is installed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import re
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING
from urllib.parse import quote

from atoll.cli.bench_rows import Row, print_rows, row
from atoll.cli.bench_sandbox import BenchSandbox, drain
from atoll.cli.client import Client
from atoll.cli.failures import Failure
from atoll.cli.guest import Guest
from atoll.cli.http import open_http
from atoll.cli.interrupts import interruptible
from atoll.cli.server import ensure_server
from atoll.cli.settings import Settings
from atoll_wire import process
from atoll_wire.api import NewSandbox

if TYPE_CHECKING:
    from e2b import Sandbox

SANDBOX_TIMEOUT = 1800
PLACE = "/var/bench"
"""Where the files of a measurement lie."""
MIB = 1 << 20
GREEDY = (
    ("memory hog", "tail /dev/zero", "memory limit exceeded ("),
    ("fork bomb", "b() { b | b & }; b; sleep 60", "process limit exceeded ("),
)
"""What takes all it can get, and what its end says."""
STATIC_PORT = 8765
STATIC_SERVER = """
import http.server, shutil
class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        left = int(self.headers["Content-Length"])
        with open("posted", "wb") as out:
            while left > 0:
                chunk = self.rfile.read(min(left, 1 << 20))
                out.write(chunk)
                left -= len(chunk)
        self.send_response(204)
        self.end_headers()
    def log_message(self, *words):
        pass
http.server.ThreadingHTTPServer(("", 8765), Handler).serve_forever()
"""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured; bytes and counts."""

    calls: int = 100
    stream: int = 1024 * MIB
    file: int = 256 * MIB
    files: int = 5000
    single_files: int = 300
    processes: int = 200
    greedy: int = 5


class Bench(BenchSandbox):
    """What is measured of it."""

    def commands(self, sizes: Sizes) -> list[Row]:
        plain, login = (self._inside(f"bash {flags} true", sizes.calls) for flags in ("-c", "-l -c"))
        start = process.Start("/bin/bash", ["-l", "-c", "true"])
        ours = median(_milliseconds(lambda: self._run(start)) for _ in range(sizes.calls))
        rows = [
            row("command, our client", ours, "ms", login, "bash -l -c inside", ours - login, "+ ≤ 8 ms", 8),
            row(
                "bash -l -c true inside", login, "ms", plain, "bash -c inside", login / plain, "≤ 1.5 ×", 1.5
            ),
        ]
        sandbox = published_sandbox(self.settings, self.sandbox_id)
        if sandbox is not None:
            published = median(
                _milliseconds(partial(sandbox.commands.run, "true")) for _ in range(sizes.calls)
            )
            more = published - login
            rows.append(
                row(
                    "command, published SDK", published, "ms", login, "bash -l -c inside", more, "+ ≤ 8 ms", 8
                )
            )
        return rows

    def _inside(self, command: str, n: int) -> float:
        """Milliseconds of one, started by a shell that runs there already."""
        script = f'b=$EPOCHREALTIME; for i in $(seq {n}); do {command}; done; echo "$b $EPOCHREALTIME"'
        begin, end = (float(word) for word in self.sh(script, "user").split())
        return (end - begin) / n * 1000

    def _run(self, start: process.Start) -> None:
        with closing(self.guest.start(start, "user", 60)) as events:
            for _ in events:
                pass

    def streams(self, sizes: Sizes) -> list[Row]:
        path = PLACE + "/stream"
        self.sh(f"mkdir -p {PLACE} && head -c {sizes.stream} /dev/zero > {path}")
        plain: list[float] = []
        piped: list[float] = []
        for _ in range(3):
            plain.append(sizes.stream / self.seconds("GET", _files(path)) / MIB)
            took, size = self.stream_seconds(path)
            if abs(size - sizes.stream) > sizes.stream / 100:
                raise Failure(
                    f"cat of {sizes.stream} bytes gave {size}",
                    why="output was lost",
                    hint="please report this",
                )
            piped.append(sizes.stream / took / MIB)
        rate, base = median(piped), median(plain)
        rows = [row("cat, stdout", rate, "MiB/s", base, "plain download", rate / base, "≥ 0.35 ×", -0.35)]
        sandbox = published_sandbox(self.settings, self.sandbox_id)
        if sandbox is not None:
            read = partial(sandbox.commands.run, f"cat {path}", user="root", timeout=900)
            rate = sizes.stream / (_milliseconds(read) / 1000) / MIB
            rows.append(
                row("cat, published SDK", rate, "MiB/s", base, "plain download", rate / base, "", None)
            )
        self.sh(f"rm {path}")
        return rows

    def files(self, sizes: Sizes) -> list[Row]:
        content = os.urandom(MIB) * (sizes.file // MIB)
        with self._static_server():
            with ServerMemory(self.settings) as server:
                write = self.seconds("POST", _files(PLACE + "/file"), content)
                read = self.seconds("GET", _files(PLACE + "/file"))
            base_write = self.seconds("POST", "/posted", content, STATIC_PORT)
            base_read = self.seconds("GET", "/posted", port=STATIC_PORT)
        size, name = sizes.file / MIB, "plain server inside"
        rows = [
            _rate("files.write", size / write, size / base_write, name, 0.6),
            _rate("files.read", size / read, size / base_read, name, 0.6),
        ]
        if server.before is not None and server.most is not None:
            more = server.most - server.before
            rows.append(
                row(
                    "server RSS, most in both",
                    server.most,
                    "MiB",
                    server.before,
                    "before",
                    more,
                    "+ ≤ 20 MiB",
                    20,
                )
            )
        return rows

    @contextmanager
    def _static_server(self) -> Generator[None]:
        start = process.Start("python3", ["-c", STATIC_SERVER], cwd=PLACE)
        with closing(self.guest.start(start, "root", None)) as events:
            pid = next(event.pid for event in events if isinstance(event, process.Started))
            try:
                self._await_port(STATIC_PORT)
                yield
            finally:
                self.guest.send_signal(pid, "SIGNAL_SIGKILL")

    def _await_port(self, port: int) -> None:
        probe = (
            f"for i in $(seq 200); do (: < /dev/tcp/127.0.0.1/{port}) 2>/dev/null && exit 0; sleep 0.05; done"
        )
        self.sh(f"{probe}; exit 1")

    def small_files(self, sizes: Sizes) -> list[Row]:
        archive = make_archive(sizes.files)
        packed = self.seconds("POST", f"/dirs?path={quote(PLACE + '/many')}&username=user", archive)
        with self.connection() as connection:
            begin = time.perf_counter()
            for n in range(sizes.single_files):
                path = _files(f"{PLACE}/single/{n}", "user")
                drain(
                    self.ask(
                        connection, "POST", path, b"x" * 100, {"Content-Type": "application/octet-stream"}
                    )
                )
            single = (time.perf_counter() - begin) / sizes.single_files * sizes.files
        faster = single / packed
        name = f"{sizes.files} files by /dirs"
        return [row(name, packed * 1000, "ms", single * 1000, "one request each", faster, "≥ 20 ×", -20)]

    def memory(self, sizes: Sizes) -> list[Row]:
        """The daemon's own share, idle: no more than all memory that its idle sandbox uses.

        Its RSS stands beside: gVisor counts whole mappings there, touched or not, and the program's file.
        """
        with self.connection() as connection:
            used = json.loads(self.ask(connection, "GET", "/metrics").read())["mem_used"] / MIB
        idle = self._resident()
        with contextlib.ExitStack() as stack:
            for _ in range(sizes.processes):
                connection = stack.enter_context(self.connection())
                self.start_command(connection, "/bin/sleep", "600").read1(1)
            busy = self._resident()
        self.sh("pkill -x sleep || true")
        return [
            row("idle sandbox, all of it", used, "MiB", idle, "daemon RSS", used, "≤ 15 MiB", 15),
            row(f"RSS, {sizes.processes} processes", busy, "MiB", idle, "daemon RSS", busy, "≤ 40 MiB", 40),
        ]

    def _resident(self) -> float:
        found = re.search(r"VmRSS:\s+(\d+) kB", self.sh("cat /proc/1/status"))
        assert found is not None
        return int(found[1]) / 1024

    def door(self, sizes: Sizes) -> list[Row]:
        """The sandbox's own address is reachable only from the server's machine."""
        self.sh(f"printf x > {PLACE}/byte")
        address = re.search(r"inet ([0-9.]+)", self.sh("ip -4 -o addr show scope global"))
        door = self._byte(None, sizes.calls * 5)
        direct: float | None = None
        if address is not None and self.settings.is_local:
            with contextlib.suppress(OSError):
                direct = self._byte(address[1], sizes.calls * 5)
        more = None if direct is None else door - direct
        return [row("1 byte through the door", door, "ms", direct, "direct", more, "+ ≤ 1.5 ms", 1.5)]

    def greed(self, sizes: Sizes) -> list[Row]:
        """How soon the daemon answers while a program takes all memory, and while one forks without end."""
        idle = self._slowest(lambda: time.sleep(1))
        rows: list[Row] = []
        for name, script, end in GREEDY:
            slowest = self._slowest(partial(self._let_end, script, end, sizes.greedy))
            rows.append(row(f"p99 of health, {name}", slowest, "ms", idle, "idle", slowest, "≤ 250 ms", 250))
        return rows

    def _let_end(self, script: str, end: str, times: int) -> None:
        """Runs it so often; the daemon must end it each time, and say why."""
        start = process.Start("/bin/bash", ["-c", script])
        for _ in range(times):
            with closing(self.guest.start(start, "user", 120)) as events:
                ends = [event for event in events if isinstance(event, process.Ended)]
            if not ends or not (ends[0].error or "").startswith(end):
                raise Failure(
                    f"{script!r} ended with {ends}",
                    why=f"the daemon should have ended it with {end!r}",
                    hint="please report this",
                )

    def _slowest(self, during: Callable[[], None]) -> float:
        """Milliseconds: the 99th of a hundred calls of `GET /health`, one after the other, 5 ms between."""
        took: list[float] = []
        ended = threading.Event()

        def probe() -> None:
            with self.connection() as connection:
                while not ended.wait(0.005):
                    took.append(_milliseconds(lambda: drain(self.ask(connection, "GET", "/health"))))

        prober = threading.Thread(target=probe)
        prober.start()
        try:
            during()
        finally:
            ended.set()
            prober.join()
        return sorted(took)[len(took) * 99 // 100]

    def _byte(self, address: str | None, n: int) -> float:
        path = _files(PLACE + "/byte")
        with self.connection(address) as connection:
            return median(_milliseconds(lambda: drain(self.ask(connection, "GET", path))) for _ in range(n))


def bench_guest(settings: Settings, template: str, as_json: bool) -> None:
    """Raises :class:`Failure` when a step fails."""
    with interruptible(), Client(settings) as client, open_http(settings.sandbox_url) as http_client:
        ensure_server(client)
        new = NewSandbox(template, SANDBOX_TIMEOUT, metadata={"atoll.cli": "bench"})
        created = client.create(new).sandbox
        try:
            guest = Guest(settings, http_client, created.sandbox_id, created.access_token)
            rows = measure(Bench(settings, guest, created.sandbox_id, created.access_token), Sizes())
        finally:
            client.kill(created.sandbox_id)
    print_rows(template, rows, as_json)


def measure(bench: Bench, sizes: Sizes) -> list[Row]:
    steps = (
        bench.memory,
        bench.commands,
        bench.door,
        bench.small_files,
        bench.files,
        bench.streams,
        bench.greed,
    )
    bench.sh(f"mkdir -p {PLACE} && chmod 777 {PLACE}")
    rows: list[Row] = []
    for step in steps:
        sys.stderr.write(f"atoll: measuring {step.__name__.replace('_', ' ')}\n")
        rows += step(sizes)
    return rows


def make_archive(files: int) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for n in range(files):
            info = tarfile.TarInfo(f"d{n // 100}/f{n}")
            info.size = 100
            archive.addfile(info, io.BytesIO(b"x" * 100))
    return made.getvalue()


def published_sandbox(settings: Settings, sandbox_id: str) -> Sandbox | None:
    """The same through the published SDK; ``None`` where it is not installed."""
    if importlib.util.find_spec("e2b") is None:
        return None
    from e2b import Sandbox

    return Sandbox.connect(sandbox_id, timeout=SANDBOX_TIMEOUT, **settings.published_options())


class ServerMemory:
    """The server's RSS in MiB while something happens: before it, and the most of it.

    Both are ``None`` when the server is not ours to look at.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.before = self.most = self._read()

    def __enter__(self) -> ServerMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            now = self._read()
            if now is not None and self.most is not None:
                self.most = max(self.most, now)

    def _read(self) -> float | None:
        try:
            pid = json.loads((self._settings.home / "run" / "server.pid").read_text())["pid"]
            with open(f"/proc/{pid}/status") as status:
                found = re.search(r"VmRSS:\s+(\d+) kB", status.read())
        except (OSError, ValueError, LookupError, TypeError):
            return None
        return None if found is None else int(found[1]) / 1024


def _files(path: str, user: str = "root") -> str:
    return f"/files?path={quote(path)}&username={user}"


def _milliseconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return (time.perf_counter() - begin) * 1000


def _rate(name: str, value: float, base: float, base_name: str, least: float) -> Row:
    return row(name, value, "MiB/s", base, base_name, value / base, f"≥ {least} ×", -least)
