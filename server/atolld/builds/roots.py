"""Makes the root images: ``roots/<name>-<key>.erofs`` and, beside each, the ``.json`` that vouches for it.

Three stages, each keyed by what it is made from, each written under another name and renamed when whole:

- a tree: Debian's packages and our recipe, ``cache/trees/<name>-<key>/``. The first is made by mmdebstrap,
  the next is a layer over it: what its recipe changed, as an overlay's upper directory.
- the image: all layers, and on top envd and the interpreter's sources. A change in those costs an image only.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from atolld.builds.files import replace_text, sync, unfinished
from atolld.builds.keys import hash_file, key_of, key_of_files
from atolld.builds.mirrors import SUITE, Source, parse_release, parse_sources, plan_options, plan_sources
from atolld.builds.registries import Registries
from atolld.builds.sources import Clone
from atolld.builds.tools import Report, isolated, run_tool
from atolld.model.errors import HostError
from atolld.model.template import StoredFile

_RECIPES = Path(__file__).parent / "recipes"
_IMAGE_FORMAT = "1"
_FRESH = 600.0
"""Seconds an image may lie there before a template uses it."""
_BASE_PACKAGES = """
    ca-certificates curl git iproute2 libnss-myhostname nodejs npm procps python3 python3-pip python3-venv
    sudo wget
"""
# What people build wheels with, and what the locked wheels load from the system.
_CODE_PACKAGES = "build-essential jq libgl1 libglib2.0-0t64"
# What the kernels of R and Java need, and letters of all languages.
_LANGUAGE_PACKAGES = "fonts-noto-cjk openjdk-21-jdk-headless r-base-core r-cran-irkernel"
# Left out of the packages: nobody reads a manual page inside a sandbox. Licences stay.
_DPKG_OPTIONS = (
    "force-unsafe-io",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A root in our words. ``parent`` is the root it is a layer over; ``None``: it starts from nothing."""

    name: str
    packages: tuple[str, ...]
    script_name: str
    parent: str | None = None
    has_interpreter: bool = False

    @property
    def script(self) -> Path:
        return _RECIPES / self.script_name


BASE = Recipe("base", tuple(_BASE_PACKAGES.split()), "base.sh")
CODE_INTERPRETER = Recipe(
    "code-interpreter-v1",
    tuple(_CODE_PACKAGES.split()),
    "code-interpreter.sh",
    parent="base",
    has_interpreter=True,
)
LANGUAGES = Recipe(
    "languages",
    tuple(_LANGUAGE_PACKAGES.split()),
    "languages.sh",
    parent="code-interpreter-v1",
    has_interpreter=True,
)
RECIPES: Mapping[str, Recipe] = {recipe.name: recipe for recipe in (BASE, CODE_INTERPRETER, LANGUAGES)}


def lineage(recipe: Recipe) -> list[Recipe]:
    """The recipe and those whose trees its own is a layer over, topmost first."""
    return [recipe] if recipe.parent is None else [recipe, *lineage(RECIPES[recipe.parent])]


@dataclass(frozen=True, slots=True)
class Root:
    """A finished image; ``file`` is its size and hash."""

    name: str
    key: str
    path: Path
    file: StoredFile


class Roots:
    """The root images of one state directory, made from one clone.

    ``uv`` is the installer that fills a root's Python environment: a binary that runs in Debian. ``mirror``
    is the operator's own Debian mirror, if there is one.
    """

    def __init__(
        self, home: Path, clone: Clone, registries: Registries, uv: Path, mirror: str | None = None
    ) -> None:
        self.home = home
        self.clone = clone
        self.registries = registries
        self.uv = uv
        self.mirror = mirror
        # Once, so that all steps of one set-up speak of the same roots.
        self._tree_keys = {name: self._tree_key(recipe) for name, recipe in RECIPES.items()}
        self._interpreter_key = key_of_files(clone.interpreter, clone.interpreter_files())

    # -- names ------------------------------------------------------------------------------------------

    def _tree_key(self, recipe: Recipe) -> str:
        parts: list[str | bytes] = [
            SUITE,
            " ".join(recipe.packages),
            *_DPKG_OPTIONS,
            recipe.script.read_bytes(),
        ]
        if recipe.parent is not None:
            parts.append(self._tree_key(RECIPES[recipe.parent]))
        if recipe is CODE_INTERPRETER:
            parts += [path.read_bytes() for path in self._locks()]
        if recipe is LANGUAGES:
            parts += [path.read_bytes() for path in self.clone.java_kernel]
        return key_of(*parts)

    def _locks(self) -> list[Path]:
        """What the script of `code-interpreter-v1` installs from."""
        return [self.clone.interpreter_lock, *self.clone.node_locks]

    def tree_path(self, recipe: Recipe) -> Path:
        return self._trees / f"{recipe.name}-{self._tree_keys[recipe.name]}"

    def image_key(self, recipe: Recipe, envd: Path) -> str:
        parts = [_IMAGE_FORMAT, self._tree_keys[recipe.name], envd.parent.name]
        if recipe.has_interpreter:
            parts.append(self._interpreter_key)
        return key_of(*parts)

    def image_path(self, recipe: Recipe, envd: Path) -> Path:
        return self.home / "roots" / f"{recipe.name}-{self.image_key(recipe, envd)}.erofs"

    @property
    def _trees(self) -> Path:
        return self.home / "cache/trees"

    # -- what there is ----------------------------------------------------------------------------------

    def has_tree(self, recipe: Recipe) -> bool:
        return self.tree_path(recipe).is_dir()

    def has_any(self, recipe: Recipe) -> bool:
        """Something of this recipe was made here before, whatever its key."""
        places = (self._trees, self.home / "roots")
        return any(next(place.glob(f"{recipe.name}-*"), None) is not None for place in places)

    def find(self, recipe: Recipe, envd: Path) -> Root | None:
        """The finished image, its size checked; ``None`` when it is to be made."""
        path = self.image_path(recipe, envd)
        try:
            file = StoredFile(**json.loads(path.with_suffix(".json").read_text())["file"])
            is_whole = path.stat().st_size == file.size
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return Root(recipe.name, self.image_key(recipe, envd), path, file) if is_whole else None

    # -- making -----------------------------------------------------------------------------------------

    async def make_tree(self, recipe: Recipe, report: Report) -> None:
        """Raises :class:`HostError` with the failing tool's last words; leaves nothing half-made behind."""
        with unfinished(self.tree_path(recipe)) as work:
            if recipe.parent is None:
                made = await self._bootstrap(recipe, work, report)
            else:
                made = await self._run_recipe(recipe, work, report)
            await run_tool(["sync", "--file-system", made], report=report)
            made.rename(self.tree_path(recipe))

    def prune(self, used: Collection[str]) -> None:
        """Removes images that are neither in ``used`` (file names) nor ours nor fresh, and all trees but the
        newest two of each recipe: another clone, or an older checkout, may want them soon."""
        ours = {f"{name}-{key}" for name, key in self._tree_keys.items()}
        for image in (self.home / "roots").glob("*.erofs"):
            if image.name not in used and image.stat().st_mtime < time.time() - _FRESH:
                image.with_suffix(".json").unlink(missing_ok=True)
                image.unlink()
        for recipe in RECIPES.values():
            trees = [path for path in self._trees.glob(f"{recipe.name}-*") if path.name not in ours]
            for tree in sorted(trees, key=lambda path: path.stat().st_ctime)[:-1]:
                shutil.rmtree(tree, ignore_errors=True)

    def forget(self, recipe: Recipe, *, with_tree: bool) -> None:
        """Removes the recipe's images, and all that is kept to make them when ``with_tree``."""
        for path in (self.home / "roots").glob(f"{recipe.name}-*"):
            path.unlink() if path.is_file() else shutil.rmtree(path)
        if with_tree:
            shutil.rmtree(self.tree_path(recipe), ignore_errors=True)

    async def make_image(self, recipe: Recipe, envd: Path, report: Report) -> Root:
        path = self.image_path(recipe, envd)
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished(path) as work:
            self._put_on_top(recipe, envd, work / "top")
            (work / "mount").mkdir()
            layers = [work / "top", *map(self.tree_path, lineage(recipe))]
            made = work / "image"
            script = ["sh", str(_RECIPES / "image.sh"), _lower(layers), str(work / "mount"), str(made)]
            await run_tool(isolated(script), report=report)
            return self._vouch(Root(recipe.name, self.image_key(recipe, envd), path, _stored(made)), made)

    def _vouch(self, root: Root, made: Path) -> Root:
        """The image first, then what vouches for it: one without the other is an unfinished one."""
        sync(made)
        made.rename(root.path)
        meta = {"name": root.name, "key": root.key, "file": asdict(root.file)}
        replace_text(root.path.with_suffix(".json"), json.dumps(meta, indent=2) + "\n")
        return root

    async def _bootstrap(self, recipe: Recipe, work: Path, report: Report) -> Path:
        sources = plan_sources(_host_release(), host_sources(), self.mirror)
        if shutil.which("mmdebstrap") is None:
            return await self._bootstrap_slowly(recipe, work, sources, report)
        tree = work / "tree"
        command = ["mmdebstrap", "--mode=root", "--variant=minbase", f"--include={','.join(recipe.packages)}"]
        command += [f"--dpkgopt={option}" for option in _DPKG_OPTIONS]
        command += [f"--aptopt={option}" for option in plan_options(await _apt_settings())]
        command += ['--customize-hook=chroot "$1" sh < "$ATOLL_RECIPE"', SUITE, str(tree)]
        stdin = None
        if sources:
            command.append("-")
            stdin = "\n".join([*sources, ""]).encode()
        env = {**os.environ, "ATOLL_RECIPE": str(recipe.script), "LC_ALL": "C.UTF-8", "TMPDIR": str(work)}
        await run_tool(isolated(command), report=report, env=env, stdin=stdin)
        return tree

    async def _bootstrap_slowly(
        self, recipe: Recipe, work: Path, sources: Sequence[str], report: Report
    ) -> Path:
        """By debootstrap, which distributions without apt have; it takes several times as long."""
        inputs = work / "inputs"
        inputs.mkdir()
        self._lend(inputs, await _apt_settings())
        (inputs / "sources.list").write_text("\n".join([*sources, ""]))
        (inputs / "dpkg.cfg").write_text("\n".join([*_DPKG_OPTIONS, ""]))
        tree = work / "tree"
        script = ["sh", str(_RECIPES / "debootstrap.sh"), str(tree), SUITE, str(inputs), str(recipe.script)]
        await run_tool(isolated(script), report=report, env=os.environ | self._chroot_environment(recipe))
        return tree

    async def _run_recipe(self, recipe: Recipe, work: Path, report: Report) -> Path:
        assert recipe.parent is not None
        inputs = work / "inputs"
        inputs.mkdir()
        self._lend(inputs, await _apt_settings())
        below = [self.tree_path(parent) for parent in lineage(RECIPES[recipe.parent])]
        layer = [str(work), str(inputs), str(recipe.script)]
        command = ["sh", str(_RECIPES / "layer.sh"), _lower(below), *layer]
        env = self._chroot_environment(recipe)
        await run_tool(isolated(command), report=report, env=env)
        return work / "diff"

    def _chroot_environment(self, recipe: Recipe) -> dict[str, str]:
        return {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive",
            "APT_CONFIG": "/run/atoll/apt.conf",
            "ATOLL_PACKAGES": " ".join(recipe.packages),
            **self.registries.build_environment("/run/atoll/ca.crt"),
        }

    def _lend(self, inputs: Path, apt_settings: str) -> None:
        """What a recipe gets of the host for the time it runs."""
        bundle = self.registries.ca_bundle
        (inputs / "ca.crt").write_bytes(b"" if bundle is None else bundle.read_bytes())
        (inputs / "resolv.conf").write_bytes(Path("/etc/resolv.conf").read_bytes())
        options = ['Acquire::https::CaInfo "/run/atoll/ca.crt";', *plan_options(apt_settings)]
        (inputs / "apt.conf").write_text("\n".join([*options, ""]))
        for lock in self._locks():
            shutil.copyfile(lock, inputs / lock.name)
        (inputs / "java").mkdir()
        for source in self.clone.java_kernel:
            shutil.copyfile(source, inputs / "java" / source.name)
        shutil.copy(self.uv, inputs / "uv")
        inputs.chmod(0o755)

    def _put_on_top(self, recipe: Recipe, envd: Path, top: Path) -> None:
        (top / ".atoll").mkdir(parents=True)
        shutil.copyfile(envd, top / ".atoll/envd")
        (top / ".atoll/envd").chmod(0o755)
        if recipe.has_interpreter:
            for source in self.clone.interpreter_files():
                target = top / "opt/atoll/interpreter" / source.relative_to(self.clone.interpreter)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
        for directory in (top, *(path for path in top.rglob("*") if path.is_dir())):
            directory.chmod(0o755)


def _lower(layers: list[Path]) -> str:
    """An overlay's ``lowerdir``, topmost first. The kernel splits it at colons and the options at commas."""
    for layer in layers:
        if ":" in str(layer) or "," in str(layer):
            raise HostError(f"{layer} cannot be an overlay's layer: choose an ATOLL_HOME without ':' and ','")
    return ":".join(map(str, layers))


def _stored(path: Path) -> StoredFile:
    return StoredFile(path.stat().st_size, hash_file(path))


async def _apt_settings() -> str:
    if shutil.which("apt-config") is None:
        return ""
    return await run_tool(["apt-config", "dump", "Acquire"], report=lambda _: None)


def _host_release() -> dict[str, str]:
    path = Path("/etc/os-release")
    return parse_release(path.read_text()) if path.is_file() else {}


def host_sources(directory: Path = Path("/etc/apt")) -> list[Source]:
    """The machine's own sources, in apt's order."""
    parts = directory / "sources.list.d"
    paths = [directory / "sources.list", *sorted(parts.glob("*.list")), *sorted(parts.glob("*.sources"))]
    texts = [path.read_text(errors="replace") for path in paths if path.is_file()]
    return [source for text in texts for source in parse_sources(text)]
