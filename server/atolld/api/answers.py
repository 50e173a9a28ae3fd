"""Answers: JSON bodies and the one shape of errors.

Clients read the integer ``code`` and the ``message`` of the body on every error, whatever its status; a
missing one crashes them. Some repeat a request on 429, 502, 503 and 504 unless told not to (Should-Retry).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from atolld.api.schema import ErrorBody, encode_ended
from atolld.control.ended import SandboxOver
from atolld.model.errors import AtollError, CapacityUnavailable, HostError, InvalidRequest, NotFound, TooMany

_log = structlog.get_logger(__name__)
_encoder = msgspec.json.Encoder()

_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_RETRY_AFTER_SECONDS = "1"


def answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(_encoder.encode(body), status, headers, "application/json")


def nothing() -> Response:
    return Response(status_code=204)


def _error(code: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return answer(ErrorBody(code, message), code, headers)


async def answer_atoll_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AtollError)
    if error.code >= 500:
        _log.warning("api.request.failed", method=request.method, path=request.url.path, error=error.message)
    ended = encode_ended(error.end) if isinstance(error, SandboxOver) else None
    body = ErrorBody(error.code, error.message, error.error_code, ended)
    return answer(body, error.code, _retry_headers(request.method, error))


def _retry_headers(method: str, error: AtollError) -> dict[str, str]:
    if isinstance(error, CapacityUnavailable):
        return {"Retry-After": _RETRY_AFTER_SECONDS}  # nothing was begun, so repeating it is right
    if isinstance(error, TooMany) or (error.code >= 500 and method not in _IDEMPOTENT):
        return {"Should-Retry": "false"}
    return {}


async def answer_bad_body(request: Request, error: Exception) -> Response:
    """What msgspec says names the field and both types: ``Expected `int`, got `str` - at `$.timeout```."""
    return await answer_atoll_error(request, InvalidRequest(f"Invalid request body: {error}"))


async def answer_http_error(request: Request, error: Exception) -> Response:
    """The router's own: no such route, not with this method, body too large."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return await answer_atoll_error(
            request, NotFound(f"No route {request.method} {request.url.path[:200]}: see spec/openapi.yaml")
        )
    return _error(error.status_code, error.detail, error.headers)


async def answer_disconnect(request: Request, error: Exception) -> Response:
    return _error(400, "The client left before the body was complete")


async def answer_surprise(request: Request, error: Exception) -> Response:
    _log.error("api.request.crashed", method=request.method, path=request.url.path, exc_info=error)
    return await answer_atoll_error(
        request, HostError("Internal error; the server's log has more", error_code="internal_server_error")
    )


HANDLERS: Mapping[Any, Any] = {
    AtollError: answer_atoll_error,
    msgspec.DecodeError: answer_bad_body,
    HTTPException: answer_http_error,
    ClientDisconnect: answer_disconnect,
    Exception: answer_surprise,
}
