"""gVisor's ``runsc``: the machine's own when it passes a self-test, else ours, built at the pinned version.

Debian's packages of it are too old or crash on new kernels, so a version says nothing: only doing it does.
Whichever is chosen is copied into ``bin/``, because a snapshot is restored by the very binary that took it.
One that is not ours runs sandboxes as well, but each has its memory to itself (`gvisor/README.md`).
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from atolld.builds.artefacts import Artefacts
from atolld.builds.files import scratch
from atolld.builds.keys import hash_file
from atolld.builds.tools import Report, isolated, run_tool
from atolld.model.errors import HostError
from atolld.setup.gvisor import Gvisor, parse_level
from atolld.setup.toolchain import Toolchain

_KEY_LENGTH = 16
_SELF_TEST = Path(__file__).with_name("selftest.sh")


class Runsc:
    """``search_path`` is where the machine's own one is looked for, as in ``$PATH``."""

    def __init__(self, artefacts: Artefacts, gvisor: Gvisor, toolchain: Toolchain, search_path: str) -> None:
        self._artefacts = artefacts
        self._gvisor = gvisor
        self._toolchain = toolchain
        self._search_path = search_path

    def is_done(self) -> bool:
        key = self._artefacts.current_key("runsc")
        return key is not None and (key.startswith(f"{self._gvisor.level}-") or self._own is not None)

    async def run(self, report: Report) -> None:
        """Raises :class:`HostError` when none passes, with the words of the last that failed."""
        for candidate in self._candidates():
            try:
                await self._adopt(candidate, report)
            except HostError as error:
                report(f"{candidate} is no good: {error}")
            else:
                return
        with scratch(self._artefacts.home) as directory:
            await self._adopt(await self._gvisor.build(self._toolchain, directory, report), report)

    @property
    def _own(self) -> Path | None:
        """The machine's."""
        found = shutil.which("runsc", path=self._search_path)
        return None if found is None else Path(found)

    def _candidates(self) -> list[Path]:
        kept = sorted((self._artefacts.home / "bin").glob(f"runsc-{self._gvisor.level}-*/runsc"))
        return ([self._own] if self._own else []) + kept

    async def _adopt(self, binary: Path, report: Report) -> None:
        await self_test(binary, self._artefacts.home, report)
        level = parse_level(await run_tool([binary, "--version"], report=report))
        key = f"{level}-{hash_file(binary)[:_KEY_LENGTH]}".lstrip("-")
        self._artefacts.keep("runsc", key, binary)
        self._artefacts.use("runsc", key)


async def self_test(binary: Path, home: Path, report: Report) -> None:
    """Start, checkpoint and restore of a tiny EROFS root. Raises :class:`HostError` when any of it fails."""
    with scratch(home) as directory:
        await _make_root(directory, report)
        bundle = directory / "bundle"
        bundle.mkdir()
        (bundle / "config.json").write_text(json.dumps(_bundle(directory / "root.erofs"), indent=2))
        await run_tool(isolated(["sh", str(_SELF_TEST), str(binary), str(directory)]), report=report)


async def _make_root(directory: Path, report: Report) -> None:
    """The machine's own ``sleep`` with the libraries it loads is the smallest root there is everywhere."""
    tree = directory / "tree"
    sleep = shutil.which("sleep")
    if sleep is None:
        raise HostError("sleep is missing: install coreutils")
    _copy_into(tree, Path(sleep), "bin/sleep")
    for word in (await run_tool(["ldd", sleep], report=report)).split():
        if word.startswith("/"):
            _copy_into(tree, Path(word), word)
    for mount_point in ("proc", "dev", "sys", "tmp"):
        (tree / mount_point).mkdir(exist_ok=True)
    image = ["mkfs.erofs", "--quiet", "-x-1", "-Enoinline_data", directory / "root.erofs", tree]
    await run_tool(image, report=report)


def _copy_into(tree: Path, source: Path, target: str) -> None:
    path = tree / target.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(os.path.realpath(source), path)
    path.chmod(0o755)


def _bundle(image: Path) -> dict[str, object]:
    """An OCI runtime specification: one process on an EROFS root with a writable overlay in memory."""
    root = "dev.gvisor.spec.rootfs"
    return {
        "ociVersion": "1.0.0",
        "process": {"args": ["/bin/sleep", "1000"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
        "root": {"path": str(image.with_name("tree")), "readonly": False},
        "mounts": [{"destination": "/proc", "type": "proc"}],
        "annotations": {f"{root}.source": str(image), f"{root}.type": "erofs", f"{root}.overlay": "memory"},
    }
