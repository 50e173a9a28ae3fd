# ruff: noqa: E402
"""`python -m atoll_guest.interpreter.python_kernel -f CONNECTION_FILE`: launch the kernel."""

import sys

sys.modules["debugpy"] = None  # type: ignore[assignment]  # ipykernel would load the debugger: 7 MB, 0.1 s

from .app import SandboxKernelApp, prepare_environment

prepare_environment()
app = SandboxKernelApp.instance()
app.initialize()
del sys.modules["debugpy"]  # the user's code may import it
app.start()
