# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportPrivateUsage=false
"""The kernel application: ipykernel's, less what costs CPU while idle or memory, plus our streams and
hooks.
"""

import gc
import os
import sys
from pathlib import Path
from typing import Any

from ipykernel.kernelapp import IPKernelApp
from traitlets.config import Config

from . import formatters, images, warm
from .kernel import SandboxKernel
from .publisher import Publisher
from .streams import OutputThread

PRELOAD_VARIABLE = "ATOLL_KERNEL_PRELOAD"


def prepare_environment() -> None:
    """Take from the environment what is ours, so that the user's processes do not see it."""
    ours = str(Path(__file__).parents[3])
    kept = [part for part in os.environ.pop("PYTHONPATH", "").split(os.pathsep) if part and part != ours]
    if kept:
        os.environ["PYTHONPATH"] = os.pathsep.join(kept)
    if ours in sys.path:  # last, so that it shadows nothing of the user's
        sys.path.remove(ours)
        sys.path.append(ours)


class SandboxKernelApp(IPKernelApp):
    """See the module's text."""

    kernel_class: Any = SandboxKernel
    outstream_class: Any = "atoll_guest.interpreter.python_kernel.streams.SandboxStream"

    def initialize(self, argv: Any = None) -> None:
        preload = os.environ.pop(PRELOAD_VARIABLE, "")
        self.update_config(_settings())
        super().initialize(argv)
        if "" not in sys.path:  # `-P` kept the working folder out while the kernel was loaded
            sys.path.insert(0, "")
        shell: Any = self.shell
        formatters.install(shell)
        images.install()
        if preload:
            warm.preload(preload.split(","), shell)
        gc.collect()

    def init_poller(self) -> None:
        """None: the parent kills us when it wants, and a poll each second would keep the sandbox awake."""

    def init_heartbeat(self) -> None:
        """None: the service sees the process's end itself."""

    def init_iopub(self, context: Any) -> None:
        """Without libzmq: see `publisher`."""
        publisher = Publisher(f"{self.ip}-{self.iopub_port}", context)
        self.configure_tornado_logger()
        self.iopub_thread = OutputThread(publisher)
        self.iopub_thread.start()
        self.iopub_socket: Any = self.iopub_thread.background_socket

    def log_connection_info(self) -> None:
        """Not printed: it would be the first output of the kernel."""
        self._ports = {
            "shell": self.shell_port,
            "iopub": self.iopub_port,
            "stdin": self.stdin_port,
            "hb": self.hb_port,
            "control": self.control_port,
        }


def _settings() -> Config:
    config = Config()
    config.InteractiveShell.colors = "nocolor"
    config.PlainTextFormatter.max_seq_length = 0
    config.HistoryManager.enabled = False  # no database, no thread; In and Out work
    config.IPKernelApp.log_level = "ERROR"
    config.SandboxKernel._execute_sleep = (
        0  # ours flush synchronously; the pause is half a millisecond per execution
    )
    return config
