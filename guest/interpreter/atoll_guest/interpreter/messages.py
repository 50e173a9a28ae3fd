"""Jupyter message → the events of `POST /execute` → lines. Pure: no clock, no I/O.

Sources: the Jupyter messaging protocol for what comes in; the interpreter's wire sheet for what goes out
(field names, the stripped quotes of `text`, the traceback joined without separator and without colours).
"""

import json
import re
from collections.abc import Mapping
from typing import Any, cast

from . import figures, languages
from .jupyter import Message

Event = dict[str, Any]
MIB = 1 << 20

FIELDS = {
    "text/plain": "text",
    "text/html": "html",
    "text/markdown": "markdown",
    "image/svg+xml": "svg",
    "image/png": "png",
    "image/jpeg": "jpeg",
    "application/pdf": "pdf",
    "text/latex": "latex",
    "application/json": "json",
    "application/javascript": "javascript",
    "e2b/data": "data",
    "e2b/chart": "chart",
}
"""MIME type → field of a result; every other MIME type goes into `extra`."""

_BASE64 = frozenset(("image/png", "image/jpeg", "application/pdf"))
_NOTHING: Mapping[str, Any] = {}
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")

KEEPALIVE: Event = {"type": "keepalive"}
END: Event = {"type": "end_of_execution"}


def encode_line(event: Event) -> bytes:
    """One line of the answer. ASCII only: clients split lines at U+2028 and the like, too."""
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"


def too_large(size: int, limit: int) -> Event:
    return error(
        "ResultTooLarge",
        f"a result of {size / MIB:.1f} MiB is over the limit of {limit / MIB:g} MiB and was not sent; "
        "write it to a file and download that, or raise the service's ATOLL_MAX_RESULT_MIB",
    )


def to_events(message: Message, limit: int = 0, language: str = "python") -> list[Event]:
    """The events that one message on the output channel stands for; [] for those a client does not see.
    `limit` is named where a content was too large to take; `language` is the kernel's.
    """
    if message.oversized:
        return [too_large(message.oversized, limit)]
    content = message.content
    match message.kind:
        case "stream":
            return [_stream(content, message.date)]
        case "execute_result":
            return [_result(content, is_main=True)]
        case "display_data" | "update_display_data":
            return [_result(content, is_main=False)]
        case "clear_output":
            return [{"type": "clear_output", "wait": bool(content.get("wait"))}]
        case "execute_input":
            return [{"type": "number_of_executions", "execution_count": content.get("execution_count") or 0}]
        case "error":
            return [to_error(content, language)]
        case _:
            return []


def to_error(content: Mapping[str, Any], language: str = "python") -> Event:
    """The error event of an `error` message or of an `execute_reply` whose status is error."""
    lines: list[Any] = content.get("traceback") or []
    name, value = str(content.get("ename") or "Error"), str(content.get("evalue") or "")
    traceback = languages.read_traceback(language, [str(line) for line in lines])
    return error(*map(strip_ansi, (name, value, traceback)))


def error(name: str, value: str, traceback: str = "") -> Event:
    return {"type": "error", "name": name, "value": value, "traceback": traceback}


def pages(reply: Mapping[str, Any]) -> list[Event]:
    """The help pages of an `execute_reply` (`name?` in IPython): a notebook shows them, so they are
    results.
    """
    payloads: list[Mapping[str, Any]] = reply.get("payload") or []
    return [_result(payload, is_main=False) for payload in payloads if payload.get("source") == "page"]


def stream(name: str, text: str, date: str) -> Event:
    return {"type": name, "text": text, "timestamp": date}


def _stream(content: Mapping[str, Any], date: str) -> Event:
    name = "stderr" if content.get("name") == "stderr" else "stdout"
    return stream(name, str(content.get("text", "")), date)


def _result(content: Mapping[str, Any], *, is_main: bool) -> Event:
    event: Event = {"type": "result", "is_main_result": is_main}
    extra: dict[str, Any] = {}
    for mime, value in (content.get("data") or _NOTHING).items():
        if value is None:
            continue
        if mime in FIELDS:
            event[FIELDS[mime]] = _field(mime, value)
        else:
            extra[mime] = value
    if extra and "chart" not in event:
        chart = figures.chart_in(extra)
        if chart is not None:
            event["chart"] = chart
    event["extra"] = extra
    display_id = (content.get("transient") or _NOTHING).get("display_id")
    if display_id:
        event["display_id"] = display_id
    return event


def _field(mime: str, value: Any) -> Any:
    if isinstance(value, list) and mime not in ("application/json", "e2b/data", "e2b/chart"):
        value = "".join(
            str(line) for line in cast("list[Any]", value)
        )  # nbformat's way to write multi-line text
    if mime == "text/plain":
        return strip_quotes(str(cast("Any", value)))
    if mime in _BASE64:
        return str(cast("Any", value)).replace("\n", "").strip()
    if mime == "application/json" and isinstance(value, str):
        return _parsed(value)
    return cast("Any", value)


def _parsed(text: str) -> Any:
    """Kernels whose language has no JSON values (R, Java) send the document as text."""
    try:
        document: Any = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return cast("Any", document) if isinstance(document, (dict, list)) else text


def strip_quotes(text: str) -> str:
    """Without the quotes of a string's repr, once."""
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text


def strip_ansi(text: str) -> str:
    return _ANSI.sub("", text)
