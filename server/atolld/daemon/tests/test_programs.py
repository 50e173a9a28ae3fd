from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from atolld.daemon.parts import load_host_key
from atolld.model.errors import HostError


def _run(home: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "ATOLL_HOME": str(home), **settings}
    command = [sys.executable, "-m", "atolld", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environ)


def test_the_host_key_is_made_once_and_for_the_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "host-key"
    made = load_host_key(path).private_bytes_raw()
    assert load_host_key(path).private_bytes_raw() == made == path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_bytes(b"short")
    with pytest.raises(HostError, match="setup --rebuild"):
        load_host_key(path)


def test_down_where_nothing_was_set_up(tmp_path: Path) -> None:
    done = _run(tmp_path / "none", "down", "--json")
    assert (done.returncode, done.stdout) == (0, '{"server": false, "sandboxes": 0}\n')
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "settings", "code", "text"),
    [
        ((), {}, 2, "python -m atolld"),
        (("nothing",), {}, 2, "python -m atolld"),
        (("serve", "--fast"), {}, 1, "unknown argument '--fast'"),
        (("serve",), {"ATOLL_PORT": "x"}, 1, "ATOLL_PORT='x'"),
        (("serve", "--domain"), {}, 1, "--domain needs a value"),
        (("serve", "--tls-port=x"), {}, 1, "ATOLL_TLS_PORT='x'"),
        (("serve", "--no-tls", "--cert", "c.pem"), {}, 1, "ATOLL_TLS_KEY"),
        (("trust", "--force"), {}, 1, "unknown argument '--force'"),
    ],
)
def test_a_wrong_command_is_told_without_a_traceback(
    tmp_path: Path, arguments: tuple[str, ...], settings: dict[str, str], code: int, text: str
) -> None:
    done = _run(tmp_path, *arguments, **settings)
    assert done.returncode == code
    assert text in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="the server refuses before, when it is not root's")
def test_a_server_without_runsc_says_what_makes_it(tmp_path: Path) -> None:
    done = _run(tmp_path, "serve", ATOLL_PORT="18600")
    assert done.returncode == 1
    assert "atoll setup" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
