"""Templates and the manifest of one build.

A build's directory holds ``manifest.json`` and ``snapshot/``; its root image lies beside all roots, named
by the hash of its recipe, because builds share it. The manifest is written last: a directory without one is
an unfinished build and never used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from atolld.model.sandbox import Resources

MANIFEST_FORMAT = 1
BASES = "bases"
"""Below the state directory, beside ``snapshots/``: see :mod:`atolld.node.bases`."""
MEMORY_FILE = "checkpoint.img"
"""Only snapshots of a whole sandbox have it; others are of its files alone."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file a manifest vouches for: ``size`` in bytes, and one of the two hashes, lower-case hex."""

    size: int
    sha256: str = ""
    blake3: str = ""

    @property
    def digest(self) -> str:
        """Names the contents; empty when they were not hashed."""
        return self.blake3 or self.sha256


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that is needed to decide whether, and how, a build may be restored on this machine."""

    template_id: str
    build_id: str
    name: str
    created_at: str
    resources: Resources
    root_image: str
    """File name below ``roots/``."""
    root: StoredFile
    snapshot: Mapping[str, StoredFile]
    """File name below ``snapshot/`` → its size and hash."""
    runsc_sha256: str
    cpu_features: tuple[str, ...]
    envd_version: str
    default_user: str = "user"
    workdir: str = "/home/user"
    envs: Mapping[str, str] = field(default_factory=dict[str, str])
    start_command: str | None = None
    ready_command: str | None = None
    warmup: str | None = None
    """A cell that the interpreter runs in a restored sandbox before it waits in the pool, so that the first
    execution finds all loaded; its variables stay. Empty: it rehearses only; ``None``: it does nothing."""
    fingerprint: str = ""
    """What all sandboxes of the node that took the snapshot had in common (:mod:`atolld.node`): tells set-up
    that a build is out of date, before a restore fails."""
    host_key: str = ""
    """Public half, base64, of the key of the host that the daemon inside obeys; empty in old manifests."""
    bases: tuple[StoredFile, ...] = ()
    """Pages files of others that the snapshot's memory is partly in, in the order a restore is given them.
    Empty: it stands alone."""
    runsc_patch_level: str = ""
    """Names our changes in the gVisor that took the snapshot; empty when it has none."""
    format: int = MANIFEST_FORMAT


@dataclass(frozen=True, slots=True)
class Build:
    """A finished build on this machine's disk."""

    manifest: Manifest
    directory: Path
    """Holds ``manifest.json`` and ``snapshot/``."""
    root_path: Path
    """The EROFS image."""

    @property
    def snapshot_path(self) -> Path:
        return self.directory / "snapshot"

    def base_path(self, digest: str) -> Path:
        """Where a base of a snapshot lies; a template's build has none."""
        return self.directory.parents[1] / BASES / f"{digest}.img"

    @property
    def has_memory(self) -> bool:
        """``False``: it is booted instead of restored."""
        return MEMORY_FILE in self.manifest.snapshot


def encode_manifest(manifest: Manifest) -> str:
    return json.dumps(asdict(manifest), indent=2, sort_keys=True) + "\n"


def parse_manifest(text: str) -> Manifest:
    """Raises ``ValueError`` (which ``json`` errors are) when the text is no manifest of this format."""
    raw: Any = json.loads(text)
    fields = cast("dict[str, Any]", raw if isinstance(raw, dict) else {})
    if fields.get("format") != MANIFEST_FORMAT:
        raise ValueError(f"not a build manifest of format {MANIFEST_FORMAT}")
    try:
        fields |= {
            "resources": Resources(**fields["resources"]),
            "root": StoredFile(**fields["root"]),
            "snapshot": {name: StoredFile(**entry) for name, entry in fields["snapshot"].items()},
            "cpu_features": tuple(fields["cpu_features"]),
            "bases": tuple(StoredFile(**entry) for entry in fields.get("bases", ())),
        }
        return Manifest(**fields)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the build manifest is incomplete: {error}") from error
