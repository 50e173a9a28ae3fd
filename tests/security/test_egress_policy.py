"""`allow_internet_access=False` closes the way out, and only that."""

from __future__ import annotations

import pytest
from e2b import Sandbox

pytestmark = pytest.mark.machine


def test_a_sandbox_without_internet_access_reaches_no_registry() -> None:
    with Sandbox.create(timeout=120, allow_internet_access=False) as sandbox:
        tried = sandbox.commands.run(
            "timeout 20 pip download --no-deps -d /tmp cowsay 2>&1 || true", timeout=60
        )
        assert "Successfully downloaded" not in tried.stdout
        assert sandbox.commands.run("echo alive").stdout == "alive\n"
