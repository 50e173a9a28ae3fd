from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from atolld.model.errors import HostError
from atolld.node.runtime.control_socket import call


def answer_once(path: Path, answer: Callable[[bytes, list[int]], list[bytes]]) -> asyncio.Task[None]:
    """Answers one call in the given pieces."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def serve() -> None:
        with server, server.accept()[0] as connection:
            message, files, _, _ = socket.recv_fds(connection, 65536, 8)
            for piece in answer(message, list(files)):
                connection.sendall(piece)

    return asyncio.create_task(asyncio.to_thread(serve))


async def test_a_call_sends_its_argument_and_files_and_reads_an_answer_in_pieces(short_home: Path) -> None:
    seen: list[object] = []

    def answer(message: bytes, files: list[int]) -> list[bytes]:
        seen.append(json.loads(message))
        os.write(files[0], b"written by the other side")
        return [b'{"success": true, "err": "", ', b'"result": {"a"', b": 1}}"]

    path = short_home / "a.sock"
    serving = answer_once(path, answer)
    read_end, write_end = os.pipe()
    assert await call(path, "m.Do", {"x": 1}, [write_end]) == {"a": 1}
    await serving
    assert seen == [{"method": "m.Do", "arg": {"x": 1}}]
    assert os.read(read_end, 100) == b"written by the other side"
    os.close(read_end)
    os.close(write_end)


async def test_a_refusal_is_an_error_with_its_words(short_home: Path) -> None:
    path = short_home / "a.sock"
    serving = answer_once(
        path, lambda message, files: [b'{"success": false, "err": "not now", "result": null}']
    )
    with pytest.raises(HostError, match="not now"):
        await call(path, "m.Do", {})
    await serving


async def test_a_broken_connection_is_an_error(short_home: Path) -> None:
    path = short_home / "a.sock"
    serving = answer_once(path, lambda message, files: [b'{"success": tr'])
    with pytest.raises(HostError, match="closed"):
        await call(path, "m.Do", {})
    await serving


async def test_no_socket_is_an_error(short_home: Path) -> None:
    with pytest.raises(HostError, match=r"m\.Do"):
        await call(short_home / "none.sock", "m.Do", {})
