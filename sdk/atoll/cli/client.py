"""The control API, as far as the command line uses it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self, TypeVar
from urllib.parse import quote

from atoll.cli.failures import Failure
from atoll.cli.http import httpx, open_http, refused, told
from atoll.cli.settings import Settings
from atoll_wire import api
from atoll_wire.api import Ended, NewSandbox, Sandbox, SandboxInfo
from atoll_wire.values import WireError

T = TypeVar("T")

HEALTH_TIMEOUT = 2.0
START_HEADER = "Atoll-Start"
"""On a create, for measurements; see :data:`Start`."""
Start = Literal["warm", "cold", "bare"]
"""What a create may use of what was kept ahead: all, blanks only, nothing."""


@dataclass(frozen=True, slots=True)
class Created:
    """``timings_ms``: the server's parts of the create (`Server-Timing`), empty when it tells none."""

    sandbox: Sandbox
    timings_ms: Mapping[str, float]


class Client:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.http = open_http(settings.url)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.close()

    def is_healthy(self) -> bool:
        """Whether a server answers at all; needs no key."""
        try:
            return self.http.get("/health", timeout=HEALTH_TIMEOUT).status_code in (200, 204)
        except httpx.HTTPError:
            return False

    def create(self, new: NewSandbox, start: Start = "warm") -> Created:
        headers = {} if start == "warm" else {START_HEADER: start}
        doing = f"creating a sandbox of the template {new.template!r}"
        answer = self._call(doing, "POST", "/v2/sandboxes", api.encode_new_sandbox(new), headers)
        return Created(_read(doing, answer, api.parse_sandbox), parse_server_timing(answer.headers))

    def get(self, sandbox_id: str) -> SandboxInfo:
        doing = f"looking up the sandbox {sandbox_id!r}"
        answer = self._call(doing, "GET", f"/sandboxes/{quote(sandbox_id, safe='')}")
        return _read(doing, answer, api.parse_sandbox_info)

    def look_up(self, sandbox_id: str) -> SandboxInfo | Ended:
        """As :meth:`get`, but one that is over is told as such for some days."""
        doing = f"looking up the sandbox {sandbox_id!r}"
        answer = self._call(doing, "GET", f"/sandboxes/{quote(sandbox_id, safe='')}", accept=(404,))
        if answer.status_code != 404:
            return _read(doing, answer, api.parse_sandbox_info)
        ended = api.parse_api_error(404, answer.content).ended
        if ended is None:
            raise refused(self.settings, doing, 404, answer.content)
        return ended

    def roll_back(self, sandbox_id: str, snapshot_id: str) -> Created:
        doing = f"rolling the sandbox {sandbox_id!r} back to {snapshot_id!r}"
        path = f"/sandboxes/{quote(sandbox_id, safe='')}/rollback"
        answer = self._call(doing, "POST", path, api.encode_rollback(snapshot_id))
        return Created(_read(doing, answer, api.parse_sandbox), parse_server_timing(answer.headers))

    def kill(self, sandbox_id: str) -> bool:
        """Whether it existed."""
        doing = f"killing the sandbox {sandbox_id!r}"
        path = f"/sandboxes/{quote(sandbox_id, safe='')}"
        return self._call(doing, "DELETE", path, accept=(404,)).status_code != 404

    def act(self, sandbox_id: str, what: str, fields: Mapping[str, object]) -> httpx.Response:
        """``POST /sandboxes/{id}/{what}``: pause, connect, fork, snapshots."""
        path = f"/sandboxes/{quote(sandbox_id, safe='')}/{what}"
        return self._call(f"{what} of the sandbox {sandbox_id!r}", "POST", path, json.dumps(fields).encode())

    def list_sandboxes(self, query: Mapping[str, str], limit: int) -> Iterator[SandboxInfo]:
        """At most ``limit``, page by page. ``query`` as the API's."""
        doing = "listing the sandboxes"
        token = ""
        while limit > 0:
            page = {**query, "limit": str(min(limit, 100))} | ({"nextToken": token} if token else {})
            answer = self._call(doing, "GET", "/v2/sandboxes?" + str(httpx.QueryParams(page)))
            sandboxes = _read(doing, answer, api.parse_sandbox_list)[:limit]
            yield from sandboxes
            limit -= len(sandboxes)
            token = answer.headers.get(api.NEXT_TOKEN_HEADER, "")
            if not token or not sandboxes:
                return

    def _call(
        self,
        doing: str,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        accept: tuple[int, ...] = (),
    ) -> httpx.Response:
        sent = {api.API_KEY_HEADER: self.settings.key(), **(headers or {})}
        if body is not None:
            sent["Content-Type"] = "application/json"
        with told(self.settings, doing):
            answer = self.http.request(method, path, content=body, headers=sent)
        if answer.status_code >= 300 and answer.status_code not in accept:
            raise refused(self.settings, doing, answer.status_code, answer.content)
        return answer


def parse_server_timing(headers: Mapping[str, str]) -> dict[str, float]:
    """``name;dur=1.5, …`` of the `Server-Timing` header (W3C), milliseconds; the unreadable is left out."""
    timings: dict[str, float] = {}
    for item in headers.get("Server-Timing", "").split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            try:
                if key == "dur":
                    timings[name] = float(value)
            except ValueError:
                continue
    return timings


def _read(doing: str, answer: httpx.Response, parse: Callable[[bytes], T]) -> T:
    try:
        return parse(answer.content)
    except WireError as error:
        raise Failure(
            f"{doing}: the answer makes no sense",
            why=str(error),
            hint=f"check that {answer.url.copy_with(path='/')} is an Atoll or E2B server",
        ) from error
