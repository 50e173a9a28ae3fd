"""Snapshots that hold only what changed, on the real machine: contents right over generations and forks,
bases kept as long as they are needed and no longer, and what is damaged told by all that depend on it.

ATOLL_GENERATIONS says how often one is paused and resumed from the disk.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from e2b.exceptions import SandboxException
from e2b_code_interpreter import Sandbox

from server_process import ServerProcess, own_network, server

pytestmark = pytest.mark.machine

GENERATIONS = int(os.environ.get("ATOLL_GENERATIONS", "5"))
_MOST_BASES = 3
_SETUP = """
import os, hashlib
blocks = [bytearray(os.urandom(1 << 20)) for _ in range(96)]
def seen(): return hashlib.sha256(b''.join(hashlib.sha256(it).digest() for it in blocks)).hexdigest()
"""


@pytest.fixture(scope="module")
def atoll(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that keeps no paused sandbox in memory: each is resumed from the disk."""
    home = tmp_path_factory.mktemp("atoll-home")
    settings = {"ATOLL_RESIDENT_MEMORY": "0", "ATOLL_POOL": "0", "ATOLL_NETWORK": own_network(6)}
    with server(home, settings) as it:
        yield it


@pytest.fixture
def sandbox(atoll: ServerProcess) -> Iterator[Sandbox]:
    made = Sandbox.create(timeout=900)
    made.run_code(_SETUP)
    yield made
    made.kill()


def run(sandbox: Sandbox, code: str) -> str:
    execution = sandbox.run_code(code)
    assert execution.error is None, execution.error
    return execution.text or ""


def again(sandbox: Sandbox) -> Sandbox:
    resumed = Sandbox.connect(sandbox.sandbox_id, timeout=900)
    assert isinstance(resumed, Sandbox)
    return resumed


def manifest_of_the_newest(atoll: ServerProcess) -> dict[str, Any]:
    paths = sorted(atoll.home.glob("snapshots/*/manifest.json"), key=lambda path: path.stat().st_mtime)
    return json.loads(paths[-1].read_text())


def bases(atoll: ServerProcess) -> set[Path]:
    """Those that no template has a name of."""
    return {path for path in (atoll.home / "bases").iterdir() if path.stat().st_nlink == 1}


@pytest.mark.timeout(120 + 20 * GENERATIONS)
def test_contents_are_right_over_generations_of_deltas_and_flattened_ones(
    sandbox: Sandbox, atoll: ServerProcess
) -> None:
    lengths: list[int] = []
    for generation in range(GENERATIONS):
        expected = run(sandbox, f"blocks[{generation % 96}][:] = os.urandom(1 << 20); seen()")
        assert sandbox.pause()
        manifest = manifest_of_the_newest(atoll)
        lengths.append(len(manifest["bases"]))
        if lengths[-1] > 1:
            assert manifest["snapshot"]["pages.img"]["size"] < 48 << 20
        sandbox = again(sandbox)
        assert run(sandbox, "seen()") == expected, f"generation {generation}"
        assert len(bases(atoll)) <= _MOST_BASES + 2, "files that nobody needs stay"
    assert max(lengths) == _MOST_BASES
    assert GENERATIONS <= _MOST_BASES or 0 in lengths, "none was flattened"


def test_forks_of_forks_outlive_their_source_and_then_their_pages_go(atoll: ServerProcess) -> None:
    source = Sandbox.create(timeout=900)
    before = bases(atoll)
    run(source, _SETUP)
    of_source = run(source, "seen()")
    children = [it for it in source.fork(count=2, timeout=900) if isinstance(it, Sandbox)]
    assert len(children) == 2
    source.kill()
    own = run(children[0], "blocks[0][:] = os.urandom(1 << 20); seen()")
    (grandchild,) = children[0].fork(count=1, timeout=900)
    assert isinstance(grandchild, Sandbox)
    children[0].kill()
    assert run(children[1], "seen()") == of_source
    assert run(grandchild, "seen()") == own
    assert grandchild.pause()
    grandchild = again(grandchild)
    assert run(grandchild, "seen()") == own
    children[1].kill()
    assert run(grandchild, "seen()") == own
    assert bases(atoll) > before
    grandchild.kill()
    deadline = time.monotonic() + 30
    while bases(atoll) != before:  # what is killed is removed in the background
        assert time.monotonic() < deadline, "files that nobody needs stay"
        time.sleep(0.05)


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 4096)


def flip(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize("damage", [Path.unlink, shorten, flip], ids=["missing", "short", "flipped"])
def test_a_bad_base_is_told_before_a_restore_by_all_that_stand_on_it(
    sandbox: Sandbox, atoll: ServerProcess, damage: Callable[[Path], None]
) -> None:
    twins = [it for it in sandbox.fork(count=2, timeout=900) if isinstance(it, Sandbox)]
    for twin in twins:
        assert twin.pause()
    manifest = manifest_of_the_newest(atoll)
    path = atoll.home / "bases" / f"{manifest['bases'][-1]['blake3']}.img"
    aside = path.with_suffix(".aside")
    aside.write_bytes(path.read_bytes())
    damage(path)
    with pytest.raises(SandboxException, match=path.stem):
        again(twins[0])
    told = atoll.run("atoll", "doctor", "--deep", "--json")
    (finding,) = [it for it in json.loads(told.stdout) if path.stem in json.dumps(it)]
    asleep = {path.parent.name for path in atoll.home.glob("snapshots/*/manifest.json")}
    assert len(asleep) == 2
    assert all(f"snapshot {name}" in finding["detail"] for name in asleep)
    aside.replace(path)
    for twin in twins:
        assert run(again(twin), "len(blocks)") == "96"
        twin.kill()
