import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_wire import api, filesystem
from atoll_wire.api import ApiError, NewSandbox
from atoll_wire.filesystem import Entry, FileType
from atoll_wire.values import WireError

LISTED: dict[str, object] = {
    "templateID": "base",
    "sandboxID": "iabc",
    "clientID": "atoll",
    "startedAt": "2026-01-01T00:00:00Z",
    "endAt": "2026-01-01T00:05:00.5+00:00",
    "cpuCount": 2,
    "memoryMB": 1024,
    "diskSizeMB": 10240,
    "envdVersion": "0.6.13",
    "state": "running",
    "metadata": {"a": "b"},
}


def test_a_listed_sandbox_is_read() -> None:
    (info,) = api.parse_sandbox_list(json.dumps([LISTED]).encode())
    assert (info.sandbox_id, info.state, info.vcpu, info.metadata) == ("iabc", "running", 2, {"a": "b"})
    assert info.started_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert info.alias is None
    assert api.parse_sandbox_info(json.dumps(LISTED).encode()) == info


@pytest.mark.parametrize(
    "broken",
    [
        {**LISTED, "sandboxID": None},
        {**LISTED, "startedAt": "yesterday"},
        {**LISTED, "startedAt": "2026-01-01T00:00:00"},
        {**LISTED, "cpuCount": "two"},
        {**LISTED, "metadata": {"a": 1}},
        [],
    ],
)
def test_a_sandbox_that_breaks_the_contract_is_an_error(broken: object) -> None:
    with pytest.raises(WireError):
        api.parse_sandbox_info(json.dumps(broken).encode())


def test_a_created_sandbox_is_read() -> None:
    sandbox = api.parse_sandbox(b'{"sandboxID":"i1","templateID":"t","clientID":"c","envdVersion":"0.6.13"}')
    assert (sandbox.sandbox_id, sandbox.access_token, sandbox.domain) == ("i1", None, None)
    with pytest.raises(WireError, match="no sandboxID"):
        api.parse_sandbox(b"{}")


def test_a_create_request_leaves_out_what_is_not_given() -> None:
    assert json.loads(api.encode_new_sandbox(NewSandbox("base"))) == {
        "templateID": "base",
        "metadata": {},
        "envVars": {},
    }
    full = NewSandbox("base", 60, {"A": "b"}, {"k": "v"}, False)
    assert json.loads(api.encode_new_sandbox(full)) == {
        "templateID": "base",
        "timeout": 60,
        "metadata": {"k": "v"},
        "envVars": {"A": "b"},
        "allow_internet_access": False,
    }


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, b'{"code":404,"message":"m","error_code":"e"}', ApiError(404, "m", "e")),
        (500, b"", ApiError(500, "HTTP status 500")),
        (500, b"oops", ApiError(500, "oops")),
        (500, b"{}", ApiError(500, "HTTP status 500")),
    ],
)
def test_api_errors(status: int, body: bytes, expected: ApiError) -> None:
    assert api.parse_api_error(status, body) == expected


@given(st.integers(400, 599), st.binary(max_size=60))
def test_any_error_body_is_told_somehow(status: int, body: bytes) -> None:
    assert api.parse_api_error(status, body).message


def test_an_entry_as_it_is_on_the_wire() -> None:
    entry = {
        "name": "a",
        "type": "FILE_TYPE_FILE",
        "path": "/a",
        "size": "5",
        "mode": 420,
        "permissions": "-rw-r--r--",
        "owner": "user",
        "group": "user",
        "modifiedTime": "2026-01-01T00:00:00Z",
    }
    expected = Entry(
        "a", "/a", FileType.FILE, 5, 420, "-rw-r--r--", "user", "user", datetime(2026, 1, 1, tzinfo=UTC)
    )
    assert filesystem.parse_entry(json.dumps({"entry": entry}).encode()) == expected
    assert filesystem.parse_entries(json.dumps({"entries": [entry]}).encode()) == [expected]


@pytest.mark.parametrize("entry", [1, {"size": "large"}, {"modifiedTime": "noon"}, {"metadata": []}])
def test_an_entry_that_is_garbage_is_an_error(entry: object) -> None:
    with pytest.raises(WireError):
        filesystem.parse_entry(json.dumps({"entry": entry}).encode())


def test_an_unknown_file_type_is_unspecified() -> None:
    assert filesystem.parse_entry(b'{"entry":{"type":"FILE_TYPE_NEW"}}').type is FileType.UNSPECIFIED


def test_filesystem_requests() -> None:
    assert json.loads(filesystem.encode_path("/a")) == {"path": "/a"}
    assert json.loads(filesystem.encode_move("/a", "/b")) == {"source": "/a", "destination": "/b"}
    assert json.loads(filesystem.encode_list_dir("/a", 2)) == {"path": "/a", "depth": 2}
