"""The README's example of a chart prints what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from server_process import ServerProcess

pytestmark = pytest.mark.machine

README = Path(__file__).parents[2] / "README.md"


def test_the_chart_of_the_readme_is_drawn_and_its_data_printed(atoll: ServerProcess, tmp_path: Path) -> None:
    code = next(
        block
        for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
        if "# chart.py" in block
    )
    promised = re.findall(r"print\(.*\)  # (.*)", code)
    (tmp_path / "chart.py").write_text(code)
    ran = subprocess.run(
        [sys.executable, "chart.py"],
        cwd=tmp_path,
        env=atoll.environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == promised
