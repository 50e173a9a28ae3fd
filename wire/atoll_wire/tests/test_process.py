import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_wire import process
from atoll_wire.process import Ended, Event, Keepalive, Output, Process, Start, Started
from atoll_wire.values import WireError

TEXTS = st.text(max_size=20)
STARTS = st.builds(
    Start,
    cmd=TEXTS,
    args=st.lists(TEXTS, max_size=4).map(tuple),
    envs=st.dictionaries(TEXTS, TEXTS, max_size=3),
    cwd=st.none() | TEXTS,
    stdin=st.booleans(),
    tag=st.none() | TEXTS,
)
EVENTS = st.one_of(
    st.builds(Started, st.integers(0, 2**32 - 1)),
    st.builds(Output, st.sampled_from(["stdout", "stderr", "pty"]), st.binary(max_size=50)),
    st.builds(Ended, st.integers(-1, 255), st.booleans(), TEXTS, st.none() | TEXTS),
    st.just(Keepalive()),
)


@given(STARTS)
def test_a_start_request_survives_the_round_trip(start: Start) -> None:
    assert process.parse_start(process.encode_start(start)) == start


@given(EVENTS)
def test_an_event_survives_the_round_trip(event: Event) -> None:
    assert process.parse_event(process.encode_event(event)) == event


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ('{"event":{"start":{"pid":42}}}', Started(42)),
        ('{"event":{"start":{"pid":"42","new":1}},"later":true}', Started(42)),
        ('{"event":{"data":{"stderr":"aMOpbGxv"}}}', Output("stderr", "héllo".encode())),
        ('{"event":{"end":{"exited":true,"status":"exit status 0"}}}', Ended(0, True, "exit status 0")),
        (
            '{"event":{"end":{"exit_code":-1,"status":"signal: killed","error":"signal: killed"}}}',
            Ended(-1, False, "signal: killed", "signal: killed"),
        ),
        ('{"event":{"keepalive":{}}}', Keepalive()),
        ('{"event":{"data":{}}}', None),
        ('{"event":{"something":{}}}', None),
        ("{}", None),
    ],
)
def test_events_as_they_are_on_the_wire(payload: str, expected: Event | None) -> None:
    assert process.parse_event(payload.encode()) == expected


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "[]",
        '{"event":1}',
        '{"event":{"start":{"pid":"x"}}}',
        '{"event":{"start":{"pid":true}}}',
        '{"event":{"data":{"stdout":"?"}}}',
        '{"event":{"end":{"exited":"yes"}}}',
        "[" * 100_000,
    ],
)
def test_events_that_are_garbage_are_errors(payload: str) -> None:
    with pytest.raises(WireError):
        process.parse_event(payload.encode())


def test_an_absent_stdin_means_open() -> None:
    assert process.parse_start(b'{"process":{"cmd":"cat"}}').stdin


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        (process.encode_connect(42), {"process": {"pid": 42}}),
        (process.encode_close_stdin("_system"), {"process": {"tag": "_system"}}),
        (
            process.encode_send_input(42, "héllo".encode()),
            {"process": {"pid": 42}, "input": {"stdin": "aMOpbGxv"}},
        ),
        (
            process.encode_send_signal(42, "SIGNAL_SIGKILL"),
            {"process": {"pid": 42}, "signal": "SIGNAL_SIGKILL"},
        ),
    ],
)
def test_requests_are_as_the_published_clients_send_them(encoded: bytes, expected: object) -> None:
    assert json.loads(encoded) == expected


def test_processes_are_listed() -> None:
    body = b'{"processes":[{"config":{"cmd":"sh","args":["-c","x"],"envs":{"A":"b"}},"pid":7,"tag":"_s"}]}'
    assert process.parse_processes(body) == [Process(7, "sh", ("-c", "x"), {"A": "b"}, None, "_s")]
    assert process.parse_processes(b"{}") == []
    with pytest.raises(WireError):
        process.parse_processes(b'{"processes":[{"config":{"args":[1]}}]}')
