"""The host's side of envd, the daemon inside: health, the signed ``/init``, files, commands.

Latency matters here (one call is on the path of every create), so it is HTTP/1.1 by hand over asyncio
streams, parsed by httptools; one connection per call unless :class:`GuestConnection` is kept.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from urllib.parse import quote

import httptools
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from atoll_wire import connect, hostauth, process
from atoll_wire.hosts import INTERPRETER_PORT
from atolld.model.errors import GuestUnresponsive
from atolld.model.sandbox import Identity
from atolld.node.runtime.bundle import snapshot_fingerprint

ENVD_PATH = "/.atoll/envd"
ENVD_PORT = 49983
HOST_KEY_VARIABLE = "ATOLL_HOST_KEY"
CALL_TIMEOUT = 10.0
"""Seconds a call to the daemon may take: a healthy one answers in a millisecond."""
_WARM_UP_PATIENCE = 60.0
"""Seconds that a template's own cell may take."""
_RETRY_DELAYS = (0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25)
"""Pauses between attempts to reach a daemon that is just starting: nothing announces that it listens."""


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
    signed: bool = False
    """For routes that the host alone may call."""


@dataclass(slots=True)
class _Response:
    """Collects what httptools reports of one answer."""

    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytearray = field(default_factory=bytearray)
    complete: bool = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


class GuestConnection:
    """One kept-alive connection to a daemon."""

    def __init__(self, address: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._address = address
        self._reader = reader
        self._writer = writer

    async def call(self, request: _Request) -> tuple[int, bytes]:
        """Status and body of the answer. Raises ``OSError`` or ``EOFError`` when the connection fails."""
        self.send(request)
        response = _Response()
        parser = httptools.HttpResponseParser(response)
        while not response.complete:
            await self.feed(parser)
        return parser.get_status_code(), bytes(response.body)

    def send(self, request: _Request) -> None:
        lines = [
            f"{request.method} {request.target} HTTP/1.1",
            f"Host: {self._address}",
            f"Content-Length: {len(request.body)}",
            *(f"{name}: {value}" for name, value in request.headers.items()),
        ]
        self._writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + request.body)

    async def feed(self, parser: httptools.HttpResponseParser) -> None:
        data = await self._reader.read(65536)
        if not data:
            raise EOFError("the daemon closed the connection")
        parser.feed_data(data)

    def close(self) -> None:
        self._writer.close()


class GuestClient:
    """Calls any sandbox's daemon. ``host_key`` proves to it that the host is calling."""

    def __init__(self, host_key: Ed25519PrivateKey, port: int = ENVD_PORT) -> None:
        self._host_key = host_key
        self._port = port
        self._last_ms = 0

    @property
    def port(self) -> int:
        return self._port

    @property
    def command(self) -> tuple[str, ...]:
        """What pid 1 of every sandbox is; a snapshot remembers it, so it is the same on every host."""
        return (ENVD_PATH, "--port", str(self.port))

    @property
    def environment(self) -> dict[str, str]:
        """What pid 1 is told of this host."""
        return {HOST_KEY_VARIABLE: self.public_key}

    @property
    def snapshot_fingerprint(self) -> str:
        """What snapshots of sandboxes with this daemon say of themselves."""
        return snapshot_fingerprint(self.command)

    @property
    def public_key(self) -> str:
        """Base64; the daemons obey whoever has the other half."""
        raw = self._host_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return base64.b64encode(raw).decode()

    async def wait_healthy(self, address: str, timeout: float = 30.0) -> GuestConnection:
        """Returns when the daemon answers, with the connection it answered on, which the caller closes.

        Raises :class:`GuestUnresponsive` after ``timeout`` seconds.
        """
        try:
            async with asyncio.timeout(timeout):
                return await self._retry_health(address)
        except TimeoutError:
            raise GuestUnresponsive(
                f"the daemon at {address}:{self._port} did not answer within {timeout:g} s; try again, "
                "and see the sandbox's log if it stays so"
            ) from None

    async def init(
        self,
        address: str,
        body: Mapping[str, object],
        connection: GuestConnection | None = None,
        patience: float = CALL_TIMEOUT,
    ) -> None:
        """``POST /init``, signed. A kept ``connection`` is tried first; answered within ``patience`` s."""
        payload = json.dumps(body, separators=(",", ":")).encode()
        request = _Request("POST", "/init", {"Content-Type": "application/json"}, payload, signed=True)
        await self._expect(address, request, connection, patience)

    async def warm_up(self, address: str, cell: str) -> None:
        """Has the interpreter rehearse an execution, after ``cell`` where that is not empty."""
        body = json.dumps({"code": cell}).encode()
        request = _Request("POST", "/warm-up", {"Content-Type": "application/json"}, body)
        await self._expect(address, request, None, _WARM_UP_PATIENCE, INTERPRETER_PORT)

    async def write_file(
        self, address: str, path: str, content: bytes, connection: GuestConnection | None = None
    ) -> None:
        """Writes as root; the daemon must not have a token yet."""
        target = f"/files?path={quote(path)}&username=root"
        headers = {"Content-Type": "application/octet-stream"}
        await self._expect(address, _Request("POST", target, headers, content), connection)

    async def start_process(self, address: str, start: process.Start, user: str) -> int:
        """Starts a command that outlives the call; its pid."""
        async with self._stream(address, start, user) as events:
            async for event in events:
                if isinstance(event, process.Started):
                    return event.pid
        raise GuestUnresponsive(f"the daemon at {address} did not start {start.cmd!r}")

    async def run_process(self, address: str, start: process.Start, user: str) -> tuple[int, str]:
        """Runs a command to its end: exit code and all it printed."""
        printed = bytearray()
        async with self._stream(address, start, user) as events:
            async for event in events:
                match event:
                    case process.Output(_, data):
                        printed += data
                    case process.Ended(exit_code):
                        return exit_code, printed.decode("utf-8", "replace")
                    case _:
                        pass
        raise GuestUnresponsive(f"the daemon at {address} ended {start.cmd!r} without its exit code")

    async def connect(self, address: str, port: int | None = None) -> GuestConnection:
        reader, writer = await asyncio.open_connection(address, port or self._port)
        return GuestConnection(address, reader, writer)

    async def _retry_health(self, address: str) -> GuestConnection:
        delays = iter(_RETRY_DELAYS)
        delay = 0.001
        while True:
            try:
                async with asyncio.timeout(1.0):
                    return await self._probe(address)
            except (OSError, EOFError, TimeoutError, httptools.HttpParserError):
                delay = next(delays, delay)
            await asyncio.sleep(delay)

    async def _probe(self, address: str) -> GuestConnection:
        connection = await self.connect(address)
        try:
            status, _ = await connection.call(_Request("GET", "/health"))
            if status >= 300:
                raise EOFError(f"health is {status}")
        except BaseException:
            connection.close()
            raise
        return connection

    async def _expect(
        self,
        address: str,
        request: _Request,
        connection: GuestConnection | None,
        patience: float = CALL_TIMEOUT,
        port: int | None = None,
    ) -> bytes:
        """The answer's body. Raises :class:`GuestUnresponsive` unless it is one of success."""
        what = f"{request.method} {request.target}"
        try:
            async with asyncio.timeout(patience):
                status, answer = await self._call(address, request, connection, port)
        except (OSError, EOFError, TimeoutError, httptools.HttpParserError) as error:
            why = str(error) or type(error).__name__
            raise GuestUnresponsive(f"the daemon at {address} failed {what}: {why}") from error
        if status >= 300:
            said = answer[:200].decode("utf-8", "replace")
            raise GuestUnresponsive(f"the daemon at {address} refused {what} ({status}): {said}")
        return answer

    async def _call(
        self, address: str, request: _Request, connection: GuestConnection | None, port: int | None
    ) -> tuple[int, bytes]:
        if connection is not None:
            try:
                return await connection.call(self._sign(request))
            except (OSError, EOFError):
                connection.close()
        fresh = await self.connect(address, port)
        try:
            return await fresh.call(self._sign(request))
        finally:
            fresh.close()

    def _sign(self, request: _Request) -> _Request:
        """Anew for each attempt: the daemon takes no signature twice."""
        if not request.signed:
            return request
        self._last_ms = max(time.time_ns() // 1_000_000, self._last_ms + 1)
        signature = self._host_key.sign(
            hostauth.signing_bytes(request.method, request.target, self._last_ms, request.body)
        )
        header = {hostauth.HEADER: hostauth.encode_header(self._last_ms, signature)}
        return replace(request, headers={**request.headers, **header})

    @asynccontextmanager
    async def _stream(
        self, address: str, start: process.Start, user: str
    ) -> AsyncGenerator[AsyncIterator[process.Event]]:
        try:
            connection = await self.connect(address)
        except OSError as error:
            raise GuestUnresponsive(f"the daemon at {address} cannot be reached: {error}") from error
        try:
            basic = base64.b64encode(f"{user}:".encode()).decode()
            headers = {
                "Content-Type": connect.STREAM_CONTENT_TYPE,
                "Connect-Protocol-Version": "1",
                "Authorization": f"Basic {basic}",
            }
            body = connect.encode_envelope(process.encode_start(start))
            connection.send(_Request("POST", f"{process.SERVICE}/Start", headers, body))
            yield self._events(address, connection)
        finally:
            connection.close()

    async def _events(self, address: str, connection: GuestConnection) -> AsyncIterator[process.Event]:
        response = _Response()
        parser = httptools.HttpResponseParser(response)
        decoder = connect.EnvelopeDecoder()
        while not response.complete:
            try:
                await connection.feed(parser)
            except (OSError, EOFError, httptools.HttpParserError) as error:
                raise GuestUnresponsive(f"the daemon at {address} broke off: {error}") from error
            if response.complete and parser.get_status_code() >= 300:
                said = response.body[:200].decode("utf-8", "replace")
                raise GuestUnresponsive(f"the daemon at {address} refused the command: {said}")
            for envelope in decoder.feed(bytes(response.body)):
                if envelope.is_end:
                    if (failure := connect.parse_end(envelope.payload)) is not None:
                        raise GuestUnresponsive(f"the command failed inside the sandbox: {failure.message}")
                    return
                event = process.parse_event(envelope.payload)
                if event is not None:
                    yield event
            response.body.clear()


def init_body(
    identity: Identity, default_user: str | None = None, workdir: str | None = None
) -> dict[str, object]:
    """What ``/init`` tells a clone so that it becomes this sandbox."""
    body: dict[str, object] = {
        "envVars": dict(identity.envs),
        "accessToken": identity.access_token or "",
        "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "sandboxID": identity.sandbox_id,
        "templateID": identity.template_id,
        "buildID": identity.build_id,
        "teamID": identity.team_id,
        "hostname": identity.sandbox_id,
        "entropy": base64.b64encode(secrets.token_bytes(32)).decode(),
    }
    if default_user is not None:
        body["defaultUser"] = default_user
    if workdir is not None:
        body["defaultWorkdir"] = workdir
    return body
