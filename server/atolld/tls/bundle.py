"""Certificate authorities in one file: those this machine trusts, and ours.

Clients that are told of a file of authorities (``SSL_CERT_FILE`` …) forget their own, so the file must hold
both. A machine may have a custom file already, named by the same variables: all of it is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from atolld.builds.files import replace_text
from atolld.builds.registries import find_ca_bundle

VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
"""What OpenSSL's users (Python among them), requests, and Node read."""

_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def write_bundle(path: Path, root: Path, environ: Mapping[str, str]) -> None:
    """Renews ``path``: the authorities of ``environ``'s machine and the one in ``root``."""
    texts = [source.read_text(errors="replace") for source in bundle_sources(path, environ)]
    text = merge_certificates([*texts, root.read_text()])
    if not path.exists() or path.read_text() != text:
        replace_text(path, text)


def bundle_sources(path: Path, environ: Mapping[str, str], machine: Path = Path("/")) -> list[Path]:
    """The files that ``environ`` and ``machine`` trust, without ``path`` itself."""
    named = [Path(environ[name]) for name in VARIABLES if environ.get(name)]
    usual = find_ca_bundle({}, machine)
    found = [
        one for one in [*named, *([usual] if usual else [])] if one.is_file() and not _is_same(one, path)
    ]
    return list(dict.fromkeys(one.resolve() for one in found))


def merge_certificates(texts: Iterable[str]) -> str:
    """Every certificate once, in the order of first appearance; comments are dropped."""
    blocks = dict.fromkeys(block for text in texts for block in _BLOCK.findall(text.replace("\r", "")))
    return "".join(f"{block}\n" for block in blocks)


def _is_same(one: Path, other: Path) -> bool:
    return other.exists() and one.samefile(other)
