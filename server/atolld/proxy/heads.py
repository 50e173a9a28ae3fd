"""Request and response heads, parsed once and strictly (RFC 9112); whatever two parsers could read in two
ways is refused here, so that no request hides inside another. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import httptools

Headers = list[tuple[bytes, bytes]]

_ABSOLUTE = re.compile(rb"https?://([^/?#@]*)([/?].*)?", re.IGNORECASE)
_VERSIONS = ("1.0", "1.1")


class BadHead(Exception):
    """A head that no one may act upon; ``status`` is what its sender is told."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(slots=True)
class _Head:
    version: str
    headers: Headers

    def values(self, name: bytes) -> list[bytes]:
        """Of the header ``name`` (lower case), in order of appearance."""
        return [value for key, value in self.headers if key.lower() == name]

    def tokens(self, name: bytes) -> frozenset[bytes]:
        """The members, in lower case, of a header that is a list of words."""
        listed = b",".join(self.values(name)).split(b",")
        return frozenset(word for part in listed if (word := part.strip().lower()))

    @property
    def keep_alive(self) -> bool:
        """Connections of HTTP/1.0 are never kept: their keep-alive differs from server to server."""
        return self.version == "1.1" and b"close" not in self.tokens(b"connection")


@dataclass(slots=True)
class RequestHead(_Head):
    """``target`` is in origin form (or ``*``), ``host`` what the request is for, port included."""

    method: bytes
    target: bytes
    host: bytes

    @property
    def is_browser(self) -> bool:
        """Whether a person looks at the answer."""
        accept, agent = self.values(b"accept"), self.values(b"user-agent")
        return b"text/html" in b",".join(accept) and b"Mozilla/" in b"".join(agent)


@dataclass(slots=True)
class ResponseHead(_Head):
    status: int
    reason: bytes


@dataclass(slots=True)
class _Collector:
    """httptools' callbacks."""

    target: bytes = b""
    reason: bytes = b""
    headers: Headers = field(default_factory=list[tuple[bytes, bytes]])
    complete: bool = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.complete = True


def parse_request(raw: bytes) -> RequestHead:
    """``raw`` ends with the empty line. Raises :class:`BadHead`."""
    collected = _Collector()
    parser = httptools.HttpRequestParser(collected)
    _feed(parser, raw)
    version, method = parser.get_http_version(), parser.get_method()
    if version not in _VERSIONS:
        raise BadHead(505, "This server speaks HTTP/1.1; send the request as such")
    if not collected.complete:
        raise BadHead(400, "Invalid request head")
    if method == b"CONNECT":
        raise BadHead(501, "This server is no forward proxy; send the request to the sandbox's host name")
    head = RequestHead(version, collected.headers, method, collected.target, b"")
    _settle_host(head)
    return head


def parse_response(raw: bytes) -> ResponseHead:
    """``raw`` ends with the empty line. Raises :class:`BadHead` with 502."""
    collected = _Collector()
    parser = httptools.HttpResponseParser(collected)
    try:
        _feed(parser, raw)
    except BadHead as error:
        raise BadHead(502, error.message) from error
    status = parser.get_status_code()
    if not collected.complete or not 100 <= status <= 999:
        raise BadHead(502, "Invalid response head")
    return ResponseHead(parser.get_http_version(), collected.headers, status, collected.reason)


def _feed(parser: httptools.HttpRequestParser | httptools.HttpResponseParser, raw: bytes) -> None:
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass  # how httptools says that other bytes may follow: ours to find out from the answer
    except httptools.HttpParserError as error:
        raise BadHead(400, f"Invalid HTTP head: {error}") from error


def _settle_host(head: RequestHead) -> None:
    """One host per request: a target in absolute form wins over the Host header, and replaces it (RFC 9112
    §3.2.2)."""
    hosts = head.values(b"host")
    if len(hosts) > 1:
        raise BadHead(400, "Invalid host")
    if absolute := _ABSOLUTE.fullmatch(head.target):
        authority, rest = absolute[1], absolute[2] or b"/"
        head.target = rest if rest.startswith(b"/") else b"/" + rest
        head.headers = [(b"Host", authority), *((k, v) for k, v in head.headers if k.lower() != b"host")]
        hosts = [authority]
    if not head.target.startswith(b"/") and head.target != b"*":
        raise BadHead(400, "Invalid request target")
    if not hosts and head.version != "1.0":
        raise BadHead(400, "Invalid host")
    head.host = hosts[0] if hosts else b""
