"""The Jupyter message format (messaging protocol 5.x), pure: dicts ↔ the frames of one ZeroMQ message."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_DELIMITER = b"<IDS|MSG>"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a kernel. `parent_id` is the id of the request it belongs to ("" = none); `date` is
    ISO 8601. `oversized` is the size in bytes of a content that was too large to take (0: it was not).
    """

    kind: str
    parent_id: str
    date: str
    content: Mapping[str, Any]
    metadata: Mapping[str, Any]
    oversized: int = 0


class BadMessage(ValueError):
    """Frames that are no Jupyter message: a fault of the kernel's."""


def encode(
    kind: str,
    content: Mapping[str, Any],
    *,
    session: str,
    date: str,
    key: bytes = b"",
    message_id: str | None = None,
    parent: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> list[bytes]:
    """The frames of a message, signed with `key` (empty: unsigned). `parent` is the header of the request it
    answers.
    """
    header = {
        "msg_id": message_id or uuid.uuid4().hex,
        "msg_type": kind,
        "session": session,
        "username": "user",
        "date": date,
        "version": "5.3",
    }
    body = [json.dumps(part).encode() for part in (header, parent or {}, metadata or {}, content)]
    return [_DELIMITER, _signature(key, body), *body]


def _signature(key: bytes, body: Sequence[bytes]) -> bytes:
    if not key:
        return b""
    import hashlib  # late: OpenSSL's library is only loaded for kernels on TCP
    import hmac

    return hmac.new(key, b"".join(body), hashlib.sha256).hexdigest().encode()


def decode(frames: Sequence[bytes]) -> Message:
    """The message in `frames`. Raises BadMessage. Signatures of kernels we started ourselves are not
    checked.
    """
    try:
        start = frames.index(_DELIMITER)
        header, parent, metadata, content = (_load(part) for part in frames[start + 2 : start + 6])
        return Message(
            kind=header["msg_type"],
            parent_id=parent.get("msg_id", "") if parent else "",
            date=str(header.get("date") or ""),
            content=content,
            metadata=metadata,
            oversized=getattr(frames[start + 5], "size", 0),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadMessage(f"the kernel sent something that is no Jupyter message: {error}") from error


def _load(part: bytes) -> Any:
    """{} for a part that was too large to take."""
    return json.loads(part) if part else {}
