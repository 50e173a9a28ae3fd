"""Which restores share the pages of their snapshot with their siblings. Pure.

Only those of a template's build: its files stay as they are as long as it lives, and every sandbox of it has
the same right to them. A snapshot of a sandbox is loaded, and let go of, as before.
"""

from __future__ import annotations

from dataclasses import dataclass

from atolld.model.template import Build
from atolld.node.runtime.protocol import CHECKPOINT_FILES, Sharing

_PAGES = CHECKPOINT_FILES[2]


@dataclass(frozen=True, slots=True)
class SharingRule:
    """``unshared``: names of templates whose sandboxes have all their memory to themselves."""

    wanted: bool = True
    unshared: frozenset[str] = frozenset()

    def decide(self, build: Build) -> Sharing | None:
        """``None``: every page is loaded."""
        pages = build.manifest.snapshot.get(_PAGES)
        if not self.wanted or build.manifest.name in self.unshared or pages is None or not pages.sha256:
            return None
        if build.directory.parents[1].name != "templates":
            return None
        return Sharing(pages.sha256)
