from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from atolld.model.template import Build
from atolld.node.doubles import FakeMachine, fake_build


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[FakeMachine]:
    machine = FakeMachine(tmp_path)
    await machine.node.open()
    yield machine
    for sandbox_id in list(machine.node.running()):
        await machine.node.stop(sandbox_id)
    await machine.node.close()


@pytest.fixture
def build(tmp_path: Path) -> Build:
    return fake_build(tmp_path)
