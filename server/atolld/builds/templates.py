"""The templates that come with Atoll: what each starts from, runs, and may use."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace

from atolld.builds.roots import BASE, CODE_INTERPRETER, LANGUAGES, Recipe
from atolld.model.sandbox import Resources

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


_TABLE = """
import pandas as _pandas
_pandas.DataFrame({"key": [1, 2, 1], "value": [0.5, 1.5, 2.5]}).groupby("key").value.mean().sum()
del _pandas
"""
"""What many first cells do: the template has loaded all of it, and the pages that it writes are a warm
sandbox's own by then."""


@dataclass(frozen=True, slots=True)
class TemplateRecipe:
    name: str
    template_id: str
    """The same on every machine, so that a client may keep it."""
    root: Recipe
    resources: Resources
    path: str = _PATH
    """``PATH`` of every command, also of those whose shell reads no login files."""
    start_command: str | None = None
    """Runs on in the snapshot; started as `user` in its home, once, when the template is built."""
    ready_command: str | None = None
    """Exits 0 when the start command is ready to be kept."""
    warmup: str | None = None
    """As in the manifest."""


_TEMPLATES = (
    TemplateRecipe("base", "atollbase00000000001", BASE, Resources(vcpu=2, memory_mib=1024)),
    TemplateRecipe(
        "code-interpreter-v1",
        "atollcode00000000001",
        CODE_INTERPRETER,
        Resources(vcpu=2, memory_mib=2048),
        path=f"/opt/python/bin:{_PATH}",
        start_command=(
            f"ATOLL_REHEARSE=bash,javascript,typescript,r,java ATOLL_WARMUP={shlex.quote(_TABLE)} "
            "PYTHONPATH=/opt/atoll/interpreter exec python -m atoll_guest.interpreter"
        ),
        ready_command="curl --silent --fail --max-time 5 --output /dev/null http://localhost:49999/health",
        warmup=_TABLE,
    ),
)
TEMPLATES: Mapping[str, TemplateRecipe] = {template.name: template for template in _TEMPLATES}
FULLER: Mapping[str, TemplateRecipe] = {
    "code-interpreter-v1": replace(TEMPLATES["code-interpreter-v1"], root=LANGUAGES)
}
"""The same templates on a root with more in it: a build of one serves whoever asks for the other."""
