"""What the host signs when it calls a route of the daemon inside that only the host may call.

The header is ``Atoll-Host-Signature: <unix_ms>:<standard base64 of the Ed25519 signature>``. The daemon knows
the public key only, so nothing inside a sandbox can call these routes; a time that does not grow is a replay.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

HEADER = "Atoll-Host-Signature"


def signing_bytes(method: str, path: str, unix_ms: int, body: bytes) -> bytes:
    """The bytes the signature is made over. ``path`` without query, ``unix_ms`` the time of the call."""
    return f"{method}\n{path}\n{unix_ms}\n{hashlib.sha256(body).hexdigest()}".encode()


def encode_header(unix_ms: int, signature: bytes) -> str:
    return f"{unix_ms}:{base64.b64encode(signature).decode()}"


def parse_header(value: str) -> tuple[int, bytes] | None:
    """Time and signature; ``None`` when the header is malformed."""
    time_text, colon, signature_text = value.partition(":")
    if not colon or not time_text.isascii() or not time_text.isdecimal() or len(time_text) > 19:
        return None
    try:
        return int(time_text), base64.b64decode(signature_text, validate=True)
    except (binascii.Error, ValueError):
        return None
