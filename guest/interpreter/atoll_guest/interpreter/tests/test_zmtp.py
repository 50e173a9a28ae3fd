import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_guest.interpreter import zmtp

MESSAGES = st.lists(st.lists(st.binary(max_size=600), min_size=1, max_size=5), max_size=6)


@given(MESSAGES, st.integers(1, 400))
def test_messages_survive_any_cutting_of_the_bytes(messages: list[list[bytes]], size: int) -> None:
    data = zmtp.encode_ready("DEALER") + b"".join(zmtp.encode_message(message) for message in messages)
    decoder = zmtp.Decoder()
    found = [m for start in range(0, len(data), size) for m in decoder.feed(data[start : start + size])]
    assert found == messages


def test_an_error_command_is_raised_with_its_text() -> None:
    with pytest.raises(zmtp.ZmtpError, match="Invalid socket type"):
        zmtp.Decoder().feed(bytes((4, 26)) + b"\x05ERROR\x13Invalid socket type")


@pytest.mark.parametrize(
    "greeting",
    [b"HTTP/1.1 400 Bad Request".ljust(64), zmtp.GREETING.replace(b"NULL", b"CURV"), bytes(64)],
)
def test_a_peer_that_does_not_speak_zmtp_3_with_null_security_is_refused(greeting: bytes) -> None:
    with pytest.raises(zmtp.ZmtpError):
        zmtp.check_greeting(greeting)


def test_our_own_greeting_is_accepted() -> None:
    assert len(zmtp.GREETING) == 64
    zmtp.check_greeting(zmtp.GREETING)
