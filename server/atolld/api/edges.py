"""What a request passes before the routes see it."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class RawPath:
    """Routes on the path as it was sent: a ``%2F`` belongs to its segment, and separates nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "path": scope["raw_path"].decode("latin-1")}
        await self._app(scope, receive, send)


class BodyLimit:
    """Refuses a body of more than ``largest`` bytes: before it is read where its length is told, else as soon
    as it is too long. The connection is closed then: the rest of the body is on its way still."""

    def __init__(self, app: ASGIApp, largest: int) -> None:
        self._app = app
        self._largest = largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        told = Headers(scope=scope).get("content-length", "")
        if told.isdecimal() and int(told) > self._largest:
            raise self._too_large()
        taken = 0

        async def receive_some() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._largest:
                raise self._too_large()
            return message

        await self._app(scope, receive_some, send)

    def _too_large(self) -> HTTPException:
        message = f"Request body too large: at most {self._largest} bytes"
        return HTTPException(413, message, {"Connection": "close"})
