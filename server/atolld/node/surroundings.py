"""What this host passes on to its sandboxes: resolver, certificates, and the private addresses they may
reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Surroundings:
    guest_files: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    """Path inside → contents, written into every sandbox before it is handed out."""
    ca_bundle: str = ""
    """PEM of the certificates this host trusts beyond its distribution's; guests trust them too."""
    allowances: frozenset[str] = frozenset()
    """``address/prefix`` or ``address/prefix:port`` that sandboxes may reach although the range is closed."""
