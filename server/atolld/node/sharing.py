"""Which restores share pages with others, and which snapshots hold only what changed. Pure.

Only sandboxes of one build share its pages: of a template, or of a snapshot of a sandbox, which its forks are
restored from, or it itself when it is resumed. A snapshot of one that shares is a **delta**: without the
pages that lie in its bases already. One that stands on many bases is flattened, since each keeps its file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from atolld.model.template import Build, StoredFile
from atolld.node.runtime.protocol import CHECKPOINT_FILES, Sharing

PAGES_FILE = CHECKPOINT_FILES[2]
MOST_BASES = 3
"""Of a snapshot: its template, and two of its own before it. The next one is flattened."""
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class SharingRule:
    """``unshared``: names of templates whose sandboxes have all their memory to themselves."""

    wanted: bool = True
    unshared: frozenset[str] = frozenset()
    least: int = 0
    """Bytes of a snapshot's pages from which on they are shared. Fewer are loaded: that takes a millisecond,
    and the faults of shared ones some ten until a daemon has answered."""

    def decide(self, build: Build, *, able: bool) -> Sharing | None:
        """``able``: whether the runtime can. ``None``: every page is loaded. A delta shares its bases in any
        case, there is no other way to restore it."""
        manifest = build.manifest
        pages = manifest.snapshot.get(PAGES_FILE)
        wanted = able and self.wanted and manifest.name not in self.unshared
        own = pages.digest if wanted and pages is not None and pages.size >= self.least else ""
        if not own and not manifest.bases:
            return None
        return Sharing(own, {base.digest: build.base_path(base.digest) for base in manifest.bases})


def list_bases(build: Build, sharing: Sharing | None) -> tuple[StoredFile, ...]:
    """What the pages of a sandbox that was restored so are in, beside its own memory."""
    if sharing is None:
        return ()
    own = (build.manifest.snapshot[PAGES_FILE],) if sharing.pages_id else ()
    return (*build.manifest.bases, *own)


def should_flatten(bases: Sequence[StoredFile], private: int, memory_mib: int) -> bool:
    """Whether the next snapshot of a sandbox on ``bases`` stands alone.

    That gives the sandbox a copy of all that it shares, beside its ``private`` bytes: not where its memory
    limit would end it, then its snapshots stand on more bases.
    """
    copied = sum(base.size for base in bases)
    return len(bases) > MOST_BASES and private + copied < memory_mib * _MIB
