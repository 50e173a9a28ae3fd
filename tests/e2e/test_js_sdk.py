"""The published `@e2b/code-interpreter` (npm), unmodified; the assertions are in js/."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from server_process import MACHINE_HOME, ServerProcess

pytestmark = pytest.mark.machine

SOURCE = Path(__file__).parent / "js"


@pytest.fixture(scope="module")
def js_package() -> Path:
    """The test with its locked dependencies, installed once per lock file, outside the clone."""
    key = hashlib.sha256((SOURCE / "package-lock.json").read_bytes()).hexdigest()[:16]
    folder = MACHINE_HOME / "cache" / f"js-sdk-{key}"
    if not (folder / "installed").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(SOURCE / name, folder)
        subprocess.run(["npm", "ci", "--ignore-scripts"], cwd=folder, check=True, timeout=300)
        (folder / "installed").touch()
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
