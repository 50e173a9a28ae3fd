"""What the door answers itself. Clients look for these statuses and for words in these messages (`spec/`):
the published Python SDK tells a stopped sandbox from a closed port by ``was not found`` and ``port is not
open``. Pure."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from http import HTTPStatus

from atolld.proxy.heads import RequestHead

TRAFFIC_TOKEN_HEADER = "e2b-traffic-access-token"  # noqa: S105 (the header's name)
_SECURED = "Sandbox is secured with traffic access token. "

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{status} {reason}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 40rem; margin: 15vh auto; padding: 0 1rem }}
code {{ background: #f2f2f2; padding: .1em .3em }}
</style></head><body><h1>{message}</h1><p>{details}</p></body></html>
"""


@dataclass(frozen=True, slots=True)
class Refusal:
    """``text``: the body is the bare message, as clients of these errors expect, instead of JSON."""

    status: int
    message: str
    sandbox_id: str | None = None
    port: int | None = None
    text: bool = False


class Refused(Exception):
    """Ends an exchange of which the client has seen nothing yet."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def sandbox_not_found(sandbox_id: str) -> Refusal:
    return Refusal(502, "The sandbox was not found", sandbox_id)


def port_closed(sandbox_id: str, port: int) -> Refusal:
    return Refusal(502, "The sandbox is running but port is not open", sandbox_id, port)


def service_failed(sandbox_id: str, port: int, what: str) -> Refusal:
    return Refusal(502, f"The service in the sandbox {what}", sandbox_id, port)


def reserved_path(sandbox_id: str) -> Refusal:
    return Refusal(404, "This route of the sandbox's daemon is for its host only", sandbox_id)


def token_missing(sandbox_id: str) -> Refusal:
    return Refusal(403, f"{_SECURED}Token header '{TRAFFIC_TOKEN_HEADER}' is missing", sandbox_id)


def token_invalid(sandbox_id: str) -> Refusal:
    return Refusal(403, f"{_SECURED}Provided token in header '{TRAFFIC_TOKEN_HEADER}' is invalid", sandbox_id)


def may_not_wake(sandbox_id: str) -> Refusal:
    return Refusal(
        403,
        "The sandbox is paused, and this request has no valid credentials to resume it. Send the access "
        "token in the header 'X-Access-Token', or connect to the sandbox first",
        sandbox_id,
    )


def not_woken(sandbox_id: str) -> Refusal:
    return Refusal(500, "The server failed to resume the sandbox; its log says why", sandbox_id)


API_DOWN = Refusal(503, "The control API is starting or stopping. Try again in a moment")
BUSY = Refusal(503, "The server has no connection to spare. Raise its limit of open files (ulimit -n)")
STALLED = Refusal(408, "The request's head did not arrive in time", text=True)
HEAD_TOO_LARGE = Refusal(431, "The request's headers are larger than 64 KiB", text=True)
BAD_BODY = Refusal(400, "The request's body is not framed as its headers say", text=True)


def encode_refusal(refusal: Refusal, head: RequestHead | None, *, close: bool) -> bytes:
    """The whole response to ``head`` (``None``: it could not be read)."""
    kind, body = _body(refusal, browser=head is not None and head.is_browser)
    lines = [
        f"HTTP/1.1 {refusal.status} {_reason(refusal.status)}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        *(["Connection: close"] if close else []),
    ]
    start = ("\r\n".join(lines) + "\r\n\r\n").encode()
    return start if head is not None and head.method == b"HEAD" else start + body


def _body(refusal: Refusal, *, browser: bool) -> tuple[str, bytes]:
    if browser:
        return "text/html; charset=utf-8", _page(refusal).encode()
    if refusal.text:
        return "text/plain; charset=utf-8", refusal.message.encode()
    fields: dict[str, str | int] = {} if refusal.sandbox_id is None else {"sandboxId": refusal.sandbox_id}
    fields["message"] = refusal.message
    if refusal.port is not None:
        fields["port"] = refusal.port
    fields["code"] = refusal.status
    return "application/json; charset=utf-8", json.dumps(fields, separators=(",", ":")).encode()


def _page(refusal: Refusal) -> str:
    details = [f"Status <code>{refusal.status}</code>"]
    if refusal.sandbox_id is not None:
        details.append(f"sandbox <code>{html.escape(refusal.sandbox_id)}</code>")
    if refusal.port is not None:
        details.append(f"port <code>{refusal.port}</code>")
    return _PAGE.format(
        status=refusal.status,
        reason=_reason(refusal.status),
        message=html.escape(refusal.message),
        details=", ".join(details),
    )


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
