"""The arithmetic of `bench guest`; the measuring itself needs a server and is tried by tests/e2e."""

from __future__ import annotations

import http.client
import io
import json
import tarfile
from base64 import b64encode
from typing import cast

import pytest

from atoll.cli.bench_guest import make_archive
from atoll.cli.bench_rows import row
from atoll.cli.bench_sandbox import split_envelopes
from atoll_wire.connect import END_STREAM, encode_envelope


class Answer(io.RawIOBase):
    """Gives so many bytes at a time, as a socket does."""

    def __init__(self, content: bytes, step: int) -> None:
        self._content, self._step = io.BytesIO(content), step

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        piece = self._content.read(min(self._step, len(buffer)))
        buffer[: len(piece)] = piece
        return len(piece)


@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_output_is_counted_however_it_arrives(step: int) -> None:
    def event(size: int) -> bytes:
        data = {"stdout": b64encode(bytes(size)).decode()}
        return encode_envelope(json.dumps({"event": {"data": data}}, separators=(",", ":")).encode())

    stream = event(3000) + event(30) + encode_envelope(b"{}", END_STREAM)
    answer = cast(http.client.HTTPResponse, Answer(stream, step))
    assert split_envelopes(answer) == 3030


def test_the_archive_holds_what_it_says() -> None:
    with tarfile.open(fileobj=io.BytesIO(make_archive(250))) as archive:
        assert len(archive.getnames()) == 250
        assert {member.size for member in archive} == {100}


@pytest.mark.parametrize(
    ("ratio", "limit", "kept"),
    [(7.0, 8.0, True), (9.0, 8.0, False), (0.4, -0.35, True), (0.3, -0.35, False), (1.0, None, None)],
)
def test_a_promise_is_the_most_or_the_least(ratio: float, limit: float | None, kept: bool | None) -> None:
    assert row("x", 1, "ms", 1, "", ratio, "", limit).kept is kept
