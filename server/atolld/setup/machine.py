"""All steps of set-up on this machine, wired to each other."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from atolld.builds.artefacts import Artefacts
from atolld.builds.builder import Builder, OpenNode
from atolld.builds.files import replace_text
from atolld.builds.registries import read_registries
from atolld.builds.roots import CODE_INTERPRETER, LANGUAGES, RECIPES, Recipe, Root, Roots, lineage
from atolld.builds.sources import Clone
from atolld.builds.templates import FULLER, TEMPLATES, TemplateRecipe
from atolld.builds.tools import Report
from atolld.config import Config
from atolld.control.keys import ensure_credentials
from atolld.control.templates import register_build
from atolld.model.errors import HostError
from atolld.model.template import Manifest
from atolld.setup.envd import Envd
from atolld.setup.extras import Extra
from atolld.setup.gvisor import Gvisor
from atolld.setup.packages import Packages
from atolld.setup.runsc import Runsc
from atolld.setup.steps import Step
from atolld.setup.toolchain import Toolchain, find_uv
from atolld.store import Store

_EXTRAS = (LANGUAGES,)
"""Made only when asked for; kept up to date wherever they have been made."""

_COVERED_BY = {CODE_INTERPRETER.name: LANGUAGES}
"""Recipe → the one with more in it, whose image is as good."""


class Machine:
    def __init__(
        self, config: Config, environ: Mapping[str, str], open_node: OpenNode, *, everything: bool = False
    ) -> None:
        """``everything``: what is extra is wanted, too."""
        self._everything = everything
        self._config = config
        self._home = config.home
        clone = Clone()
        uv = find_uv()
        self._artefacts = Artefacts(config.home)
        registries = read_registries(environ)
        toolchain = Toolchain(config.home, clone, uv, environ, registries)
        self._tls = Extra("tls", "caddy", clone, uv, environ, registries)
        self._tests = Extra("dev", "pytest", clone, uv, environ, registries)
        self._packages = Packages(environ)
        self._runsc = Runsc(self._artefacts, Gvisor(clone), toolchain, environ.get("PATH", ""))
        self._envd = Envd(self._artefacts, clone, toolchain)
        self._roots = Roots(config.home, clone, registries, uv, environ.get("ATOLL_DEBIAN_MIRROR") or None)
        self._builder = Builder(config, self._artefacts, registries.sandbox_environment(), open_node)

    def steps(self) -> list[Step]:
        """In the order a reader expects; what needs what is in each."""
        steps = [
            Step("packages", "Packages of this distribution", self._packages.is_done, self._packages.run),
            Step("runsc", "gVisor (runsc)", self._runsc.is_done, self._runsc.run, ("packages",)),
            Step(
                "envd",
                "Daemon inside the sandboxes (envd)",
                self._envd.is_done,
                self._envd.run,
                ("packages",),
            ),
        ]
        steps += [self._tree_step(recipe) for recipe in RECIPES.values()]
        steps += [self._root_step(recipe) for recipe in RECIPES.values()]
        steps += [self._template_step(template) for template in TEMPLATES.values()]
        steps.append(self._languages_step(FULLER[CODE_INTERPRETER.name]))
        steps += [
            Step("tls", "Caddy, for https", self._tls.is_done, self._tls.run),
            Step("tests", "What the tests need", self._tests.is_done, self._tests.run, ("tls",)),
        ]
        return steps

    async def enter_in_store(self) -> None:
        """The operator's key, and every template that is whole. Idempotent."""
        store = await Store.open(self._home / "atoll.db")
        try:
            await ensure_credentials(store, self._home / "credentials")
            for template in TEMPLATES.values():
                manifest = self._find(self._choose(template)) or self._find(template)
                if manifest is not None:
                    await register_build(store, manifest)
        finally:
            await store.close()

    def identify(self) -> None:
        """Gives the state directory an identity, by which launchers know that it is the one they set up."""
        path = self._home / "setup-id"
        if not path.is_file():
            replace_text(path, secrets.token_hex(8) + "\n")

    def prune(self) -> None:
        """Removes what earlier set-ups made and nothing stands on any more."""
        self._roots.prune(self._builder.used_images())

    def extras(self) -> list[str]:
        """Steps beyond what commands need that were made here before: they are kept up to date."""
        return [recipe.name for recipe in _EXTRAS if self._roots.has_any(recipe)]

    def forget(self, name: str) -> None:
        """Removes what a step made, so that it is made anew, and with it what is made from it."""
        if name in TEMPLATES:
            self._builder.forget(TEMPLATES[name])
        elif name == LANGUAGES.name:
            self._builder.forget(FULLER[CODE_INTERPRETER.name])
        elif name in ("runsc", "envd"):
            self._artefacts.forget(name)
        else:
            kind, _, recipe = name.partition(":")
            if recipe in RECIPES:
                self._roots.forget(RECIPES[recipe], with_tree=kind == "tree")

    # -- steps ----------------------------------------------------------------------------------------------

    def _tree_step(self, recipe: Recipe) -> Step:
        needs = ("packages",) if recipe.parent is None else (f"tree:{recipe.parent}",)
        return Step(
            f"tree:{recipe.name}",
            f"Packages inside {recipe.name}",
            lambda: self._roots.has_tree(recipe) or all(map(self._is_covered, self._standing_on(recipe))),
            lambda report: self._roots.make_tree(recipe, report),
            needs,
        )

    def _root_step(self, recipe: Recipe) -> Step:
        async def make(report: Report) -> None:
            await self._roots.make_image(recipe, self._envd.path, report)

        needs = (f"tree:{recipe.name}", "envd")
        return Step(
            f"root:{recipe.name}", f"Root image {recipe.name}", lambda: self._is_covered(recipe), make, needs
        )

    def _template_step(self, template: TemplateRecipe) -> Step:
        async def make(report: Report) -> None:
            await self._build(self._choose(template), report)

        return Step(
            template.name,
            f"Template {template.name} (memory snapshot)",
            lambda: self._find(self._choose(template)) is not None,
            make,
            ("runsc", f"root:{template.root.name}"),
        )

    def _languages_step(self, fuller: TemplateRecipe) -> Step:
        async def make(report: Report) -> None:
            await self._build(fuller, report)

        return Step(
            fuller.root.name,
            f"Template {fuller.name} with R, Java and letters of all languages",
            lambda: self._find(fuller) is not None,
            make,
            # After the plain one, which is the one that people wait for.
            ("runsc", f"root:{fuller.root.name}", fuller.name),
        )

    async def _build(self, template: TemplateRecipe, report: Report) -> None:
        root = self._root_of(template)
        if root is None:
            raise HostError(f"the root image of {template.name} is gone: run the same again")
        await self._builder.build(template, root, report)

    def _choose(self, template: TemplateRecipe) -> TemplateRecipe:
        """The one with more in it wherever its root image is there."""
        fuller = FULLER.get(template.name, template)
        return fuller if self._has_root(fuller.root) else template

    def _find(self, template: TemplateRecipe) -> Manifest | None:
        return self._builder.find(template, self._root_of(template))

    def _root_of(self, template: TemplateRecipe) -> Root | None:
        return self._roots.find(template.root, self._envd.path)

    def _has_root(self, recipe: Recipe) -> bool:
        return self._roots.find(recipe, self._envd.path) is not None

    def _is_covered(self, recipe: Recipe) -> bool:
        return any(map(self._has_root, (recipe, _COVERED_BY.get(recipe.name, recipe))))

    def _standing_on(self, recipe: Recipe) -> list[Recipe]:
        """The recipe and those whose layers lie over its tree: their images are all that needs it."""
        above = [other for other in RECIPES.values() if recipe in lineage(other)]
        return [other for other in above if other not in _EXTRAS or self._is_wanted(other)]

    def _is_wanted(self, extra: Recipe) -> bool:
        return self._everything or self._roots.has_any(extra)
