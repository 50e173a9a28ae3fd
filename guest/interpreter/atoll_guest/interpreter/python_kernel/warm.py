"""Imports what most programs use, and uses it once, so that a memory snapshot of this kernel is warm."""

import contextlib
import importlib
import sys
from collections.abc import Iterable
from typing import Any


def preload(names: Iterable[str], shell: Any) -> None:
    """Modules that are missing or broken are left out: the user's own import will say why."""
    for name in names:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    with contextlib.suppress(Exception):
        _use(shell)


def _use(shell: Any) -> None:
    shell.display_formatter.format({"a": [1, 2.5, None]})
    _fail(shell)
    pandas: Any = sys.modules.get("pandas")
    if pandas is not None:
        shell.display_formatter.format(pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]}))
    pyplot: Any = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        _draw(shell, pyplot)


def _fail(shell: Any) -> None:
    """The first traceback loads what formats them: 60 ms."""
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        shell.InteractiveTB.structured_traceback(*sys.exc_info())


def _draw(shell: Any, pyplot: Any) -> None:
    """A figure loads the fonts and the renderer."""
    figure, axes = pyplot.subplots(figsize=(2, 1))
    axes.plot([0, 1], [0, 1])
    axes.set_title("warm")
    shell.display_formatter.format(figure)
    pyplot.close(figure)
