"""Teams and their API keys.

A key is ``e2b_`` and 40 lower-case hex characters, because old clients check that. Only its hash is stored:
``$sha256$`` and the unpadded standard base64 of SHA-256 over the 20 random bytes. A key is random, so a plain
hash is enough: there is nothing to guess.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import NewType

TeamId = NewType("TeamId", str)

LOCAL_TEAM = "local"
"""Slug of the team of this machine's operator; it owns the templates that come with Atoll."""
LOCAL_TEAM_NAME = "Local operator"

_KEY_PATTERN = re.compile(r"e2b_([0-9a-f]{40})")


@dataclass(frozen=True, slots=True)
class Team:
    team_id: TeamId
    slug: str
    name: str


def new_api_key() -> str:
    return "e2b_" + secrets.token_hex(20)


def hash_api_key(key: str) -> str | None:
    """What the store keeps of ``key``; ``None`` when it cannot be one of our keys."""
    match = _KEY_PATTERN.fullmatch(key)
    if match is None:
        return None
    digest = hashlib.sha256(bytes.fromhex(match[1])).digest()
    return "$sha256$" + base64.b64encode(digest).rstrip(b"=").decode()
