"""All contexts of the sandbox: create, list, find, restart, remove; the default one of each language."""

import asyncio
import contextlib
import os
import uuid

from . import kernelspecs, memory
from .context import Context, ContextInfo
from .execution import Emit, run_silently
from .identity import Sandbox
from .kernel import KernelDied, KernelError
from .kernelspecs import NoKernel
from .limits import Limits
from .messages import Event
from .processes import Children

MIN_FREE_MIB = 48
"""A new kernel needs about this much; with less it would end another process at the memory limit."""

_REHEARSAL = ("1 + 1", "print(1)", "raise ZeroDivisionError", "{'a': [1, None]}")
_ROUNDS = 3


async def _nowhere(_event: Event) -> None:
    """Where the events of a template's rehearsal go."""


class ContextNotFound(LookupError):
    """The caller named a context that does not exist (any more)."""


class ContextFailed(Exception):
    """A context could not be created or restarted; the text says why."""


class Contexts:
    """All contexts of the sandbox. `open` makes the default Python context, warmed by `preload`."""

    def __init__(
        self,
        children: Children,
        sandbox: Sandbox,
        *,
        default_cwd: str,
        preload: tuple[str, ...] = (),
        rehearsed: tuple[str, ...] = (),
        warmup: str = "",
        limits: Limits | None = None,
    ) -> None:
        """`rehearsed`: languages whose kernel runs once before the first client comes; `warmup`: a cell that
        the default Python context runs until all it needs is loaded."""
        self._limits = limits or Limits()
        self._children = children
        self._sandbox = sandbox
        self._default_cwd = default_cwd
        self._preload = preload
        self._rehearsed = rehearsed
        self._warmup = warmup
        self._contexts: dict[str, Context] = {}
        self._defaults: dict[str, asyncio.Task[Context]] = {}

    async def open(self) -> None:
        """The default JavaScript context is listed from the beginning, but gets its kernel on first use: most
        sandboxes never need its memory. Raises ContextFailed, CellFailed.
        """
        for language in self._rehearsed:
            await self._rehearse_start(language)
        context = await self.default("python", preload=self._preload)
        for _ in range(_ROUNDS if self._warmup else 0):
            await context.run_cell(self._warmup)
        await self.warm_up()
        await run_silently(await context.start(), "None", {"atoll": {"settle": True}})
        with contextlib.suppress(ContextFailed):  # where Node.js is installed
            self._defaults["javascript"] = asyncio.create_task(self.create("javascript", None, start=False))
            await self._defaults["javascript"]

    async def _rehearse_start(self, language: str) -> None:
        """A start finds its files where an earlier one of the same system has looked; nothing runs on."""
        with contextlib.suppress(ContextFailed):  # of those that are installed
            context = await self.create(language, None)
            with contextlib.suppress(KernelError, KernelDied):
                await context.warm_up(("1",), _nowhere)
            await self.remove(context.info.id)

    async def run_cell(self, cell: str) -> None:
        """A template's cell in the default Python context; its variables stay. Raises ContextFailed,
        CellFailed.
        """
        await (await self.default("python")).run_cell(cell)

    async def warm_up(self, emit: Emit = _nowhere) -> None:
        """Rehearse executions in the default Python context, so that the first client's finds all loaded and
        touched; `emit` gets their events. Raises ContextFailed.
        """
        context = await self.default("python")
        try:
            await context.warm_up(_REHEARSAL * _ROUNDS, emit)
        except (KernelError, KernelDied) as error:
            raise ContextFailed(str(error)) from error

    async def close(self) -> None:
        await asyncio.gather(*(self.remove(context_id) for context_id in list(self._contexts)))

    def list(self) -> list[ContextInfo]:
        return [context.info for context in self._contexts.values()]

    def get(self, context_id: str) -> Context:
        """Raises ContextNotFound."""
        try:
            return self._contexts[context_id]
        except KeyError:
            raise ContextNotFound(context_id) from None

    async def default(self, language: str, *, preload: tuple[str, ...] = ()) -> Context:
        """The language's default context, made on first use. Raises ContextFailed."""
        task = self._defaults.get(language)
        if task is None or (task.done() and (task.exception() or task.result().removed)):
            task = asyncio.create_task(self.create(language, None, preload=preload))
            self._defaults[language] = task
        return await asyncio.shield(task)

    async def create(
        self, language: str, cwd: str | None, *, preload: tuple[str, ...] = (), start: bool = True
    ) -> Context:
        """Raises ContextFailed; then nothing is left of it."""
        folder = cwd or self._default_cwd
        try:
            spec = kernelspecs.python_spec() if language == "python" else kernelspecs.find(language)
        except NoKernel as error:
            raise ContextFailed(str(error)) from error
        _check_folder(folder)
        if start:
            _check_memory()
        info = ContextInfo(str(uuid.uuid4()), language, folder)
        first_spec = kernelspecs.python_spec(preload=preload) if preload else None
        context = Context(
            info, spec, self._children, self._sandbox, limits=self._limits, first_spec=first_spec
        )
        if start:
            await _start(context)
        self._contexts[info.id] = context
        return context

    async def restart(self, context_id: str) -> None:
        """Raises ContextNotFound, ContextFailed."""
        try:
            await self.get(context_id).restart()
        except KernelError as error:
            raise ContextFailed(str(error)) from error

    async def remove(self, context_id: str) -> None:
        """Raises ContextNotFound."""
        context = self.get(context_id)
        del self._contexts[context_id]
        await context.stop()


async def _start(context: Context) -> None:
    try:
        await context.start()
    except KernelError as error:
        raise ContextFailed(str(error)) from error
    except asyncio.CancelledError:
        await asyncio.shield(context.stop())
        raise


def _check_folder(folder: str) -> None:
    if not os.path.isdir(folder):
        raise ContextFailed(f"the working directory {folder!r} does not exist; create it first")


def _check_memory() -> None:
    free = memory.available_mib()
    if free is not None and free < MIN_FREE_MIB:
        raise ContextFailed(
            f"memory: a new kernel needs about {MIN_FREE_MIB} MiB and {free} MiB are free; "
            "remove a context first"
        )
