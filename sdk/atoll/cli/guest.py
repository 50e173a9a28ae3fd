"""Traffic into one sandbox: executions of the interpreter, commands of the daemon.

Both go to one URL; two headers say which sandbox and port is meant.
"""

from __future__ import annotations

import base64
from collections.abc import Generator

from atoll.cli.failures import EXIT_TIMEOUT, Failure
from atoll.cli.http import httpx, told
from atoll.cli.settings import Settings
from atoll_wire import connect, executions, hosts, process
from atoll_wire.api import ACCESS_TOKEN_HEADER
from atoll_wire.connect import Code, ConnectError
from atoll_wire.values import WireError


class Guest:
    """``http`` is a client of the sandboxes' URL; ``token`` the sandbox's access token."""

    def __init__(self, settings: Settings, http: httpx.Client, sandbox_id: str, token: str | None) -> None:
        self._settings = settings
        self._http = http
        self._sandbox_id = sandbox_id
        self._token = token

    def execute(self, request: executions.Request, timeout: float) -> Generator[executions.Event]:
        """The events as they happen. ``timeout``: longest silence, seconds.

        Closing the iterator closes the connection, which interrupts the code. Raises :class:`Failure`, also
        when the stream ends before the execution does.
        """
        doing = "running the code"
        headers = self._headers(hosts.INTERPRETER_PORT) | {"Content-Type": "application/json"}
        body = executions.encode_request(request)
        limits = httpx.Timeout(timeout, connect=5.0)
        decoder = executions.LineDecoder()
        has_ended = False
        with (
            told(self._settings, doing),
            self._http.stream("POST", "/execute", content=body, headers=headers, timeout=limits) as answer,
        ):
            if answer.status_code != 200:
                raise self._refused(doing, answer.status_code, answer.read())
            try:
                for chunk in answer.iter_raw():
                    for line in decoder.feed(chunk):
                        event = executions.parse_event(line)
                        if event is not None:
                            yield event
                            has_ended = has_ended or isinstance(event, executions.End)
                if has_ended:
                    # Read to the end of the answer: the connection serves the next request, too.
                    return
            except WireError as error:
                raise self._nonsense(doing, error) from error
            except (httpx.RemoteProtocolError, httpx.ReadError) as error:
                raise self._broken(doing) from error
        raise self._broken(doing)

    def has_interpreter(self) -> bool:
        """Whether the template brings one."""
        with told(self._settings, "looking for an interpreter"):
            return self._http.get("/health", headers=self._headers(hosts.INTERPRETER_PORT)).status_code == 200

    def start(
        self, start: process.Start, user: str | None, timeout: float | None
    ) -> Generator[process.Event]:
        """A command's events. ``timeout``: seconds until the daemon kills it; ``None``: never."""
        doing = f"running {start.cmd!r}"
        headers = self._headers(hosts.ENVD_PORT, user) | {
            "Content-Type": connect.STREAM_CONTENT_TYPE,
            connect.VERSION_HEADER: "1",
            connect.KEEPALIVE_HEADER: "20",
        }
        if timeout is not None:
            headers[connect.TIMEOUT_HEADER] = str(int(timeout * 1000))
        # The daemon sends a keepalive every 20 s, so a longer silence is a dead connection.
        limits = httpx.Timeout(60.0, connect=5.0)
        body = connect.encode_envelope(process.encode_start(start))
        path = f"{process.SERVICE}/Start"
        with (
            told(self._settings, doing),
            self._http.stream("POST", path, content=body, headers=headers, timeout=limits) as answer,
        ):
            if answer.status_code != 200:
                raise self._refused(doing, answer.status_code, answer.read())
            try:
                yield from self._process_events(answer, doing)
            except WireError as error:
                raise self._nonsense(doing, error) from error
            except (httpx.RemoteProtocolError, httpx.ReadError) as error:
                raise self._broken(doing) from error

    def send_input(self, pid: int, data: bytes) -> None:
        """Raises :class:`ConnectError`."""
        self._unary("SendInput", process.encode_send_input(pid, data))

    def close_stdin(self, pid: int) -> None:
        """Raises :class:`ConnectError`."""
        self._unary("CloseStdin", process.encode_close_stdin(pid))

    def send_signal(self, pid: int, signal: process.Signal) -> None:
        """Raises :class:`ConnectError`."""
        self._unary("SendSignal", process.encode_send_signal(pid, signal))

    def _process_events(self, answer: httpx.Response, doing: str) -> Generator[process.Event]:
        decoder = connect.EnvelopeDecoder()
        for chunk in answer.iter_raw():
            for envelope in decoder.feed(chunk):
                if envelope.is_end:
                    error = connect.parse_end(envelope.payload)
                    if error is not None:
                        raise self._failed(doing, error)
                    return
                event = process.parse_event(envelope.payload)
                if event is not None:
                    yield event
        raise self._broken(doing)

    def _unary(self, method: str, body: bytes) -> None:
        headers = self._headers(hosts.ENVD_PORT) | {
            "Content-Type": connect.UNARY_CONTENT_TYPE,
            connect.VERSION_HEADER: "1",
        }
        with told(self._settings, method):
            answer = self._http.post(f"{process.SERVICE}/{method}", content=body, headers=headers)
        if answer.status_code != 200:
            raise connect.parse_error(answer.status_code, answer.content)

    def _headers(self, port: int, user: str | None = None) -> dict[str, str]:
        headers = {hosts.SANDBOX_ID_HEADER: self._sandbox_id, hosts.SANDBOX_PORT_HEADER: str(port)}
        if self._token is not None:
            headers[ACCESS_TOKEN_HEADER] = self._token
        if user is not None:
            headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:".encode()).decode()
        return headers

    def _refused(self, doing: str, status: int, body: bytes) -> Failure:
        error = connect.parse_error(status, body)
        if status == 502 and "port is not open" in error.message:
            return Failure(
                f"{doing}: nothing in the sandbox listens for it",
                why=error.message,
                hint="for code, use a template with the interpreter, such as code-interpreter-v1",
            )
        return self._failed(doing, error)

    def _failed(self, doing: str, error: ConnectError) -> Failure:
        if "was not found" in error.message and error.code is Code.UNAVAILABLE:
            return self._gone(doing, error.message)
        hints = {
            Code.DEADLINE_EXCEEDED: "give it more time with --timeout",
            Code.UNAUTHENTICATED: "check the user's name, and that the sandbox was made with this key",
            Code.INVALID_ARGUMENT: "correct the command's options",
        }
        hint = hints.get(error.code, f"`./atoll sandbox info {self._sandbox_id}` tells how the sandbox is")
        code = EXIT_TIMEOUT if error.code is Code.DEADLINE_EXCEEDED else 1
        return Failure(
            f"{doing}: {error.message}", why=f"the sandbox said {error.code}", hint=hint, exit_code=code
        )

    def _gone(self, doing: str, why: str) -> Failure:
        hint = "start it again; give it more time with --timeout if its time was over"
        return Failure(f"{doing}: the sandbox {self._sandbox_id} runs no more", why=why, hint=hint)

    def _broken(self, doing: str) -> Failure:
        return Failure(
            f"{doing}: the connection to the sandbox broke off before it was done",
            why="the sandbox ended (killed, out of time or out of memory), or the server did",
            hint=f"`./atoll sandbox info {self._sandbox_id}` tells whether it still runs; then try again",
        )

    def _nonsense(self, doing: str, error: WireError) -> Failure:
        return Failure(
            f"{doing}: the sandbox's answer makes no sense",
            why=str(error),
            hint="check that the template is one of this server; `./atoll setup` rebuilds its own",
        )
