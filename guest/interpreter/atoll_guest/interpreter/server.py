"""The routes of port 49999: `/health`, `/execute`, `/contexts`; their checks and exact error texts.

Error bodies are plain text, as the published SDKs expect.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any, cast

from . import languages, messages
from .context import CellFailed, Context
from .contexts import ContextFailed, ContextNotFound, Contexts
from .execution import Call
from .http import Reply, Request
from .limits import Limits, RateGuard

KEEPALIVE_SECONDS = 5.0
_CORS = ("Origin", "Methods", "Headers")
EXTRA_HEADERS = "".join(f"Access-Control-Allow-{what}: *\r\n" for what in _CORS).encode()
_JSON = "application/json"
_EVENTS = "application/x-ndjson"
_TEXT = "text/plain; charset=utf-8"


class Refusal(Exception):
    """An answer that is an error: `status` and plain text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Server:
    """`handle` is the handler of `http.serve`."""

    def __init__(self, contexts: Contexts, limits: Limits | None = None) -> None:
        self._contexts = contexts
        self._limits = limits or Limits()

    async def handle(self, request: Request, reply: Reply) -> None:
        try:
            await self._route(request, reply)
        except Refusal as refusal:
            await reply.respond(refusal.status, refusal.text.encode(), _TEXT)

    async def _route(self, request: Request, reply: Reply) -> None:
        parts = [part for part in request.path.split("/") if part]
        match (request.method, parts):
            case ("OPTIONS", _):
                await reply.respond(200, b"", _TEXT)
            case ("GET", ["health"]):
                await _answer(reply, "OK")
            case ("POST", ["execute"]):
                await self._execute(request, reply)
            case ("GET", ["contexts"]):
                await _answer(reply, [asdict(info) for info in self._contexts.list()])
            case ("POST", ["contexts"]):
                await self._create(request, reply)
            case ("POST", ["warm-up"]):
                await self._warm_up(request, reply)
            case ("POST", ["contexts", context_id, "restart"]):
                await self._change(reply, context_id, self._contexts.restart, "restart")
            case ("DELETE", ["contexts", context_id]):
                await self._change(reply, context_id, self._contexts.remove, "remove")
            case (_, ["health" | "execute" | "warm-up" | "contexts"]):
                raise _wrong_method(request)
            case (_, ["contexts", _] | ["contexts", _, "restart"]):
                raise _wrong_method(request)
            case _:
                raise Refusal(404, f"No such route: {request.method} {request.path}")

    # --- contexts

    async def _create(self, request: Request, reply: Reply) -> None:
        body = _parse_object(request.body or b"{}")
        language = languages.normalise(_optional_text(body, "language"))
        try:
            context = await self._contexts.create(language, _optional_text(body, "cwd"))
        except ContextFailed as error:
            raise Refusal(500, f"Failed to create context: {error}") from error
        await _answer(reply, asdict(context.info))

    async def _change(
        self, reply: Reply, context_id: str, change: Callable[[str], Awaitable[None]], verb: str
    ) -> None:
        try:
            await change(context_id)
        except ContextNotFound:
            raise Refusal(404, f"Context {context_id} not found") from None
        except ContextFailed as error:
            raise Refusal(500, f"Failed to {verb} context {context_id}: {error}") from error
        await _answer(reply, None)

    async def _warm_up(self, request: Request, reply: Reply) -> None:
        """For the host, in a restored sandbox that nobody has yet; `code`: a cell of the template. The answer
        is what a client's executions would be told, so that this way is trodden too.
        """
        cell = _optional_text(_parse_object(request.body or b"{}"), "code")
        try:
            if cell:
                await self._contexts.run_cell(cell)
        except (ContextFailed, CellFailed) as error:
            raise Refusal(500, f"Failed to warm up: {error}") from error
        reply.begin(200, _EVENTS)
        with _Keepalive(reply, None) as keepalive:
            await self._contexts.warm_up(keepalive.emit)
        await reply.end()

    # --- execute

    async def _execute(self, request: Request, reply: Reply) -> None:
        body = _parse_object(request.body)
        call = parse_call(body, request.headers)
        context = await self._choose(_optional_text(body, "context_id"), _optional_text(body, "language"))
        reply.begin(200, _EVENTS)
        with _Keepalive(reply, self._limits.output_rate) as keepalive:
            await context.execute(call, keepalive.emit)
        await reply.end()

    async def _choose(self, context_id: str | None, language: str | None) -> Context:
        if context_id and language:
            raise Refusal(400, "Only one of context_id or language can be provided")
        try:
            if context_id:
                return self._contexts.get(context_id)
            return await self._contexts.default(languages.normalise(language))
        except ContextNotFound:
            raise Refusal(404, f"Context {context_id} not found") from None
        except ContextFailed as error:
            raise Refusal(500, f"Failed to create context: {error}") from error


def _wrong_method(request: Request) -> Refusal:
    return Refusal(405, f"Method {request.method} is not allowed for {request.path}")


class _Keepalive:
    """Writes events as lines, and a keepalive line after each silence of KEEPALIVE_SECONDS."""

    def __init__(self, reply: Reply, output_rate: float | None) -> None:
        self._reply = reply
        self._loop = asyncio.get_running_loop()
        self._guard = RateGuard(output_rate, self._loop.time())
        self._last = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._write: asyncio.Task[None] | None = None

    def __enter__(self) -> "_Keepalive":
        self._timer = self._loop.call_later(KEEPALIVE_SECONDS, self._check)
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._write is not None:
            self._write.cancel()

    async def emit(self, event: messages.Event) -> None:
        self._last = self._loop.time()
        for admitted in self._guard.admit(event, self._last):
            is_patient = admitted["type"] == "number_of_executions"
            await self._reply.write(messages.encode_line(admitted), is_patient=is_patient)

    def _check(self) -> None:
        due = self._last + KEEPALIVE_SECONDS
        if self._loop.time() >= due:
            due = self._loop.time() + KEEPALIVE_SECONDS
            self._last = self._loop.time()
            self._write = self._loop.create_task(self._reply.write(messages.encode_line(messages.KEEPALIVE)))
        self._timer = self._loop.call_at(due, self._check)


def parse_call(body: Mapping[str, Any], headers: Mapping[str, str]) -> Call:
    """Raises Refusal 400."""
    code = body.get("code")
    if not isinstance(code, str):
        raise Refusal(400, "The field code is missing or no string")
    return Call(code, _parse_env_vars(body.get("env_vars")), headers.get("x-access-token"))


def _parse_env_vars(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refusal(400, "The field env_vars must be an object of strings")
    variables: dict[str, str] = {}
    for name, text in cast("dict[str, object]", value).items():
        if not isinstance(text, str) or "\0" in name + text or not name or "=" in name:
            raise Refusal(
                400, f"The environment variable {name!r} must have a plain name and a string as value"
            )
        variables[name] = text
    return variables


def _parse_object(body: bytes) -> dict[str, Any]:
    try:
        document: object = json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal(400, "The body is no JSON") from None
    if not isinstance(document, dict):
        raise Refusal(400, "The body must be a JSON object")
    return cast("dict[str, Any]", document)


def _optional_text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise Refusal(400, f"The field {name} must be a string")
    return value


async def _answer(reply: Reply, value: object) -> None:
    await reply.respond(200, json.dumps(value, separators=(",", ":")).encode(), _JSON)
