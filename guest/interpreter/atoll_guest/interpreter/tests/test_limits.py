"""Limits of an execution's output, and what is said when they are reached."""

import json
from pathlib import Path

import pytest

from atoll_guest.interpreter import happenings, jupyter, messages, zmtp
from atoll_guest.interpreter.execution import died_event
from atoll_guest.interpreter.limits import Limits, RateGuard, read_limits
from atoll_guest.interpreter.processes import Exit


def test_limits_come_from_the_environment() -> None:
    assert read_limits({}) == Limits(128 << 20, None)
    environ = {"ATOLL_MAX_RESULT_MIB": "0.5", "ATOLL_MAX_OUTPUT_MIB_PER_SECOND": "2"}
    assert read_limits(environ) == Limits(1 << 19, 2.0 * (1 << 20))


@pytest.mark.parametrize("value", ["0", "-1", "many", "nan", "inf"])
def test_a_limit_that_is_none_is_told_by_name(value: str) -> None:
    with pytest.raises(ValueError, match="ATOLL_MAX_RESULT_MIB"):
        read_limits({"ATOLL_MAX_RESULT_MIB": value})


def test_without_a_rate_everything_passes() -> None:
    guard = RateGuard(None, 0.0)
    event = messages.stream("stdout", "x" * 10**7, "")
    assert guard.admit(event, 0.0) == [event]


def test_what_comes_too_fast_is_dropped_and_counted() -> None:
    guard = RateGuard(10.0, 0.0)
    seven = messages.stream("stdout", "x" * 7, "")
    assert guard.admit(seven, 0.0) == [seven]
    assert guard.admit(seven, 0.0) == []
    assert guard.admit(seven, 0.1) == []
    notice, passed = guard.admit(seven, 1.0)
    assert passed == seven
    assert "14 characters of output were dropped" in notice["text"]
    assert guard.admit(seven, 1.0) == []
    notice, end = guard.admit(messages.END, 1.0)
    assert (notice["type"], end) == ("stderr", messages.END)


@pytest.mark.parametrize("step", [1, 7, 1000, 10**6])
def test_a_part_over_the_limit_is_never_collected(step: int) -> None:
    parts = [
        b"<IDS|MSG>",
        b"",
        *(json.dumps(part).encode() for part in ({"msg_type": "display_data"}, {}, {})),
    ]
    data = zmtp.encode_message([*parts, b"x" * 5000]) + zmtp.encode_message([b"next"])
    decoder = zmtp.Decoder(max_part=1000)
    found = [
        message for start in range(0, len(data), step) for message in decoder.feed(data[start : start + step])
    ]
    assert found[1] == [b"next"]
    message = jupyter.decode(found[0])
    assert message.oversized == 5000
    (event,) = messages.to_events(message, 1000)
    assert event["name"] == "ResultTooLarge"


def test_a_refused_result_names_its_size_and_the_limit() -> None:
    assert "a result of 3.0 MiB is over the limit of 2 MiB" in messages.too_large(3 << 20, 2 << 20)["value"]


def test_a_kernel_ended_for_memory_is_told_so_in_envds_words(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    events = [
        {"number": 1, "type": "memory_limit_exceeded", "message": "old", "pid": 7},
        {
            "number": 2,
            "type": "memory_limit_exceeded",
            "message": "memory limit exceeded (used 9 of 8 MiB)",
            "pid": 7,
        },
        {"number": 3, "type": "memory_exhausted", "message": "nobody to end", "pid": 7},
    ]
    file.write_text("\n".join(map(json.dumps, events)) + '\n{"cut')
    assert happenings.why_ended(7, file) == "memory limit exceeded (used 9 of 8 MiB)"
    assert happenings.why_ended(8, file) is None
    assert happenings.why_ended(7, tmp_path / "none") is None


@pytest.mark.parametrize(
    ("code", "told", "total", "says"),
    [
        (
            -9,
            "memory limit exceeded (used 9 of 8 MiB)",
            None,
            "memory limit exceeded (used 9 of 8 MiB); the context",
        ),
        (-9, None, 100, "memory limit exceeded (used 60 of 100 MiB)"),
        (-9, None, 1000, "killed by SIGKILL"),
        (-11, "memory limit exceeded", 100, "killed by SIGSEGV"),
        (3, None, None, "exit code 3"),
    ],
)
def test_the_reason_of_a_death_is_told(code: int, told: str | None, total: int | None, says: str) -> None:
    event = died_event(Exit(code, 60), told, total)
    assert event["name"] == "KernelDied"
    assert says in event["value"]
