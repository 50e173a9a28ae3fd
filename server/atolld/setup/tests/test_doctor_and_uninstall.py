from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from atolld.config import Config
from atolld.model.errors import AtollError
from atolld.setup import doctor, uninstall
from atolld.setup.checks.finding import Finding, Patient, fail, ok, warn
from atolld.setup.checks.resources import check_disk, check_port, parse_available

Use = Callable[..., None]


def patient(home: Path, port: int = 8600) -> Patient:
    def open_node(config: Config):
        raise AssertionError("no check here needs a node")

    return Patient(Config(home=home, port=port), {}, open_node)


async def as_root(patient: Patient) -> Finding:
    return ok("root", "")


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> Use:
    """Doctor with these findings and no other check."""

    def use(*findings: Finding) -> None:
        async def given(patient: Patient) -> Finding:
            return queue.pop(0)

        queue = list(findings)
        monkeypatch.setattr(doctor, "check_root", as_root)
        monkeypatch.setattr(doctor, "CHECKS", [given] * len(findings))

    return use


def run_doctor(home: Path, *arguments: str) -> int:
    return doctor.run(arguments, patient(home).open_node, environ={"ATOLL_HOME": str(home)})


def test_a_warning_stops_nothing_and_a_failure_does(
    tmp_path: Path, checked: Use, capsys: pytest.CaptureFixture[str]
):
    checked(ok("disk", "plenty"), warn("domain", "does not resolve", "apt-get install it"))
    assert run_doctor(tmp_path) == 0
    assert "→ apt-get install it" in capsys.readouterr().out
    checked(fail("nft", "missing", "./atoll setup"))
    assert run_doctor(tmp_path) == 1


def test_json_has_every_finding(tmp_path: Path, checked: Use, capsys: pytest.CaptureFixture[str]):
    checked(fail("nft", "missing", "./atoll setup"))
    assert run_doctor(tmp_path, "--json") == 1
    assert json.loads(capsys.readouterr().out) == [
        {"name": "nft", "verdict": "failed", "detail": "missing", "mend": "./atoll setup"}
    ]


async def test_a_check_that_stumbles_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async def check_odd_thing(patient: Patient) -> Finding:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(doctor, "check_root", as_root)
    (finding,) = await doctor.examine(patient(tmp_path), [check_odd_thing])
    assert finding.name == "odd thing"
    assert "Input/output error" in finding.detail


async def test_the_disk_of_a_directory_that_is_not_there_yet_is_found(tmp_path: Path):
    assert "GiB free" in (await check_disk(patient(tmp_path / "a/b"))).detail


async def test_a_port_somebody_else_has_is_a_failure(tmp_path: Path):
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        finding = await check_port(patient(tmp_path, port))
    assert finding.verdict == "failed"
    assert "ATOLL_PORT" in finding.mend


def test_available_memory_is_read():
    assert parse_available("MemTotal: 9 kB\nMemAvailable:   2048 kB\n") == 2 << 20


# -- uninstall ----------------------------------------------------------------------------------------------


def make_home(tmp_path: Path) -> Path:
    home = tmp_path / "atoll"
    (home / "bin").mkdir(parents=True)
    (home / "setup-id").write_text("x")
    return home


def run_uninstall(home: Path, *arguments: str, stopped: list[Path] | None = None) -> int:
    def stop(config: Config) -> None:
        if stopped is not None:
            stopped.append(config.home)

    return uninstall.run(arguments, stop, {"ATOLL_HOME": str(home)})


def test_everything_is_stopped_and_removed(tmp_path: Path):
    home = make_home(tmp_path)
    stopped: list[Path] = []
    assert run_uninstall(home, "--yes", stopped=stopped) == 0
    assert stopped == [home]
    assert not home.exists()


def test_a_directory_that_is_not_ours_is_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert run_uninstall(tmp_path, "--yes") == 1
    assert (tmp_path / "thesis.txt").is_file()
    assert "does not look like Atoll's" in capsys.readouterr().err


def test_without_an_answer_nothing_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    home = make_home(tmp_path)

    def no_terminal(prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", no_terminal)
    assert run_uninstall(home) == 1
    assert home.is_dir()


def test_what_cannot_be_stopped_keeps_everything(tmp_path: Path):
    home = make_home(tmp_path)

    def stop(config: Config) -> None:
        raise AtollError("a sandbox does not end")

    assert uninstall.run(["--yes"], stop, {"ATOLL_HOME": str(home)}) == 1
    assert (home / "bin").is_dir()
