"""What envd says it did to processes of this sandbox: it ends the largest before the memory is used up.

Source: the events file of envd (`guest/envd`, "Limits"), one JSON object a line: {"number", "time", "type":
"memory_limit_exceeded", "message": "memory limit exceeded (used X of Y MiB)", "pid", "command"}.
"""

import json
from pathlib import Path
from typing import Any, cast

EVENTS_FILE = Path("/run/atoll/events.jsonl")
_TYPES = ("memory_limit_exceeded", "process_limit_exceeded")
_TAIL_BYTES = 64 * 1024


def why_ended(pid: int, path: Path = EVENTS_FILE) -> str | None:
    """envd's message about the process that it ended last under this number; None when it ended none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        event = _parse(line)
        if event.get("pid") == pid and event.get("type") in _TYPES:
            return str(event.get("message"))
    return None


def _parse(line: bytes) -> dict[str, Any]:
    """{} for a line that is cut off."""
    try:
        document: Any = json.loads(line)
    except ValueError:
        return {}
    return cast("dict[str, Any]", document) if isinstance(document, dict) else {}
