"""PIL images: `save` to a path also displays the image, `show` displays it instead of opening a viewer."""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, cast


def install() -> None:
    """Now if PIL is loaded, else as soon as it is."""
    module = sys.modules.get("PIL.Image")
    if module is not None:
        patch(module)
    else:
        sys.meta_path.insert(0, _AfterImport("PIL.Image", patch))


def patch(module: Any) -> None:
    """Replaces the two methods of `PIL.Image.Image`."""
    original_save = module.Image.save

    def save(self: Any, fp: Any, format: Any = None, **params: Any) -> None:
        original_save(self, fp, format, **params)
        frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
        caller = frame.f_globals.get("__name__", "")
        if isinstance(fp, str) and not str(caller).startswith("matplotlib"):  # a figure shows itself
            _display(self)

    def show(self: Any, *_args: Any, **_options: Any) -> None:
        _display(self)

    save.__doc__, show.__doc__ = original_save.__doc__, module.Image.show.__doc__
    module.Image.save, module.Image.show = save, show


def _display(value: Any) -> None:
    import IPython.display

    cast("Any", IPython.display).display(value)


class _AfterImport(importlib.abc.MetaPathFinder):
    """Calls `then` once, after the module has been executed."""

    def __init__(self, name: str, then: Callable[[ModuleType], None]) -> None:
        self._name = name
        self._then = then

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._then)
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: Any, then: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._then = then

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._then(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
