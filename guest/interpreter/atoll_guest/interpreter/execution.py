"""One `run_code` on one kernel: environment, the code, its events. Pure planning of the requests; the run
itself.

A kernel of ours (`reads_metadata`) gets environment and re-seeding in the request's metadata; another
kernel gets silent executions before and after.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import languages, messages
from .kernel import Kernel, Output, Reply, Running
from .messages import Event
from .processes import Exit

Emit = Callable[[Event], Awaitable[None]]
_HOLD_SECONDS = 0.05


class Quiet:
    """Nothing came for a moment."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a client asks for. `access_token` opens envd's environment; a rehearsal is neither counted nor
    kept in the history.
    """

    code: str
    env_vars: Mapping[str, str] = field(default_factory=dict[str, str])
    access_token: str | None = None
    is_rehearsal: bool = False


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


def execute_content(code: str, *, silent: bool = False, is_kept: bool = True) -> dict[str, Any]:
    """An execute_request's content. `stop_on_error` is off: it would abort what we send next, and we queue
    ourselves.
    """
    return {
        "code": code,
        "silent": silent,
        "store_history": is_kept and not silent,
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


async def emit_events(running: Running, emit: Emit, limit: int, language: str) -> None:
    """Every event of the execution as it happens, but not the end. Raises KernelDied."""
    has_error = False
    held: Event | None = None
    while (item := await _next(running, is_holding=held is not None)) is not None:
        if held is not None:
            held["is_main_result"] = isinstance(item, Reply) and not has_error
            await emit(held)
            held = None
        if isinstance(item, Reply):
            events = _reply_events(item, has_error)
        elif isinstance(item, Output):
            events = messages.to_events(item.message, limit, language)
        else:
            continue
        for event in events:
            if event["type"] == "error":
                if has_error:
                    continue
                has_error = True
            elif event["type"] == "result" and running.displays_values and isinstance(item, Output):
                held = event
                continue
            await emit(event)
    if held is not None:  # the reply has another socket than the output, and was read first
        held["is_main_result"] = not has_error
        await emit(held)


async def _next(running: Running, *, is_holding: bool) -> Reply | Output | Quiet | None:
    """The next item. While a result is held back that may be the last, not for long."""
    try:
        async with asyncio.timeout(_HOLD_SECONDS if is_holding else None):
            return await running.next()
    except TimeoutError:
        return Quiet()


def _reply_events(reply: Reply, has_error: bool) -> list[Event]:
    """The reply repeats an error that was output already; kernels that only put it there are served, too."""
    content = reply.message.content
    if content.get("status") == "aborted":
        return [messages.error("ExecutionAborted", "Execution was aborted")]
    if content.get("status") == "error" and not has_error and content.get("ename"):
        return []  # the output channel tells it, and in order
    return messages.pages(content)


def died_event(exit: Exit, told: str | None, total_mib: int | None) -> Event:
    """The error of an execution whose kernel died: as envd `told`, when it ended it. Where nobody tells, a
    kill of a large process is the memory limit.
    """
    if exit.code == -9 and told:
        reason = told
    elif exit.code == -9 and total_mib and exit.max_rss_mib * 2 >= total_mib:
        reason = f"memory limit exceeded (used {exit.max_rss_mib} of {total_mib} MiB)"
    else:
        reason = f"the kernel died ({exit})"
    return messages.error("KernelDied", f"{reason}; the context was restarted and its variables are lost")
