"""What a check says, and what it looks at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from atolld.builds.builder import OpenNode
from atolld.builds.tools import run_tool
from atolld.config import Config
from atolld.model.errors import AtollError


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"
    """Something will not work as well as it could."""
    FAILED = "failed"
    """Atoll does not work until it is mended."""


@dataclass(frozen=True, slots=True)
class Finding:
    name: str
    verdict: Verdict
    detail: str
    mend: str = ""
    """The command, or the setting, that mends it; empty when all is well."""


@dataclass(frozen=True, slots=True)
class Patient:
    """The machine, by the settings a server on it would have."""

    config: Config
    environ: Mapping[str, str]
    open_node: OpenNode


Check = Callable[[Patient], Awaitable[Finding]]


def ok(name: str, detail: str) -> Finding:
    return Finding(name, Verdict.OK, detail)


def warn(name: str, detail: str, mend: str) -> Finding:
    return Finding(name, Verdict.WARNING, detail, mend)


def fail(name: str, detail: str, mend: str) -> Finding:
    return Finding(name, Verdict.FAILED, detail, mend)


async def attempt(name: str, arguments: list[str], *, detail: str, mend: str) -> Finding:
    """A check that is one command: it succeeds, or its last words are what is wrong."""
    try:
        await run_tool(arguments, report=lambda _: None)
    except AtollError as error:
        return fail(name, error.message, mend)
    return ok(name, detail)
