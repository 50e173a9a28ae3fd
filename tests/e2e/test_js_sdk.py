"""The published `@e2b/code-interpreter` (npm), unmodified; the assertions are in js/."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from npm_packages import install
from server_process import ServerProcess

pytestmark = pytest.mark.machine

SOURCE = Path(__file__).parent / "js"


@pytest.fixture(scope="module")
def js_package() -> Path:
    """The test beside its locked dependencies."""
    folder = install("js-sdk", SOURCE)
    for test in SOURCE.glob("*.test.mjs"):
        shutil.copy(test, folder)
    return folder


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("test", "way"),
    [
        ("sdk.test.mjs", "by urls"),
        ("sdk.test.mjs", "by the domain over https"),
        ("interpreter.test.mjs", "by urls"),
    ],
)
def test_the_published_javascript_sdk_works_unmodified(
    atoll: ServerProcess, js_package: Path, test: str, way: str
) -> None:
    ran = subprocess.run(
        ["node", "--test", test],
        cwd=js_package,
        env=atoll.environ if way == "by urls" else atoll.domain_environ(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
