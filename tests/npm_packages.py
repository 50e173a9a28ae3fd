"""The published npm packages that judge us: installed once per lock file, outside the clone."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from server_process import MACHINE_HOME


def install(name: str, source: Path) -> Path:
    """The folder in which what ``source`` (package.json and its lock) asks for is installed."""
    key = hashlib.sha256((source / "package-lock.json").read_bytes()).hexdigest()[:16]
    folder = MACHINE_HOME / "cache" / f"{name}-{key}"
    if not (folder / "installed").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for file in ("package.json", "package-lock.json"):
            shutil.copy(source / file, folder)
        subprocess.run(["npm", "ci", "--ignore-scripts"], cwd=folder, check=True, timeout=300)
        (folder / "installed").touch()
    return folder
