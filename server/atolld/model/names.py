"""How a caller names a template: ``[team/]name[:tag]``, where ``name`` may be a template id as well."""

from __future__ import annotations

import re
from dataclasses import dataclass

from atolld.model.errors import InvalidRequest

DEFAULT_TAG = "default"

_PART = r"[a-z0-9_-]+"
_REFERENCE = re.compile(rf"(?:(?P<team>{_PART})/)?(?P<name>{_PART})(?::(?P<tag>[a-z0-9_.-]+))?")
_LONGEST = 256


@dataclass(frozen=True, slots=True)
class TemplateReference:
    name: str
    team: str | None = None
    tag: str = DEFAULT_TAG

    def __str__(self) -> str:
        team = f"{self.team}/" if self.team else ""
        tag = "" if self.tag == DEFAULT_TAG else f":{self.tag}"
        return f"{team}{self.name}{tag}"


def parse_template_reference(text: str) -> TemplateReference:
    """Trims and lower-cases; raises :class:`InvalidRequest` when the text is no reference."""
    match = _REFERENCE.fullmatch(text.strip().lower()) if len(text) <= _LONGEST else None
    if match is None:
        shown = text if len(text) <= 80 else text[:80] + "…"
        raise InvalidRequest(
            f'Invalid template name "{shown}": it is [team/]name[:tag], of letters, digits, "-" and "_"'
        )
    return TemplateReference(match["name"], match["team"], match["tag"] or DEFAULT_TAG)
