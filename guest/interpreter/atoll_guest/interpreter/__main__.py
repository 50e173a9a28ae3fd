"""`python -m atoll_guest.interpreter`: start, serve until SIGTERM.

Environment: ATOLL_PRELOAD (modules the default Python kernel imports before it is ready, default
DEFAULT_PRELOAD, "" for none), ATOLL_REHEARSE (languages whose kernel is started and ended before that, for
a template; default none), ATOLL_WARMUP (a cell that the default Python kernel runs before that, default
none), ATOLL_INTERPRETER_PORT (default 49999), ATOLL_INTERPRETER_CWD (default /home/user, or the current
folder where that does not exist); outside of a sandbox also ATOLL_SANDBOX_ID_FILE and ATOLL_ENVD_ADDRESS
(host:port). `limits` has two more.
"""

import sys

sys.modules["ssl"] = None  # type: ignore[assignment]  # asyncio would load OpenSSL: 4 MB this service never uses

# ruff: noqa: E402
import asyncio
import logging
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path

from . import http
from .contexts import Contexts
from .identity import ENVD_ADDRESS, ID_FILE, Sandbox
from .limits import read_limits
from .processes import Children
from .server import EXTRA_HEADERS, Server
from .settle import settle

DEFAULT_PRELOAD = "numpy,pandas,matplotlib.pyplot"


async def run() -> None:
    """Serve until SIGTERM or SIGINT. The port opens when the default context is warm."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with AsyncExitStack() as stack:
        children = Children()
        children.open()
        stack.callback(children.close)
        limits = read_limits(os.environ)
        contexts = Contexts(
            children,
            _sandbox(),
            default_cwd=_cwd(),
            preload=_names("ATOLL_PRELOAD", DEFAULT_PRELOAD),
            rehearsed=_names("ATOLL_REHEARSE", ""),
            warmup=os.environ.get("ATOLL_WARMUP", ""),
            limits=limits,
        )
        stack.push_async_callback(contexts.close)
        await contexts.open()
        settle()
        port = int(os.environ.get("ATOLL_INTERPRETER_PORT", "49999"))
        listener = await http.serve(
            Server(contexts, limits).handle, "0.0.0.0", port, http.Settings(extra_headers=EXTRA_HEADERS)
        )
        stack.callback(listener.close)
        await stopped.wait()


def _sandbox() -> Sandbox:
    host, _, port = os.environ.get("ATOLL_ENVD_ADDRESS", "").rpartition(":")
    return Sandbox(
        Path(os.environ.get("ATOLL_SANDBOX_ID_FILE", ID_FILE)),
        (host, int(port)) if host else ENVD_ADDRESS,
    )


def _names(variable: str, default: str) -> tuple[str, ...]:
    names = os.environ.get(variable, default).split(",")
    return tuple(name.strip() for name in names if name.strip())


def _cwd() -> str:
    folder = os.environ.get("ATOLL_INTERPRETER_CWD", "/home/user")
    return folder if os.path.isdir(folder) else os.getcwd()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    asyncio.run(run())
