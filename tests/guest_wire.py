"""A client of the daemon inside a sandbox that hides nothing: what is sent and what comes back."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from e2b import Sandbox

from atoll_wire import connect
from atoll_wire.api import ACCESS_TOKEN_HEADER
from atoll_wire.hosts import ENVD_PORT, SANDBOX_ID_HEADER, SANDBOX_PORT_HEADER
from server_process import ServerProcess

Message = dict[str, Any]


@dataclass
class Run:
    """A command that has ended. ``end`` is its end event; ``error`` what the stream failed with, if so."""

    stdout: bytes = b""
    stderr: bytes = b""
    pty: bytes = b""
    pid: int = 0
    end: Message = field(default_factory=dict)
    error: connect.ConnectError | None = None
    start: Message = field(default_factory=dict)

    @property
    def text(self) -> str:
        return self.stdout.decode()


class Wire:
    """``headers`` say which sandbox is meant and prove that we may."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self.http = httpx.Client(base_url=url, headers=dict(headers), timeout=60, trust_env=False)

    def call(self, method: str, message: Message, user: str | None = None) -> tuple[int, Message]:
        """``method``: ``process.Process/List``."""
        headers = {**_basic(user), "Content-Type": "application/json"}
        answer = self.http.post(f"/{method}", content=json.dumps(message).encode(), headers=headers)
        return answer.status_code, answer.json()

    @contextmanager
    def stream(
        self, method: str, message: Message, user: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[Iterator[Message]]:
        """Its messages; a failed stream's last one is ``{"failure": ConnectError}``."""
        sent = {**_basic(user), "Content-Type": "application/connect+json", **(headers or {})}
        body = connect.encode_envelope(json.dumps(message).encode())
        with self.http.stream("POST", f"/{method}", content=body, headers=sent) as answer:
            assert answer.status_code == 200, answer.read()
            yield _messages(answer)

    def run(self, cmd: str, *args: str, user: str | None = None, **more: Any) -> Run:
        """``more``: envs, cwd, timeout_ms, and fields of StartRequest."""
        headers = {"Connect-Timeout-Ms": str(more.pop("timeout_ms", 60_000))}
        config = {key: more.pop(key) for key in ("envs", "cwd") if key in more}
        message = {"process": {"cmd": cmd, "args": list(args), **config}, "stdin": False, **more}
        with self.stream("process.Process/Start", message, user, headers) as messages:
            return collect(messages)

    def sh(self, script: str, user: str | None = None, **more: Any) -> Run:
        return self.run("/bin/sh", "-c", script, user=user, **more)

    def write(self, path: str, content: bytes, **query: str) -> httpx.Response:
        headers = {"Content-Type": "application/octet-stream"}
        return self.http.post("/files", params={"path": path, **query}, content=content, headers=headers)

    def read(self, path: str, headers: Mapping[str, str] | None = None, **query: str) -> httpx.Response:
        return self.http.get("/files", params={"path": path, **query}, headers=headers)


@contextmanager
def through_the_door(atoll: ServerProcess, timeout: int = 600) -> Iterator[Wire]:
    """To a new sandbox of `base`, by the server's port."""
    with atoll.serves_sdks():
        sandbox = Sandbox.create("base", timeout=timeout)
        token = sandbox._envd_access_token
        headers = {SANDBOX_ID_HEADER: sandbox.sandbox_id, SANDBOX_PORT_HEADER: str(ENVD_PORT)}
        try:
            yield Wire(atoll.url, headers | ({ACCESS_TOKEN_HEADER: token} if token else {}))
        finally:
            sandbox.kill()


def collect(messages: Iterator[Message]) -> Run:
    run = Run()
    for message in messages:
        if "failure" in message:
            run.error = message["failure"]
        event = message.get("event", {})
        if "start" in event:
            run.start, run.pid = event["start"], event["start"]["pid"]
        for stream, data in event.get("data", {}).items():
            setattr(run, stream, getattr(run, stream) + base64.b64decode(data))
        run.end = event.get("end", run.end)
    return run


def _messages(answer: httpx.Response) -> Iterator[Message]:
    decoder = connect.EnvelopeDecoder()
    for piece in answer.iter_raw():
        for envelope in decoder.feed(piece):
            if not envelope.is_end:
                yield json.loads(envelope.payload)
            elif failure := connect.parse_end(envelope.payload):
                yield {"failure": failure}


def _basic(user: str | None) -> dict[str, str]:
    if user is None:
        return {}
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:".encode()).decode()}
