"""The application: middleware around the routes."""

from __future__ import annotations

from prometheus_client import generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from atolld.api.answers import HANDLERS, nothing
from atolld.api.edges import BodyLimit, RawPath
from atolld.api.sandboxes import SandboxRoutes
from atolld.api.snapshots import SnapshotRoutes
from atolld.control.keys import Keys
from atolld.control.sandboxes import Sandboxes
from atolld.control.templates import Templates
from atolld.model.errors import Forbidden
from atolld.model.team import LOCAL_TEAM
from atolld.telemetry import REGISTRY

LARGEST_BODY = 4 * 1024 * 1024

_ALLOWED_HEADERS = (
    "Origin",
    "Content-Length",
    "Content-Type",
    "User-Agent",
    "Authorization",
    "X-API-Key",
    "X-Team-ID",
    "Idempotency-Key",
    "browser",
    "lang",
    "lang_version",
    "machine",
    "os",
    "package_version",
    "processor",
    "publisher",
    "release",
    "sdk_runtime",
    "system",
)
_EXPOSED_HEADERS = (
    "X-Next-Token",
    "X-Total-Running",
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "Retry-After",
)


def build_app(
    *, sandboxes: Sandboxes, templates: Templates, keys: Keys, domain: str, https_domain: str | None = None
) -> ASGIApp:
    """``domain``: what sandboxes' public names end with, told in each answer; ``https_domain`` is told to who
    asks by the name ``api.<https_domain>``."""
    app = Starlette(
        routes=[
            Route("/health", _health, methods=["GET"]),
            Route("/metrics", _Metrics(keys).get, methods=["GET"]),
            *SandboxRoutes(sandboxes, templates, keys, domain, https_domain).routes(),
            *SnapshotRoutes(sandboxes, keys).routes(),
        ],
        exception_handlers={kind: HANDLERS[kind] for kind in HANDLERS if kind is not Exception},
        middleware=[
            Middleware(
                CORSMiddleware,
                allow_origins=["*"],
                allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
                allow_headers=_ALLOWED_HEADERS,
                expose_headers=_EXPOSED_HEADERS,
            ),
            # For what is raised by a middleware, and for what nobody expected.
            Middleware(ExceptionMiddleware, handlers=HANDLERS),
            Middleware(BodyLimit, largest=LARGEST_BODY),
        ],
    )
    app.router.redirect_slashes = False
    return RawPath(app)


async def _health(_request: Request) -> Response:
    return nothing()


class _Metrics:
    """Counters for Prometheus: for the operator's key only, since they tell of all teams."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def get(self, request: Request) -> Response:
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        team = await self._keys.authenticate(request.headers.get("X-API-Key") or bearer)
        if team.slug != LOCAL_TEAM:
            raise Forbidden("The counters are for the operator of this machine: use the operator's key")
        return Response(generate_latest(REGISTRY), media_type="text/plain; version=0.0.4")
