"""One sandbox, paused and resumed again and again: nothing in it may ever be other than it was.

ATOLL_CYCLES says how often; every other time it is resumed from disk instead of from memory.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

import pytest
from e2b_code_interpreter import Sandbox

from server_process import ServerProcess

pytestmark = pytest.mark.machine

CYCLES = int(os.environ.get("ATOLL_CYCLES", "5"))
FILES = 500
_WRITER = """
import itertools, time
with open('/home/user/log.txt', 'w', buffering=1) as log:
    for number in itertools.count():
        log.write(f'{number}\\n')
        time.sleep(0.01)
"""


@pytest.fixture
def sandbox(atoll: ServerProcess) -> Iterator[Sandbox]:
    made = Sandbox.create(timeout=900)
    yield made
    made.kill()


def hashes(sandbox: Sandbox) -> str:
    return sandbox.commands.run("cd /home/user/many && sha256sum * | sha256sum").stdout.split()[0]


@pytest.mark.timeout(60 + 30 * CYCLES)
def test_files_variables_and_a_background_writer_go_on_as_they_were(
    sandbox: Sandbox, atoll: ServerProcess
) -> None:
    contents = {f"f{number:03}": os.urandom(2000) for number in range(FILES)}
    sandbox.files.write_files([{"path": f"many/{name}", "data": data} for name, data in contents.items()])
    lines = "".join(f"{hashlib.sha256(contents[name]).hexdigest()}  {name}\n" for name in sorted(contents))
    expected = hashlib.sha256(lines.encode()).hexdigest()
    sandbox.files.write("writer.py", _WRITER)
    sandbox.commands.run("python3 writer.py", background=True, timeout=0)
    sandbox.run_code("import os; history = []; noise = os.urandom(1 << 20); copy = bytes(noise)")
    logged = 0
    for cycle in range(CYCLES):
        sandbox.run_code(f"history.append({cycle})")
        assert sandbox.pause()
        if cycle % 2:
            # A server that dies forgets what it had in memory; the snapshots are what is left.
            atoll.kill()
            atoll.start()
        again = Sandbox.connect(sandbox.sandbox_id, timeout=900)
        assert isinstance(again, Sandbox)
        assert again.sandbox_id == sandbox.sandbox_id
        assert again.run_code(f"history == list(range({cycle + 1})) and noise == copy").text == "True"
        assert hashes(again) == expected
        log = [int(line) for line in again.files.read("log.txt").split()]
        assert log == list(range(len(log))), f"the writer lost or repeated a line in cycle {cycle}"
        assert len(log) > logged, f"the writer does not go on after cycle {cycle}"
        logged = len(log)
