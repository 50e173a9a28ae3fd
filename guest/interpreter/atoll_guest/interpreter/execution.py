"""One `run_code` on one kernel: environment, the code, its events. Pure planning of the requests; the run
itself.

A kernel of ours (`reads_metadata`) gets environment and re-seeding in the request's metadata; another
kernel gets silent executions before and after.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import languages, messages
from .kernel import Kernel, Reply, Running
from .messages import Event
from .processes import Exit

Emit = Callable[[Event], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Call:
    """What a client asks for. `access_token` opens envd's environment."""

    code: str
    env_vars: Mapping[str, str] = field(default_factory=dict[str, str])
    access_token: str | None = None


@dataclass(frozen=True, slots=True)
class Environment:
    """The environment around one execution.

    `new_globals` are to be set for good (None: as they are), `base` is what a variable goes back to,
    `reseed` says that the kernel runs in a clone for the first time.
    """

    per_call: Mapping[str, str]
    base: Mapping[str, str]
    new_globals: Mapping[str, str] | None = None
    reseed: bool = False

    def before(self, language: str) -> str:
        """Code for a kernel that does not read metadata."""
        wanted = {**(self.new_globals or {}), **self.per_call}
        return languages.environment_code(language, languages.Assignment(wanted)) if wanted else ""

    def after(self, language: str) -> str:
        if not self.per_call:
            return ""
        return languages.environment_code(language, languages.plan_undo(self.per_call, self.base))

    def metadata(self) -> dict[str, Any]:
        """The key `atoll` of the request's metadata, for `python_kernel`."""
        order: dict[str, Any] = {}
        if self.per_call:
            order["env"] = dict(self.per_call)
        if self.new_globals is not None:
            order["globals"] = dict(self.new_globals)
        if self.reseed:
            order["reseed"] = True
        return {"atoll": order} if order else {}


def execute_content(code: str, *, silent: bool = False) -> dict[str, Any]:
    """An execute_request's content. `stop_on_error` is off: it would abort what we send next, and we queue
    ourselves.
    """
    return {
        "code": code,
        "silent": silent,
        "store_history": not silent,
        "user_expressions": {},
        "allow_stdin": False,
        "stop_on_error": False,
    }


async def run_silently(kernel: Kernel, code: str, metadata: Mapping[str, Any] | None = None) -> None:
    """Run code whose output nobody sees. Raises KernelDied."""
    running = await kernel.begin("execute_request", execute_content(code, silent=True), metadata)
    try:
        await running.finish()
    finally:
        running.close()


async def emit_events(running: Running, emit: Emit) -> None:
    """Every event of the execution as it happens, but not the end. Raises KernelDied."""
    has_error = False
    while (item := await running.next()) is not None:
        events = (
            _reply_events(item, has_error) if isinstance(item, Reply) else messages.to_events(item.message)
        )
        for event in events:
            if event["type"] == "error":
                if has_error:
                    continue
                has_error = True
            await emit(event)


def _reply_events(reply: Reply, has_error: bool) -> list[Event]:
    """The reply repeats an error that was output already; kernels that only put it there are served, too."""
    content = reply.message.content
    if content.get("status") == "aborted":
        return [messages.error("ExecutionAborted", "Execution was aborted")]
    if content.get("status") == "error" and not has_error and content.get("ename"):
        return []  # the output channel tells it, and in order
    return messages.pages(content)


def died_event(exit: Exit, total_mib: int | None) -> Event:
    """The error of an execution whose kernel died. A kill by the system of a large process is the memory
    limit.
    """
    if exit.code == -9 and total_mib and exit.max_rss_mib * 2 >= total_mib:
        reason = f"memory limit exceeded (used {exit.max_rss_mib} of {total_mib} MiB)"
    else:
        reason = f"the kernel died ({exit})"
    return messages.error("KernelDied", f"{reason}; the context was restarted and its variables are lost")


def memory_mib(field_name: str, path: Path = Path("/proc/meminfo")) -> int | None:
    """MemTotal or MemAvailable."""
    try:
        for line in path.read_text().splitlines():
            if line.startswith(field_name + ":"):
                return int(line.split()[1]) // 1024
    except (OSError, ValueError, IndexError):
        return None
    return None
