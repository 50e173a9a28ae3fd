from __future__ import annotations

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atolld.proxy.framing import (
    BadFraming,
    Chunked,
    Framing,
    Length,
    UntilClose,
    request_framing,
    response_framing,
)
from atolld.proxy.heads import BadHead, parse_request, parse_response

CHUNKED = b"4;ext=1\r\nWiki\r\n00A\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n"


def request(headers: str, version: str = "1.1", method: str = "POST") -> bytes:
    return f"{method} / HTTP/{version}\nHost: x\n{headers}\n".replace("\n", "\r\n").encode("latin-1")


def response(headers: str, status: int = 200) -> bytes:
    return f"HTTP/1.1 {status} OK\n{headers}\n".replace("\n", "\r\n").encode()


def fed(framing: Framing, pieces: list[bytes]) -> int:
    """How many bytes of all pieces belong to the body."""
    taken = 0
    for piece in pieces:
        taken += framing.take(piece)
        if framing.done:
            break
    return taken


@given(st.lists(st.integers(0, len(CHUNKED) + 9), max_size=8))
def test_a_chunked_body_ends_in_the_same_place_however_it_is_cut(cuts: list[int]) -> None:
    data = CHUNKED + b"GET / HTTP"
    edges = [0, *sorted(cuts), len(data)]
    framing = Chunked()
    assert fed(framing, [data[a:b] for a, b in itertools.pairwise(edges)]) == len(CHUNKED)
    assert framing.done


@pytest.mark.parametrize(
    "body",
    [
        b"x\r\n",
        b"\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b"0x1\r\n",
        b"1\n",
        b"1 \n",
        b" 1\r\n",
        b"1\r\nabc\r\n",
        b"1\r\na\n",
        b"1\r\na0\r\n\r\n",
        b"0\r\nno colon\r\n",
        b"0\r\n folded: x\r\n",
        b"0\r\na:\nb:c\r\n\r\n",
        b"1" * 17 + b"\r\n",
        b"1;" + b"x" * 9000,
        b"0\r\n" + b"a: b\r\n" * 20000,
    ],
)
def test_a_chunked_body_that_could_be_read_in_two_ways_is_refused(body: bytes) -> None:
    with pytest.raises(BadFraming):
        Chunked().take(body)


@given(size=st.integers(0, 99), pieces=st.lists(st.binary(max_size=30)))
def test_a_length_takes_so_many_bytes(size: int, pieces: list[bytes]) -> None:
    framing = Length(size)
    assert fed(framing, pieces) == min(size, sum(map(len, pieces)))
    assert framing.done is (sum(map(len, pieces)) >= size)


@pytest.mark.parametrize(
    ("headers", "version"),
    [
        ("Content-Length: 3\nTransfer-Encoding: chunked\n", "1.1"),
        ("Transfer-Encoding: chunked\nContent-Length: 3\n", "1.1"),
        ("Content-Length: 3\nContent-Length: 3\n", "1.1"),
        ("Content-Length: 3, 3\n", "1.1"),
        ("Content-Length: +3\n", "1.1"),
        ("Content-Length: -3\n", "1.1"),
        ("Content-Length: 0x3\n", "1.1"),
        ("Content-Length: \n", "1.1"),
        ("Content-Length: 99999999999999999999999\n", "1.1"),
        ("Transfer-Encoding: gzip, chunked\n", "1.1"),
        ("Transfer-Encoding: chunked, identity\n", "1.1"),
        ("Transfer-Encoding: identity\n", "1.1"),
        ("Transfer-Encoding: xchunked\n", "1.1"),
        ("Transfer-Encoding: chunked\nTransfer-Encoding: chunked\n", "1.1"),
        ("Transfer-Encoding:\x0bchunked\n", "1.1"),
        ("Transfer-Encoding: chunked\n", "1.0"),
        ("X: a\n folded\n", "1.1"),
        ("X : a\n", "1.1"),
        ("X: a\0b\n", "1.1"),
        ("X: a\rb\n", "1.1"),
        ("Host: y\n", "1.1"),
        ("no colon\n", "1.1"),
    ],
)
def test_a_request_that_could_hide_another_is_refused(headers: str, version: str) -> None:
    with pytest.raises(BadHead) as refused:
        request_framing(parse_request(request(headers, version)))
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET / HTTP/1.1\nHost: x\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET x HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / a HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"hello\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\n", 505),
        (b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n", 501),
    ],
)
def test_a_head_that_is_none_is_refused(raw: bytes, status: int) -> None:
    with pytest.raises(BadHead) as refused:
        parse_request(raw)
    assert refused.value.status == status


@given(st.binary(max_size=200))
def test_no_bytes_break_the_parser(junk: bytes) -> None:
    for raw in (junk + b"\r\n\r\n", b"GET /" + junk + b" HTTP/1.1\r\nHost: x\r\n\r\n", request("") + junk):
        with contextlib.suppress(BadHead):
            request_framing(parse_request(raw))


@pytest.mark.parametrize(
    ("raw", "method", "kind"),
    [
        (response("Content-Length: 3\n"), b"GET", Length),
        (response("Transfer-Encoding: chunked\n"), b"GET", Chunked),
        (response(""), b"GET", UntilClose),
        (response("Content-Length: 3\n"), b"HEAD", Length),
        (response("Content-Length: 3\n", 304), b"GET", Length),
        (response("Transfer-Encoding: chunked\n", 204), b"GET", Length),
    ],
)
def test_where_a_response_ends(raw: bytes, method: bytes, kind: type) -> None:
    framing = response_framing(parse_response(raw), method)
    assert type(framing) is kind
    assert framing.done is (method == b"HEAD" or b" 200 " not in raw)


@pytest.mark.parametrize(
    "headers",
    [
        "Content-Length: 3\nTransfer-Encoding: chunked\n",
        "Content-Length: x\n",
        "Transfer-Encoding: gzip\n",
        "X: a\n b\n",
    ],
)
def test_a_response_that_could_hide_another_is_refused(headers: str) -> None:
    with pytest.raises(BadHead) as refused:
        response_framing(parse_response(response(headers)), b"GET")
    assert refused.value.status == 502
