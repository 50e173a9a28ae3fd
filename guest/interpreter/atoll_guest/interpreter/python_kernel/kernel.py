"""ipykernel's kernel, which also reads the service's order in a request's metadata (key `atoll`):

env      {name: value}  set for this execution, taken back after it, also after an error
globals  {name: value}  set for good
reseed   bool           this process may be a clone: draw fresh random state
rewind   bool           forget what uncounted executions left in `_`, `Out` and `sys.last_…`
settle   bool           after this execution, make ready for a snapshot (see `settle`)
"""

import asyncio
import os
import signal
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from ipykernel.ipkernel import IPythonKernel

from atoll_guest.interpreter.settle import settle

from . import entropy
from .streams import drain


class SandboxKernel(IPythonKernel):
    """See the module's text."""

    _wakes_on_signals = False

    async def do_execute(
        self,
        code: str,
        silent: bool,
        store_history: bool = True,
        user_expressions: Any = None,
        allow_stdin: bool = False,
        *,
        cell_meta: Any = None,
        cell_id: Any = None,
    ) -> Any:
        self._wake_on_signals()
        metadata: Mapping[str, Any] = cell_meta or {}
        order: Mapping[str, Any] = metadata.get("atoll") or {}
        if order.get("reseed"):
            entropy.reseed()
        os.environ.update(order.get("globals") or {})
        try:
            with _variables(order.get("env") or {}):
                reply: Any = await super().do_execute(  # pyright: ignore[reportUnknownMemberType]
                    code,
                    silent,
                    store_history,
                    user_expressions,
                    allow_stdin,
                    cell_meta=cell_meta,
                    cell_id=cell_id,
                )
            self._show_pages(reply)
            return reply
        finally:
            drain(self.iopub_thread)
            if order.get("rewind"):
                self._rewind()
            if order.get("settle"):
                settle()

    def _show_pages(self, reply: Any) -> None:
        """Help pages (`name?`) are in the reply only, which nobody waits for."""
        shell: Any = self.shell
        payload: list[Any] = reply.get("payload") or []
        for page in payload:
            if page.get("source") == "page":
                shell.display_pub.publish(data=page["data"], metadata={})
        reply["payload"] = [each for each in payload if each.get("source") != "page"]

    def _rewind(self) -> None:
        shell: Any = self.shell
        shell.displayhook.flush()
        shell.history_manager.reset(new_session=False)
        for name in ("last_exc", "last_type", "last_value", "last_traceback"):
            if hasattr(sys, name):
                delattr(sys, name)

    def _wake_on_signals(self) -> None:
        """Let a signal wake the event loop: ipykernel's interrupt of `await …` adds a callback from its
        signal handler, which a sleeping loop would only see when something else wakes it. Any handler of
        asyncio's own sets the descriptor that does this.
        """
        if not self._wakes_on_signals:
            asyncio.get_running_loop().add_signal_handler(signal.SIGWINCH, _ignore)
            self._wakes_on_signals = True


def _ignore() -> None:
    pass


@contextmanager
def _variables(per_call: Mapping[str, str]) -> Generator[None]:
    """Set, and on leaving give each the value it had."""
    before = {name: os.environ.get(name) for name in per_call}
    os.environ.update(per_call)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
