"""Which of the clone's files go into which made thing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CLONE = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True)
class Clone:
    """A checkout of this repository, read only."""

    root: Path = CLONE

    @property
    def envd(self) -> Path:
        return self.root / "guest/envd"

    @property
    def interpreter(self) -> Path:
        return self.root / "guest/interpreter"

    @property
    def interpreter_lock(self) -> Path:
        return self.interpreter / "requirements.lock"

    @property
    def node_locks(self) -> tuple[Path, Path]:
        """npm's description and lock of what the interpreter's Node.js kernel needs."""
        return self.interpreter / "package.json", self.interpreter / "package-lock.json"

    @property
    def java_kernel(self) -> list[Path]:
        """What the layer `languages` compiles with its JDK."""
        return sorted((self.interpreter / "atoll_guest/interpreter/java_kernel").glob("*.java"))

    @property
    def lock(self) -> Path:
        return self.root / "requirements.lock"

    def envd_files(self) -> Iterator[Path]:
        """All that the Go compiler reads, tests left out."""
        for path in self.envd.rglob("*"):
            unread = path.name.endswith("_test.go") or path.suffix == ".md" or "testdata" in path.parts
            if path.is_file() and not unread:
                yield path

    def interpreter_files(self) -> Iterator[Path]:
        """The interpreter's package as it lies in a sandbox, tests left out."""
        for path in (self.interpreter / "atoll_guest").rglob("*"):
            if path.is_file() and path.suffix != ".pyc" and "tests" not in path.parts:
                yield path
