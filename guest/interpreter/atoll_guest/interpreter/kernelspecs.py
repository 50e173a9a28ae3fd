"""Finds the installed Jupyter kernels: kernel spec found → language works.

A spec is a folder with `kernel.json` in one of Jupyter's data folders (`jupyter kernelspec`'s own rule). A
template adds a language by putting one there. Two keys of `metadata` are ours: `atoll_transport` ("ipc" or
"tcp", default tcp) and `atoll_languages` (languages it serves beside the one it names).
"""

import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

_R_LIBRARIES = ("/usr/local/lib/R/site-library", "/usr/lib/R/site-library", "/usr/lib/R/library")
_IRKERNEL = "IRkernel::main()"
_OUR_IRKERNEL = f"source('{Path(__file__).parent / 'r_kernel' / 'start.R'}')"
_JAVA = Path("/opt/atoll/java")
_NODE_KERNEL = Path(__file__).parent / "node_kernel" / "main.js"
AMARO = Path(os.environ.get("ATOLL_AMARO", "/opt/atoll/node/node_modules/amaro"))
"""Node.js' own TypeScript-to-JavaScript module; `guest/interpreter/package.json` is what installs it."""

Transport = Literal["ipc", "tcp"]


@dataclass(frozen=True, slots=True)
class KernelSpec:
    """How to start a kernel: in `argv`, `{connection_file}` stands for the file's path."""

    language: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    interrupt_mode: Literal["signal", "message"] = "signal"
    transport: Transport = "tcp"
    drops_output: bool = True
    """Its output socket throws messages away when the reader is slow (ZeroMQ's default); ours wait."""
    reads_metadata: bool = False
    """The kernel takes environment and re-seeding from the request's metadata (our Python kernel)."""
    tells_all_in_output: bool = False
    """Its replies, which go through threads of libzmq, are not waited for: the output has all they say."""
    displays_values: bool = False
    """The kernel shows the value of an expression as it shows a display (IRkernel): the last one is the main
    result.
    """


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
        drops_output=False,
        reads_metadata=True,
        tells_all_in_output=True,
    )


def bash_spec() -> KernelSpec:
    """Our own, in this process's environment."""
    return KernelSpec(
        language="bash",
        argv=(
            *(sys.executable, "-P", "-m", "atoll_guest.interpreter.bash_kernel"),
            *("-f", "{connection_file}"),
        ),
        transport="ipc",
        drops_output=False,
    )


def node_spec(language: str) -> KernelSpec | None:
    """Our own for JavaScript and TypeScript; None without Node.js, or without the type stripper it needs."""
    node = shutil.which("node")
    if node is None or (language == "typescript" and not AMARO.is_dir()):
        return None
    return KernelSpec(
        language=language,
        argv=(node, "--no-warnings", str(_NODE_KERNEL), language, "{connection_file}"),
        env={"ATOLL_AMARO": str(AMARO)},
        interrupt_mode="message",
        transport="ipc",
        drops_output=False,
    )


def r_spec() -> KernelSpec | None:
    """IRkernel, which Debian installs without a kernel spec; None without it."""
    interpreter = shutil.which("R")
    if interpreter is None or not any(Path(folder, "IRkernel").is_dir() for folder in _R_LIBRARIES):
        return None
    return KernelSpec(
        language="r",
        argv=(interpreter, "--slave", "-e", _OUR_IRKERNEL, "--args", "{connection_file}"),
        displays_values=True,
    )


def java_spec() -> KernelSpec | None:
    """Our own on JShell, compiled where the languages' layer was made; None without it."""
    java = shutil.which("java")
    if java is None or not (_JAVA / "kernel.jar").is_file():
        return None
    return KernelSpec(
        language="java",
        argv=(
            *(java, "-XX:+UseSerialGC", "-Xshare:auto", f"-XX:SharedArchiveFile={_JAVA / 'kernel.jsa'}"),
            *("-Djava.awt.headless=true", "-cp", str(_JAVA / "kernel.jar"), "atoll.Main"),
            "{connection_file}",
        ),
        interrupt_mode="message",
        transport="ipc",
        drops_output=False,
    )


def _built_in(language: str) -> KernelSpec | None:
    match language:
        case "bash":
            return bash_spec()
        case "javascript" | "typescript":
            return node_spec(language)
        case "r":
            return r_spec()
        case "java":
            return java_spec()
        case _:
            return None


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
    """The first spec that serves `language`, else our own kernel. Raises NoKernel, which says what to do."""
    for spec, languages in _installed(folders if folders is not None else data_folders(os.environ)):
        if language in languages and shutil.which(spec.argv[0]):
            return spec
    own = _built_in(language)
    if own is not None:
        return own
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
    argv = tuple(_OUR_IRKERNEL if part == _IRKERNEL else part for part in argv)
    spec = KernelSpec(
        language=language,
        argv=argv,
        env={str(name): str(value) for name, value in env.items()},
        interrupt_mode=interrupt_mode,
        transport=transport,
        displays_values=language == "r",
    )
    return spec, frozenset((language, *metadata.get("atoll_languages", ())))
