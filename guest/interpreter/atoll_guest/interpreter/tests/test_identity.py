import asyncio
from pathlib import Path

import pytest

from atoll_guest.interpreter.identity import ENVIRONMENT_FILE, Sandbox, parse_answer


def test_the_environment_is_read_from_an_answer() -> None:
    assert parse_answer(b'HTTP/1.0 200 OK\r\nA: b\r\n\r\n{"X":"1"}') == {"X": "1"}


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.0 401 Unauthorized\r\n\r\n{}", b"HTTP/1.0 200 OK\r\n\r\n[1]", b"HTTP/1.0 200 OK\r\n\r\n"],
)
def test_any_other_answer_is_an_error(answer: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_answer(answer)


async def test_a_readable_file_of_this_sandbox_spares_the_question(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path / "id", ("127.0.0.1", 1))
    (tmp_path / "id").write_text("i1")
    for content, found in (
        ('{"X":"1","E2B_SANDBOX_ID":"i1"}', {"X": "1", "E2B_SANDBOX_ID": "i1"}),
        ('{"X":"1","E2B_SANDBOX_ID":"i0"}', None),
        ('{"X":', None),
    ):
        (tmp_path / ENVIRONMENT_FILE).write_text(content)
        assert await sandbox.global_environment(None) == found


async def test_the_token_is_sent_and_never_splits_the_header(tmp_path: Path) -> None:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b'HTTP/1.0 200 OK\r\n\r\n{"X":"1"}')
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    sandbox = Sandbox(tmp_path / "id", server.sockets[0].getsockname())
    assert await sandbox.global_environment("secret") == {"X": "1"}
    assert await sandbox.global_environment("a\r\nEvil: 1") == {"X": "1"}
    server.close()
    assert b"X-Access-Token: secret\r\n" in heads[0]
    assert b"Evil" not in heads[1]


async def test_without_envd_there_is_no_environment(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path / "id", ("127.0.0.1", 1))
    assert await sandbox.global_environment(None) is None
    assert sandbox.current_id() == ""
