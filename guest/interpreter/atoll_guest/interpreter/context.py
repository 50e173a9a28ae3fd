"""A context: a kernel with a language and a working directory that keeps variables between executions.

Executions of one context queue (first come, first served); different contexts run side by side. A context
outlives its kernel: when the kernel dies it gets a new one at once.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from . import memory, messages
from .execution import (
    Call,
    Emit,
    Environment,
    died_event,
    emit_events,
    execute_content,
    run_silently,
)
from .happenings import why_ended
from .identity import Sandbox
from .kernel import Kernel, KernelDied, KernelError, Running, start_environment, start_kernel
from .kernelspecs import KernelSpec
from .limits import Limits
from .processes import Children

_log = logging.getLogger(__name__)

INTERRUPT_SECONDS = 5.0
_ACCEPT_SECONDS = 1.0
_INTERRUPT_AGAIN_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class ContextInfo:
    """A context on the wire."""

    id: str
    language: str
    cwd: str


class Context:
    """Made by `Contexts`; has a kernel from then on."""

    def __init__(
        self,
        info: ContextInfo,
        spec: KernelSpec,
        children: Children,
        sandbox: Sandbox,
        *,
        limits: Limits,
        first_spec: KernelSpec | None = None,
    ) -> None:
        """`first_spec` is for the first start only: a preloaded kernel is worth its time in a template, not
        later.
        """
        self.info = info
        self.removed = False
        self._spec = spec
        self._first_spec = first_spec
        self._children = children
        self._sandbox = sandbox
        self._limits = limits
        self._turn = asyncio.Lock()
        self._starting: asyncio.Task[Kernel] | None = None
        self._seen_id: str | None = None
        self._has_globals = False
        self._base_environment: Mapping[str, str] = {}
        self._notice = ""
        self._background: set[asyncio.Task[None]] = set()

    # --- kernel

    async def start(self) -> Kernel:
        """The kernel, started if it is not. Raises KernelError. Cancelling the wait does not stop the
        start.
        """
        if self._starting is None or (self._starting.done() and self._starting.exception() is not None):
            self._starting = asyncio.create_task(self._start())
        return await asyncio.shield(self._starting)

    async def _start(self) -> Kernel:
        self._base_environment = start_environment()
        self._seen_id = None
        self._has_globals = False
        spec, self._first_spec = self._first_spec or self._spec, None
        kernel = await start_kernel(
            self._children,
            spec,
            cwd=self.info.cwd,
            env=self._base_environment,
            max_message=self._limits.result_bytes,
        )
        kernel.exit.add_done_callback(lambda _: self._on_exit(kernel))
        return kernel

    def _on_exit(self, kernel: Kernel) -> None:
        """A kernel that ended by itself gets a successor at once, so that the next execution need not
        wait.
        """
        if self.removed or kernel.was_stopped:
            return
        self._notice = (
            f"The kernel died ({kernel.exit.result()}) and was restarted; its variables are lost.\n"
        )
        self._starting = None
        self._spawn(self._revive(kernel))

    async def _revive(self, dead: Kernel) -> None:
        await dead.stop()
        with contextlib.suppress(KernelError):  # the next execution tries again, and tells
            await self.start()

    async def restart(self) -> None:
        """A fresh kernel; what runs ends with an error. Raises KernelError."""
        self._starting = asyncio.create_task(self._replace(self._starting))
        await asyncio.shield(self._starting)

    async def _replace(self, previous: "asyncio.Task[Kernel] | None") -> Kernel:
        await _stop_started(previous)
        return await self._start()

    async def stop(self) -> None:
        """Remove: the kernel and its memory are gone when this returns; what runs or waits ends with an
        error.
        """
        self.removed = True
        await _stop_started(self._starting)
        for task in list(self._background):
            with contextlib.suppress(asyncio.CancelledError):
                await task

    # --- execution

    async def warm_up(self, cells: Sequence[str], emit: Emit) -> None:
        """Run cells as a client's, without a trace in counter and history: what they load and touch is there
        for the first client. Raises KernelError, KernelDied.
        """
        async with self._turn:
            kernel = await self.start()
            self._seen_id = None  # so that the environment is asked for and random state drawn, too
            for cell in cells:
                await self._execute(Call(cell, is_rehearsal=True), emit)
            await run_silently(kernel, "None", {"atoll": {"rewind": True}})
            self._seen_id = None

    async def run_cell(self, cell: str) -> None:
        """Run a cell that is neither counted nor kept in the history. Raises CellFailed."""
        errors: list[str] = []

        async def note(event: messages.Event) -> None:
            if event["type"] == "error":
                errors.append(f"{event['name']}: {event['value']}")

        await self.execute(Call(cell, is_rehearsal=True), note)
        if errors:
            raise CellFailed(errors[0])

    async def execute(self, call: Call, emit: Emit) -> None:
        """Run the code when its turn comes; `emit` gets each event, the end last.

        When cancelled (the client left) the running code is interrupted, and the turn passes on once it has
        stopped.
        """
        await self._turn.acquire()
        afterwards: Coroutine[Any, Any, None] | None = None
        try:
            afterwards = await self._execute(call, emit)
            await emit(messages.END)
        except _Abandoned as abandoned:
            afterwards = self._settle(abandoned.kernel, abandoned.running, abandoned.environment)
            raise asyncio.CancelledError from None
        finally:
            if afterwards is None:
                self._turn.release()
            else:
                self._spawn(self._pass_turn_after(afterwards))

    async def _execute(self, call: Call, emit: Emit) -> Coroutine[Any, Any, None] | None:
        """Returns what is left to do before the next execution may begin."""
        if self.removed:
            await emit(messages.error("ExecutionAborted", "Execution was aborted"))
            return None
        try:
            kernel = await self.start()
        except KernelError as error:
            await emit(messages.error("KernelDied", f"the context's kernel could not be started: {error}"))
            return None
        await self._tell_notice(emit)
        try:
            environment = await self._environment(call)
            await self._run(kernel, call, environment, emit)
        except KernelDied as died:
            await emit(self._death_event(kernel, died))
            return None
        return self._undo(kernel, environment)

    async def _run(self, kernel: Kernel, call: Call, environment: Environment, emit: Emit) -> None:
        """Raises KernelDied, _Abandoned."""
        metadata = environment.metadata() if kernel.spec.reads_metadata else None
        before = "" if kernel.spec.reads_metadata else environment.before(self.info.language)
        if before:
            await run_silently(kernel, before)
        content = execute_content(call.code, is_kept=not call.is_rehearsal)
        running = await kernel.begin("execute_request", content, metadata)
        try:
            await emit_events(running, emit, self._limits.result_bytes, kernel.spec.language)
        except asyncio.CancelledError:
            raise _Abandoned(kernel, running, environment) from None
        running.close()

    def _undo(self, kernel: Kernel, environment: Environment) -> Coroutine[Any, Any, None] | None:
        after = "" if kernel.spec.reads_metadata else environment.after(self.info.language)
        return run_silently(kernel, after) if after else None

    async def _environment(self, call: Call) -> Environment:
        """What to set for this call. envd is asked once per kernel and sandbox, or until it answers."""
        current = self._sandbox.current_id()
        is_new = current != self._seen_id
        self._seen_id = current
        new_globals: Mapping[str, str] | None = None
        if is_new or not (self._has_globals or call.is_rehearsal):
            new_globals = await self._sandbox.global_environment(call.access_token)
            self._has_globals = new_globals is not None
            self._base_environment = {**self._base_environment, **(new_globals or {})}
        return Environment(call.env_vars, self._base_environment, new_globals, reseed=is_new)

    def _death_event(self, kernel: Kernel, died: KernelDied) -> messages.Event:
        self._notice = ""  # this execution is told by its error
        if not kernel.was_stopped:
            return died_event(died.exit, why_ended(kernel.pid), memory.total_mib())
        if self.removed:
            return messages.error("ExecutionAborted", "Execution was aborted")
        return messages.error("ContextRestarting", "Context was restarted")

    async def _tell_notice(self, emit: Emit) -> None:
        notice, self._notice = self._notice, ""
        if notice:
            await emit(messages.stream("stderr", notice, datetime.now(UTC).isoformat()))

    async def _settle(self, kernel: Kernel, running: Running, environment: Environment) -> None:
        """Stop code whose client has left; a kernel that does not stop is replaced."""
        try:
            async with asyncio.timeout(INTERRUPT_SECONDS):
                with contextlib.suppress(TimeoutError):  # an interrupt before the code begins would be lost
                    async with asyncio.timeout(_ACCEPT_SECONDS):
                        while not running.accepted and await running.next() is not None:
                            pass
                await _interrupt_until_finished(kernel, running)
            await (self._undo(kernel, environment) or _nothing())
        except TimeoutError:
            running.close()
            self._notice = (
                f"The kernel did not stop within {INTERRUPT_SECONDS:.0f} s after an interrupt and was "
                "restarted; its variables are lost.\n"
            )
            with contextlib.suppress(KernelError):
                await self.restart()
        except KernelDied:
            pass
        finally:
            running.close()

    async def _pass_turn_after(self, work: Awaitable[None]) -> None:
        try:
            await work
        except KernelDied:
            pass
        finally:
            self._turn.release()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


class CellFailed(Exception):
    """A cell of the template's ended with an error, which the text names."""


class _Abandoned(Exception):
    """The client left while its code ran."""

    def __init__(self, kernel: Kernel, running: Running, environment: Environment) -> None:
        super().__init__()
        self.kernel = kernel
        self.running = running
        self.environment = environment


async def _interrupt_until_finished(kernel: Kernel, running: Running) -> None:
    """Again after a second: code that was just being compiled, or caught the first one, may not have seen
    it.
    """
    while not running.finished:
        await kernel.interrupt()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_INTERRUPT_AGAIN_SECONDS):
                await running.finish()


async def _nothing() -> None:
    return None


async def _stop_started(starting: "asyncio.Task[Kernel] | None") -> None:
    if starting is None:
        return
    with contextlib.suppress(KernelError):
        kernel = await asyncio.shield(starting)
        await kernel.stop()
