"""One server for all suites, and the published SDK's environment."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[0]))
from server_process import ServerProcess, server


@pytest.fixture(scope="session")
def atoll(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with server(tmp_path_factory.mktemp("atoll-home")) as it:
        yield it


@pytest.fixture(autouse=True)
def sdk_environment(atoll: ServerProcess) -> Iterator[None]:
    with atoll.serves_sdks():
        yield
