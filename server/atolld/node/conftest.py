"""What the machine tests of this room share: runsc, a root image with envd and a probe, their own range."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from atolld.config import DEFAULT_HOME

_REPOSITORY = Path(__file__).parents[3]
MACHINE_NETWORK = IPv4Network("10.214.0.0/20")


@pytest.fixture(scope="session")
def machine_network() -> IPv4Network:
    """Apart from the range of a server that may run on this machine."""
    return MACHINE_NETWORK


@pytest.fixture(scope="session")
def runsc_binary() -> Path:
    on_path = shutil.which("runsc")
    home = Path(os.environ.get("ATOLL_HOME") or DEFAULT_HOME)
    found = Path(on_path) if on_path else (home / "bin/runsc").resolve()
    if not found.is_file():
        pytest.fail("no runsc on PATH or in ATOLL_HOME: run `./atoll setup` first")
    return found


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An EROFS image with envd and the probe in it, and nothing else that runs."""
    return make_root(tmp_path_factory.mktemp("root"), {})


@pytest.fixture(scope="session")
def stress_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with the isolation suite's program in it, too."""
    directory = tmp_path_factory.mktemp("stress-root")
    program = directory / "stress"
    source = Path(__file__).parent / "tests" / "stress" / "main.c"
    compiler = shutil.which("cc") or pytest.skip("no C compiler: install gcc")
    _run([compiler, "-O1", "-static", "-pthread", "-o", str(program), str(source)], directory)
    return make_root(directory, {"stress": program})


def make_root(directory: Path, programs: Mapping[str, Path]) -> Path:
    """``programs`` go to ``/bin``."""
    tree = directory / "tree"
    for name in (".atoll", "bin", "dev", "etc", "home/user", "proc", "root", "run", "sys", "tmp"):
        (tree / name).mkdir(parents=True)
    (tree / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")
    (tree / "etc/group").write_text("root:x:0:\nuser:x:1000:\n")
    _go_build(_REPOSITORY / "guest" / "envd", ".", tree / ".atoll" / "envd")
    _go_build(Path(__file__).parent / "tests" / "probe", "main.go", tree / "bin" / "probe")
    for name, program in programs.items():
        shutil.copy(program, tree / "bin" / name)
    image = directory / "tiny.erofs"
    _run(["mkfs.erofs", "-x-1", "-Enoinline_data", str(image), str(tree)], directory)
    return image


@pytest.fixture
def short_home() -> Iterator[Path]:
    """A home for one server: a unix socket's path must be short, and pytest's directories are not."""
    home = Path(tempfile.mkdtemp(prefix="atoll-test-"))
    yield home
    shutil.rmtree(home)


def _go_build(directory: Path, package: str, target: Path) -> None:
    go = shutil.which("go") or str(_REPOSITORY / ".venv" / "bin" / "go")
    _run([go, "build", "-trimpath", "-o", str(target), package], directory)


def _run(command: list[str], directory: Path) -> None:
    done = subprocess.run(
        command, cwd=directory, env={**os.environ, "CGO_ENABLED": "0"}, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
