"""The same suite on three grounds: our `base` through the door, an image of musl, and an empty one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from guest_roots import PORT, booted, make_image, make_musl_tree, make_scratch_tree
from guest_wire import Wire, through_the_door
from server_process import MACHINE_HOME, ServerProcess


@dataclass(frozen=True)
class Ground:
    name: str
    wire: Wire

    @property
    def has_shell(self) -> bool:
        return self.name != "scratch"


@pytest.fixture(scope="session", params=["base", "musl", "scratch"])
def ground(
    request: pytest.FixtureRequest, atoll: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ground]:
    if request.param == "base":
        with through_the_door(atoll) as wire:
            yield Ground("base", wire)
        return
    directory = tmp_path_factory.mktemp(request.param)
    make = {"musl": make_musl_tree, "scratch": make_scratch_tree}[request.param]
    make(directory / "tree", MACHINE_HOME / "bin/envd")
    image = make_image(directory / "tree", directory / "root.erofs")
    with booted(image, _runsc()) as address:
        yield Ground(request.param, Wire(f"http://{address}:{PORT}", {}))


@pytest.fixture
def shell(ground: Ground) -> Wire:
    if not ground.has_shell:
        pytest.skip("this image has no shell")
    return ground.wire


@pytest.fixture
def ground_name(ground: Ground) -> str:
    return ground.name


@pytest.fixture
def wire(ground: Ground) -> Wire:
    return ground.wire


def _runsc() -> Path:
    return (MACHINE_HOME / "bin/runsc").resolve()
