"""A sandbox of the code interpreter for the tests of a module that leave it usable."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from e2b_code_interpreter import Sandbox

from server_process import ServerProcess


@pytest.fixture(scope="module")
def interpreter(atoll: ServerProcess) -> Iterator[Sandbox]:
    """With one variable of create, OF_CREATE=here."""
    with atoll.serves_sdks():
        sandbox = Sandbox.create(timeout=900, envs={"OF_CREATE": "here"})
    yield sandbox
    sandbox.kill()
