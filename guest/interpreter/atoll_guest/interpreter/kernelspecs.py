"""Finds the installed Jupyter kernels: kernel spec found → language works.

A spec is a folder with `kernel.json` in one of Jupyter's data folders (`jupyter kernelspec`'s own rule). A
template adds a language by putting one there. Two keys of `metadata` are ours: `atoll_transport` ("ipc" or
"tcp", default tcp) and `atoll_languages` (languages it serves beside the one it names).
"""

import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Transport = Literal["ipc", "tcp"]


@dataclass(frozen=True, slots=True)
class KernelSpec:
    """How to start a kernel: in `argv`, `{connection_file}` stands for the file's path."""

    language: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    interrupt_mode: Literal["signal", "message"] = "signal"
    transport: Transport = "tcp"
    reads_metadata: bool = False
    """The kernel takes environment and re-seeding from the request's metadata (our Python kernel)."""


class NoKernel(LookupError):
    """No installed kernel runs this language: the caller's fault, or the template lacks it."""


def python_spec(*, preload: Iterable[str] = ()) -> KernelSpec:
    """ipykernel with our formatters and streams, in this process's own environment."""
    return KernelSpec(
        language="python",
        argv=(
            *(sys.executable, "-P", "-m", "atoll_guest.interpreter.python_kernel"),
            *("-f", "{connection_file}"),
        ),
        env={"ATOLL_KERNEL_PRELOAD": ",".join(preload)},
        transport="ipc",
        reads_metadata=True,
    )


def data_folders(environ: Mapping[str, str]) -> list[Path]:
    """Jupyter's kernel folders, the most specific first."""
    roots = [Path(part) for part in environ.get("JUPYTER_PATH", "").split(":") if part]
    home = environ.get("HOME")
    if home:
        roots.append(Path(environ.get("XDG_DATA_HOME") or f"{home}/.local/share") / "jupyter")
    roots += [
        Path(sys.prefix) / "share/jupyter",
        Path("/usr/local/share/jupyter"),
        Path("/usr/share/jupyter"),
    ]
    return [root / "kernels" for root in roots]


def find(language: str, folders: Iterable[Path] | None = None) -> KernelSpec:
    """The first spec that serves `language`. Raises NoKernel, whose text says what to do."""
    for spec, languages in _installed(folders if folders is not None else data_folders(os.environ)):
        if language in languages:
            return spec
    raise NoKernel(
        f"no kernel for language {language!r} is installed in this sandbox; "
        "`./atoll setup --all` on the host adds every language the code interpreter knows"
    )


def _installed(folders: Iterable[Path]) -> Iterable[tuple[KernelSpec, frozenset[str]]]:
    for folder in folders:
        for path in sorted(folder.glob("*/kernel.json")):
            try:
                yield parse(json.loads(path.read_text()), path.parent)
            except (OSError, ValueError, KeyError, TypeError):
                continue  # a broken spec of someone else's must not take the other languages with it


def parse(document: Mapping[str, Any], folder: Path) -> tuple[KernelSpec, frozenset[str]]:
    """A kernel.json and the languages it serves. Raises KeyError, TypeError, ValueError."""
    metadata: Mapping[str, Any] = document.get("metadata") or {}
    env: Mapping[str, Any] = document.get("env") or {}
    language = str(document["language"]).lower()
    transport = metadata.get("atoll_transport", "tcp")
    interrupt_mode = document.get("interrupt_mode", "signal")
    if transport not in ("ipc", "tcp") or interrupt_mode not in ("signal", "message"):
        raise ValueError(f"{folder}: unknown transport or interrupt mode")
    argv = tuple(str(part).replace("{resource_dir}", str(folder)) for part in document["argv"])
    spec = KernelSpec(
        language=language,
        argv=argv,
        env={str(name): str(value) for name, value in env.items()},
        interrupt_mode=interrupt_mode,
        transport=transport,
    )
    return spec, frozenset((language, *metadata.get("atoll_languages", ())))
