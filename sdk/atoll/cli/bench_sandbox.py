"""The sandbox that `bench guest` measures, by plain connections that add as little of their own as can be."""

from __future__ import annotations

import http.client
import struct
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

from atoll.cli.failures import Failure
from atoll.cli.guest import Guest
from atoll.cli.settings import Settings
from atoll_wire import connect, hosts, process
from atoll_wire.api import ACCESS_TOKEN_HEADER

# Flags and length of an envelope; what an output event's JSON has around its base64.
_ENVELOPE = struct.Struct(">BI")
_FRAME = len('{"event":{"data":{"stdout":""}}}')
_BINARY = {"Content-Type": "application/octet-stream"}


class BenchSandbox:
    """One sandbox under measurement. ``sandbox_id`` and ``token`` are those of its create."""

    def __init__(self, settings: Settings, guest: Guest, sandbox_id: str, token: str | None) -> None:
        self.settings = settings
        self.guest = guest
        self.sandbox_id = sandbox_id
        self._headers = {hosts.SANDBOX_ID_HEADER: sandbox_id, hosts.SANDBOX_PORT_HEADER: str(hosts.ENVD_PORT)}
        if token is not None:
            self._headers[ACCESS_TOKEN_HEADER] = token

    def sh(self, script: str, user: str = "root") -> str:
        """Raises :class:`Failure` when it fails."""
        output = bytearray()
        start = process.Start("/bin/bash", ["-c", script])
        with closing(self.guest.start(start, user, 600)) as events:
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
        parts = urlsplit(self.settings.sandbox_url)
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
            size = split_envelopes(self.start_command(connection, "/bin/cat", path))
            return time.perf_counter() - begin, size

    def start_command(
        self, connection: http.client.HTTPConnection, cmd: str, *args: str
    ) -> http.client.HTTPResponse:
        """A command's stream as it comes, as root."""
        body = connect.encode_envelope(process.encode_start(process.Start(cmd, args)))
        headers = {"Content-Type": connect.STREAM_CONTENT_TYPE, "Authorization": "Basic cm9vdDo="}
        return self.ask(connection, "POST", f"{process.SERVICE}/Start", body, headers)


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
