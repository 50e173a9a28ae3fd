"""`bench guest`: the daemon inside a sandbox and the way to it.

Each row has its baseline from the same sandbox and run, what is promised of it, and whether that is kept. The
published SDK's own figures stand beside ours where it is installed.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import io
import json
import os
import re
import struct
import sys
import tarfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import Literal
from urllib.parse import quote, urlsplit

from atoll.cli.client import Client
from atoll.cli.failures import Failure
from atoll.cli.guest import Guest
from atoll.cli.http import open_http
from atoll.cli.interrupts import interruptible
from atoll.cli.output import print_json, print_table
from atoll.cli.server import ensure_server
from atoll.cli.settings import Settings
from atoll_wire import connect, hosts, process
from atoll_wire.api import ACCESS_TOKEN_HEADER, NewSandbox

# Flags and length of an envelope; what an output event's JSON has around its base64.
_ENVELOPE = struct.Struct(">BI")
_FRAME = len('{"event":{"data":{"stdout":""}}}')
SANDBOX_TIMEOUT = 1800
_BINARY = {"Content-Type": "application/octet-stream"}
PLACE = "/var/bench"
"""Where the files of a measurement lie."""
MIB = 1 << 20
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


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured; bytes and counts."""

    calls: int = 100
    stream: int = 1024 * MIB
    file: int = 256 * MIB
    files: int = 5000
    single_files: int = 300
    processes: int = 200


class Bench:
    """One sandbox under measurement. ``sandbox_id`` and ``token`` are those of its create."""

    def __init__(self, settings: Settings, guest: Guest, sandbox_id: str, token: str | None) -> None:
        self._settings = settings
        self._guest = guest
        self._sandbox_id = sandbox_id
        self._headers = {hosts.SANDBOX_ID_HEADER: sandbox_id, hosts.SANDBOX_PORT_HEADER: str(hosts.ENVD_PORT)}
        if token is not None:
            self._headers[ACCESS_TOKEN_HEADER] = token

    # -- what the rows are made of ------------------------------------------------------------------------

    def sh(self, script: str, user: str = "root") -> str:
        """Raises :class:`Failure` when it fails."""
        output = bytearray()
        start = process.Start("/bin/bash", ["-c", script])
        with closing(self._guest.start(start, user, 600)) as events:
            for event in events:
                if isinstance(event, process.Output):
                    output += event.data
                if isinstance(event, process.Ended) and event.exit_code != 0:
                    raise Failure(
                        f"{script[:40]!r} failed in the sandbox: {event.status}",
                        why=output.decode("utf-8", "replace")[-300:],
                        hint="`./atoll setup` rebuilds a damaged template",
                    )
        return output.decode()

    @contextmanager
    def connection(self, address: str | None = None) -> Generator[http.client.HTTPConnection]:
        """To the door, or to the sandbox's own address beside it."""
        parts = urlsplit(self._settings.sandbox_url)
        host, port = parts.hostname or "127.0.0.1", parts.port or 80
        if address is not None:
            host, port = address, hosts.ENVD_PORT
        with closing(http.client.HTTPConnection(host, port, timeout=600)) as it:
            yield it

    def ask(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> http.client.HTTPResponse:
        connection.request(method, path, body, {**self._headers, **(headers or {})})
        answer = connection.getresponse()
        if answer.status >= 300:
            raise Failure(
                f"{method} {path.partition('?')[0]} in the sandbox: status {answer.status}",
                why=answer.read(300).decode("utf-8", "replace"),
                hint="`./atoll setup` rebuilds a damaged template",
            )
        return answer

    def seconds(
        self, method: str, path: str, body: bytes | None = None, port: int = hosts.ENVD_PORT
    ) -> float:
        headers = {hosts.SANDBOX_PORT_HEADER: str(port), **_BINARY}
        with self.connection() as connection:
            begin = time.perf_counter()
            drain(self.ask(connection, method, path, body, headers))
            return time.perf_counter() - begin

    def stream_seconds(self, path: str) -> tuple[float, int]:
        """Of `cat`: how long its output took, and how many bytes it was."""
        with self.connection() as connection:
            begin = time.perf_counter()
            size = split_envelopes(self._start(connection, "/bin/cat", path))
            return time.perf_counter() - begin, size

    def _start(
        self, connection: http.client.HTTPConnection, cmd: str, *args: str
    ) -> http.client.HTTPResponse:
        """A command's stream as it comes, as root."""
        body = connect.encode_envelope(process.encode_start(process.Start(cmd, args)))
        headers = {"Content-Type": connect.STREAM_CONTENT_TYPE, "Authorization": "Basic cm9vdDo="}
        return self.ask(connection, "POST", f"{process.SERVICE}/Start", body, headers)

    # -- rows ------------------------------------------------------------------------------------------------

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
        published = published_commands(self._sandbox_id, sizes.calls)
        if published is not None:
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
        with closing(self._guest.start(start, "user", 60)) as events:
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
        published = published_stream(self._sandbox_id, path)
        if published is not None:
            rate = sizes.stream / published / MIB
            rows.append(
                row("cat, published SDK", rate, "MiB/s", base, "plain download", rate / base, "", None)
            )
        self.sh(f"rm {path}")
        return rows

    def files(self, sizes: Sizes) -> list[Row]:
        content = os.urandom(MIB) * (sizes.file // MIB)
        with self._static_server():
            before = server_resident(self._settings)
            write = self.seconds("POST", _files(PLACE + "/file"), content)
            read = self.seconds("GET", _files(PLACE + "/file"))
            after = server_resident(self._settings)
            base_write = self.seconds("POST", "/posted", content, STATIC_PORT)
            base_read = self.seconds("GET", "/posted", port=STATIC_PORT)
        size, name = sizes.file / MIB, "plain server inside"
        rows = [
            _rate("files.write", size / write, size / base_write, name, 0.6),
            _rate("files.read", size / read, size / base_read, name, 0.6),
        ]
        if before is not None and after is not None:
            more = after - before
            rows.append(row("server RSS after both", after, "MiB", before, "before", more, "+ ≤ 20 MiB", 20))
        return rows

    @contextmanager
    def _static_server(self) -> Generator[None]:
        start = process.Start("python3", ["-c", STATIC_SERVER], cwd=PLACE)
        with closing(self._guest.start(start, "root", None)) as events:
            pid = next(event.pid for event in events if isinstance(event, process.Started))
            try:
                self._await_port(STATIC_PORT)
                yield
            finally:
                self._guest.send_signal(pid, "SIGNAL_SIGKILL")

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
        """gVisor's RSS rounds each mapping of the daemon's up to 2 MiB; an idle sandbox's use does not."""
        with self.connection() as connection:
            used = json.loads(self.ask(connection, "GET", "/metrics").read())["mem_used"] / MIB
        idle = self._resident()
        with contextlib.ExitStack() as stack:
            for _ in range(sizes.processes):
                connection = stack.enter_context(self.connection())
                self._start(connection, "/bin/sleep", "600").read1(1)
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
        if address is not None and self._settings.is_local:
            with contextlib.suppress(OSError):
                direct = self._byte(address[1], sizes.calls * 5)
        more = None if direct is None else door - direct
        return [row("1 byte through the door", door, "ms", direct, "direct", more, "+ ≤ 1.5 ms", 1.5)]

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
    _print(template, rows, as_json)


def measure(bench: Bench, sizes: Sizes) -> list[Row]:
    steps = (bench.memory, bench.commands, bench.door, bench.small_files, bench.files, bench.streams)
    bench.sh(f"mkdir -p {PLACE} && chmod 777 {PLACE}")
    rows: list[Row] = []
    for step in steps:
        sys.stderr.write(f"atoll: measuring {step.__name__.replace('_', ' ')}\n")
        rows += step(sizes)
    return rows


def split_envelopes(answer: http.client.HTTPResponse) -> int:
    """About how many bytes of output went by, by the envelopes' lengths alone: base64 holds three in four."""
    piece = memoryview(bytearray(1 << 20))
    size, skip, header = 0, 0, bytearray()
    while n := answer.readinto(piece):
        at = 0
        while at < n:
            if skip:
                step = min(skip, n - at)
                skip, at = skip - step, at + step
                continue
            take = min(_ENVELOPE.size - len(header), n - at)
            header += piece[at : at + take]
            at += take
            if len(header) == _ENVELOPE.size:
                _, skip = _ENVELOPE.unpack(header)
                size += max(0, skip - _FRAME) * 3 // 4
                header.clear()
    return size


def drain(answer: http.client.HTTPResponse) -> None:
    piece = memoryview(bytearray(1 << 18))
    while answer.readinto(piece):
        pass


def make_archive(files: int) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for n in range(files):
            info = tarfile.TarInfo(f"d{n // 100}/f{n}")
            info.size = 100
            archive.addfile(info, io.BytesIO(b"x" * 100))
    return made.getvalue()


def published_commands(sandbox_id: str, n: int) -> float | None:
    """Milliseconds of `commands.run("true")`; ``None`` where the published SDK is not installed."""
    if importlib.util.find_spec("e2b") is None:
        return None
    from e2b import Sandbox

    sandbox = Sandbox.connect(sandbox_id, timeout=SANDBOX_TIMEOUT)
    return median(_milliseconds(lambda: sandbox.commands.run("true")) for _ in range(n))


def published_stream(sandbox_id: str, path: str) -> float | None:
    """Seconds of `commands.run("cat …")`."""
    if importlib.util.find_spec("e2b") is None:
        return None
    from e2b import Sandbox

    sandbox = Sandbox.connect(sandbox_id, timeout=SANDBOX_TIMEOUT)
    return _milliseconds(lambda: sandbox.commands.run(f"cat {path}", user="root", timeout=900)) / 1000


def server_resident(settings: Settings) -> float | None:
    """MiB; ``None`` when the server is not ours to look at."""
    try:
        pid = int((settings.home / "run" / "server.pid").read_text().split()[0])
        with open(f"/proc/{pid}/status") as status:
            found = re.search(r"VmRSS:\s+(\d+) kB", status.read())
    except (OSError, ValueError, IndexError):
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


def row(
    name: str,
    value: float,
    unit: Literal["ms", "MiB/s", "MiB"],
    baseline: float | None,
    baseline_name: str,
    ratio: float | None,
    promise: str,
    limit: float | None,
) -> Row:
    """``limit``: the most that ``ratio`` may be; negative: the least; ``None``: nothing is promised."""
    kept = None if ratio is None or limit is None else (ratio <= limit if limit > 0 else ratio >= -limit)
    return Row(name, value, unit, baseline, baseline_name, ratio, promise, kept)


def _print(template: str, rows: Sequence[Row], as_json: bool) -> None:
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
