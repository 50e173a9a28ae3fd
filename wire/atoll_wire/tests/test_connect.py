import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_wire import connect
from atoll_wire.connect import Code, ConnectError, Envelope, EnvelopeDecoder
from atoll_wire.values import WireError

ENVELOPES = st.lists(st.builds(Envelope, st.integers(0, 255), st.binary(max_size=200)), max_size=8)


@given(ENVELOPES, st.data())
def test_envelopes_come_out_whole_wherever_the_bytes_are_split(
    envelopes: list[Envelope], data: st.DataObject
) -> None:
    body = b"".join(connect.encode_envelope(e.payload, e.flags) for e in envelopes)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=10)))
    decoder = EnvelopeDecoder()
    found: list[Envelope] = []
    for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True):
        found += decoder.feed(body[start:end])
    assert found == envelopes
    assert decoder.pending == 0


def test_a_stream_that_is_cut_off_leaves_bytes_pending() -> None:
    decoder = EnvelopeDecoder()
    assert decoder.feed(connect.encode_envelope(b"{}")[:-1]) == []
    assert decoder.pending == 6


def test_an_impossible_length_is_refused_before_it_is_buffered() -> None:
    with pytest.raises(WireError, match="over the limit"):
        EnvelopeDecoder().feed(b"\x00\xff\xff\xff\xff")


def test_the_last_envelope_is_told_by_its_flag() -> None:
    (end,) = EnvelopeDecoder().feed(connect.encode_end())
    assert end.is_end
    assert connect.parse_end(end.payload) is None


@given(st.sampled_from(Code), st.text(max_size=100))
def test_a_stream_error_survives_the_round_trip(code: Code, message: str) -> None:
    (end,) = EnvelopeDecoder().feed(connect.encode_end(ConnectError(code, message)))
    error = connect.parse_end(end.payload)
    assert error is not None
    assert (error.code, error.message) == (code, message)


@given(st.sampled_from(Code), st.text(min_size=1, max_size=100))
def test_a_unary_error_survives_the_round_trip(code: Code, message: str) -> None:
    status, body = connect.encode_error(ConnectError(code, message))
    error = connect.parse_error(status, body)
    assert (error.code, error.message) == (code, message)


@pytest.mark.parametrize(
    ("status", "body", "code", "message"),
    [
        (
            502,
            b'{"sandboxId":"i1","message":"The sandbox was not found","code":502}',
            Code.UNAVAILABLE,
            "The sandbox was not found",
        ),
        (
            401,
            b'{"code":401,"message":"unauthorized access"}',
            Code.UNAUTHENTICATED,
            "unauthorized access",
        ),
        (404, b"no such page", Code.NOT_FOUND, "no such page"),
        (418, b"", Code.UNKNOWN, "HTTP status 418"),
        (500, b'{"code":"something_new","message":"x"}', Code.UNKNOWN, "x"),
        (500, b"[]", Code.INTERNAL, "[]"),
    ],
)
def test_errors_that_are_not_the_daemons_keep_their_meaning(
    status: int, body: bytes, code: Code, message: str
) -> None:
    error = connect.parse_error(status, body)
    assert (error.code, error.message) == (code, message)


def test_every_code_has_a_status() -> None:
    assert set(connect.HTTP_STATUS) == set(Code)


@pytest.mark.parametrize("payload", [b"", b"[]", b"nothing", json.dumps({"error": 1}).encode()])
def test_an_end_that_is_garbage_is_an_error(payload: bytes) -> None:
    with pytest.raises(WireError):
        connect.parse_end(payload)
