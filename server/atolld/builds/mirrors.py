"""Where Debian comes from: the machine's own configured mirror, carried over to our roots. Pure.

Reads both of apt's formats: one line per source (sources.list(5)) and deb822 stanzas (``*.sources``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

SUITE = "trixie"

# What of the host's apt configuration a root's own apt must follow to reach the same mirror.
_CARRIED_OPTION = re.compile(
    r"Acquire::(https?(::[^:\s]+)?::(Proxy\S*|Verify-Peer|Verify-Host|CaInfo)|Retries)$", re.I
)


@dataclass(frozen=True, slots=True)
class Source:
    """One place packages come from."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]


def parse_sources(text: str) -> list[Source]:
    """The enabled ``deb`` sources of one file of either format; whatever is none is passed over."""
    if re.search(r"(?mi)^types\s*:", text):
        return [source for stanza in re.split(r"\n\s*\n", text) if (source := _parse_stanza(stanza))]
    return [source for line in text.splitlines() if (source := _parse_line(line))]


def _parse_line(line: str) -> Source | None:
    match = re.match(r"\s*deb\s+(?:\[[^\]]*\]\s*)?(\S+)\s+(\S+)\s*([^#]*)", line)
    if match is None:
        return None
    return Source((match[1],), (match[2],), tuple(match[3].split()))


def _parse_stanza(stanza: str) -> Source | None:
    fields: dict[str, str] = {}
    name = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line[:1].isspace():
            fields[name] = fields.get(name, "") + " " + line.strip()
        elif ":" in line:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()
    if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
        return None
    return Source(*(tuple(fields.get(key, "").split()) for key in ("uris", "suites", "components")))


def plan_sources(
    release: Mapping[str, str], sources: Iterable[Source], mirror: str | None = None
) -> list[str]:
    """The lines of ``sources.list`` for a root; empty: leave it to mmdebstrap's own default.

    ``release`` is the host's os-release, ``mirror`` the operator's own choice, which wins. Only
    a Debian host's mirror carries Debian: another host's is of no use.
    """
    if mirror:
        return [_line(mirror, SUITE), _line(mirror, f"{SUITE}-updates")]
    if release.get("ID") != "debian":
        return []
    known = list(sources)
    main = _first_uri(known, lambda suite: suite in _release_names(release))
    if main is None:
        return []
    lines = [_line(main, SUITE), _line(main, f"{SUITE}-updates")]
    security = _first_uri(known, lambda suite: suite.endswith(("-security", "/updates")))
    if security is not None:
        lines.append(_line(security, f"{SUITE}-security"))
    return lines


def _release_names(release: Mapping[str, str]) -> set[str]:
    return {release.get("VERSION_CODENAME", ""), "stable", "oldstable", "testing", "unstable", "sid"} - {""}


def _first_uri(sources: Iterable[Source], is_wanted: Callable[[str], bool]) -> str | None:
    for source in sources:
        if "main" in source.components and source.uris and any(map(is_wanted, source.suites)):
            return source.uris[0]
    return None


def _line(uri: str, suite: str) -> str:
    return f"deb {uri} {suite} main"


def parse_release(text: str) -> dict[str, str]:
    """os-release(5) as a mapping."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}


def plan_options(dump: str) -> list[str]:
    """Of ``apt-config dump`` (lines ``Name "value";``) what a root must follow too."""
    options: list[str] = []
    for line in dump.splitlines():
        name, _, value = line.partition(" ")
        if _CARRIED_OPTION.match(name) and value.strip() != '"";':
            options.append(line)
    return options
