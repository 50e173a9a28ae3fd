"""A result's formats as files, and pictures drawn in terminals that can.

What a sandbox says is not trusted: a picture is decoded and encoded again before it becomes part of an escape
sequence, and file names are ours.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from atoll.cli.failures import Failure
from atoll_wire.executions import Result

Protocol = Literal["kitty", "iterm"]

BINARY = {"png": "png", "jpeg": "jpg", "pdf": "pdf"}
TEXTUAL = {"svg": "svg", "html": "html", "markdown": "md", "latex": "tex", "javascript": "js"}
STRUCTURED = {"chart": "chart.json", "data": "data.json", "json": "json"}
"""Format → file name ending. ``text`` is printed, not saved."""

_KITTY_CHUNK = 4096


def plan_files(result: Result, number: int) -> dict[str, bytes]:
    """File name → content, for every format that is worth a file. An empty chart is none."""
    files: dict[str, bytes] = {}
    for name, ending in BINARY.items():
        if (content := decode(result, name)) is not None:
            files[f"result-{number}.{ending}"] = content
    for name, ending in TEXTUAL.items():
        if (text := result.text(name)) is not None:
            files[f"result-{number}.{ending}"] = text.encode("utf-8", "replace")
    for name, ending in STRUCTURED.items():
        if value := result.formats.get(name):
            files[f"result-{number}.{ending}"] = json.dumps(value, indent=2).encode()
    return files


def save(files: Mapping[str, bytes], directory: Path) -> list[Path]:
    """Raises :class:`Failure` when the directory cannot be written to."""
    paths: list[Path] = []
    for name, content in files.items():
        path = directory / name
        try:
            path.write_bytes(content)
        except OSError as error:
            raise save_failure(directory, error) from error
        paths.append(path)
    return paths


def make_directory(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise save_failure(directory, error) from error


def save_failure(directory: Path, error: OSError) -> Failure:
    return Failure(
        f"results cannot be saved in {directory}",
        why=str(error.strerror),
        hint="give --out a directory that you may write to and that has room",
    )


def decode(result: Result, name: str) -> bytes | None:
    """A base64 format's bytes; ``None`` when the result lacks it or it is damaged."""
    text = result.text(name)
    if text is None:
        return None
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return None


def terminal_protocol(environ: Mapping[str, str]) -> Protocol | None:
    """How this terminal draws pictures, told from its variables; ``None``: not at all, as far as we know."""
    program = environ.get("TERM_PROGRAM", "")
    if "TMUX" in environ or environ.get("TERM", "").startswith(("screen", "tmux")):
        return None
    if "KITTY_WINDOW_ID" in environ or environ.get("TERM") == "xterm-kitty" or program.lower() == "ghostty":
        return "kitty"
    if program in ("iTerm.app", "WezTerm") or environ.get("LC_TERMINAL") == "iTerm2":
        return "iterm"
    return None


def draw(result: Result, protocol: Protocol) -> str | None:
    """The escape sequence that shows the result's picture; ``None`` when it has none this terminal draws."""
    names = ("png", "jpeg") if protocol == "iterm" else ("png",)
    for name in names:
        if (content := decode(result, name)) is not None:
            return _draw_iterm(content) if protocol == "iterm" else _draw_kitty(content)
    return None


def _draw_kitty(png: bytes) -> str:
    """https://sw.kovidgoyal.net/kitty/graphics-protocol: transmit and display, 4096 characters a chunk."""
    text = base64.b64encode(png).decode()
    chunks = [text[i : i + _KITTY_CHUNK] for i in range(0, len(text), _KITTY_CHUNK)] or [""]
    parts: list[str] = []
    for index, chunk in enumerate(chunks):
        more = int(index < len(chunks) - 1)
        control = f"a=T,f=100,q=2,m={more}" if index == 0 else f"m={more}"
        parts.append(f"\033_G{control};{chunk}\033\\")
    return "".join(parts) + "\n"


def _draw_iterm(content: bytes) -> str:
    """https://iterm2.com/documentation-images.html."""
    text = base64.b64encode(content).decode()
    return f"\033]1337;File=inline=1;size={len(content)};preserveAspectRatio=1:{text}\a\n"
