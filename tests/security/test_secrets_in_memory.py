"""What a clone can read of others: all memory of all processes inside, searched by root."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from e2b import Sandbox

from server_process import ServerProcess

pytestmark = [pytest.mark.machine, pytest.mark.timeout(180)]

# It gets the words reversed: so no process but itself has them because of the search.
SEARCH = """
import os, sys
words = [word[::-1].encode() for word in sys.argv[1:]]
found, searched = set(), 0
for pid in filter(str.isdigit, os.listdir("/proc")):
    if int(pid) == os.getpid():
        continue
    try:
        with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
            for line in maps:
                span, mode, *_ = line.split()
                begin, end = (int(word, 16) for word in span.split("-"))
                if mode[0] != "r":
                    continue
                for at in range(begin, end, 1 << 20):
                    try:
                        memory.seek(at)
                        piece = memory.read(min((1 << 20) + 100, end - at))
                    except (OSError, OverflowError, ValueError):
                        continue
                    searched += len(piece)
                    found |= {(pid, word[::-1].decode()) for word in words if word in piece}
    except OSError:
        pass
print(searched)
for pid, word in sorted(found):
    print(pid, word)
"""


def search(sandbox: Sandbox, *words: str) -> set[tuple[int, str]]:
    """Which process has which of the words."""
    sandbox.files.write("/root/search.py", SEARCH, user="root")
    told = sandbox.commands.run(
        "python3 /root/search.py " + " ".join(word[::-1] for word in words), user="root", timeout=60
    )
    searched, *found = told.stdout.splitlines()
    assert int(searched) > 1 << 20, told
    return {(int(pid), word[::-1]) for pid, word in (line.split() for line in found)}


@pytest.fixture
def source() -> Iterator[tuple[Sandbox, str]]:
    """A sandbox, and what it was given at create: in its daemon, and in a program of the user."""
    secret = secrets.token_hex(24)
    with Sandbox.create("base", timeout=120, envs={"SECRET": secret}) as sandbox:
        program = sandbox.commands.run("sleep 600", background=True)
        yield sandbox, secret
        program.disconnect()


def token_of(sandbox: Sandbox) -> str:
    token: Any = sandbox._envd_access_token
    assert token
    return token


def test_a_clone_has_nothing_that_was_given_to_another(source: tuple[Sandbox, str]) -> None:
    sandbox, secret = source
    token = token_of(sandbox)
    assert {(1, secret), (1, token)} <= search(sandbox, secret, token), "what is there is found"
    with Sandbox.create("base", timeout=60) as other:
        assert search(other, secret, token) == set()
        assert (1, token_of(other)) in search(other, token_of(other))


def test_a_fork_obeys_its_own_token_alone(atoll: ServerProcess, source: tuple[Sandbox, str]) -> None:
    """Its memory is its source's, leftovers of that token in the daemon included: they open the source, which
    is its owner's too, and nothing else."""
    sandbox, secret = source
    (fork,) = sandbox.fork(timeout=60)
    assert isinstance(fork, Sandbox)
    try:
        tokens = [token_of(sandbox), token_of(fork)]
        opens = [[_status(atoll, it, token) for token in tokens] for it in (sandbox, fork)]
        assert opens == [[200, 401], [401, 200]]
        assert secret in {word for _, word in search(fork, secret)}, "programs keep what is theirs"
    finally:
        fork.kill()


def _status(atoll: ServerProcess, sandbox: Sandbox, token: str) -> int:
    headers = {"Host": sandbox.get_host(49983), "X-Access-Token": token}
    return httpx.get(f"{atoll.url}/metrics", headers=headers, timeout=30).status_code
