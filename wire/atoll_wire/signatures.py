"""Signed file URLs: who has the signature may read or write that one path without the sandbox's token."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Literal

Operation = Literal["read", "write"]
"""``read`` for GET, ``write`` for POST."""


def file_signature(path: str, op: Operation, user: str, token: str, expiration: int | None = None) -> str:
    """``v1_`` and the unpadded base64 of a SHA-256.

    ``path`` and ``user`` as in the query, ``""`` when absent; ``expiration`` in Unix seconds.
    """
    parts = [path, op, user, token] if expiration is None else [path, op, user, token, str(expiration)]
    digest = hashlib.sha256(":".join(parts).encode()).digest()
    return "v1_" + base64.b64encode(digest).decode().rstrip("=")


def is_file_signature(
    signature: str, path: str, op: Operation, user: str, token: str, expiration: int | None = None
) -> bool:
    """Compared in constant time. That it has not expired is the caller's to check: time is not known here."""
    expected = file_signature(path, op, user, token, expiration)
    return hmac.compare_digest(signature.encode("utf-8", "surrogatepass"), expected.encode())
