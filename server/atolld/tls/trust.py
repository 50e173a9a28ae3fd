"""`trust`: our root in the system's store, and what clients with a store of their own need."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from atolld.builds.files import replace_text
from atolld.builds.tools import run_tool
from atolld.config import Config
from atolld.model.errors import HostError
from atolld.tls.authority import Authority
from atolld.tls.bundle import VARIABLES, write_bundle
from atolld.tls.front import authority, bundle_file


@dataclass(frozen=True, slots=True)
class Store:
    """A way in which distributions keep the authorities they trust."""

    anchors: Path
    """Directory for those that are added."""
    suffix: str
    command: Sequence[str]
    """Makes the bundles anew."""


# Debian, Ubuntu and Alpine; SUSE; Fedora and Red Hat; Arch.
STORES = (
    Store(Path("/usr/local/share/ca-certificates"), ".crt", ("update-ca-certificates",)),
    Store(Path("/etc/pki/trust/anchors"), ".pem", ("update-ca-certificates",)),
    Store(Path("/etc/pki/ca-trust/source/anchors"), ".pem", ("update-ca-trust",)),
    Store(Path("/etc/ca-certificates/trust-source/anchors"), ".pem", ("update-ca-trust",)),
)


@dataclass(frozen=True, slots=True)
class Trusted:
    """What ``trust`` did."""

    name: str
    root: Path
    bundle: Path
    anchor: Path
    """Our root in the system's store."""

    @property
    def variables(self) -> Mapping[str, str]:
        return dict.fromkeys(VARIABLES, str(self.bundle))


def find_store(stores: Sequence[Store] = STORES, which: Callable[[str], object] = shutil.which) -> Store:
    """Raises :class:`HostError` when this machine has none that we know."""
    for store in stores:
        # Debian makes the directory only when something is put there.
        if which(store.command[0]) and (store.anchors.is_dir() or store.anchors.parent.parent.is_dir()):
            return store
    raise HostError(
        "this machine has no update-ca-certificates and no update-ca-trust: install ca-certificates, or give "
        "clients the bundle by the variables that `./atoll env --domain` prints"
    )


async def trust(config: Config, environ: Mapping[str, str], store: Store) -> Trusted:
    """Makes the root when there is none yet. Idempotent."""
    ours = authority(config)
    ours.ensure()
    anchor = _anchor(store, ours)
    bundle = bundle_file(config)
    write_bundle(bundle, ours.root_file, environ)
    text = ours.root_file.read_text()
    if not anchor.exists() or anchor.read_text() != text:
        anchor.parent.mkdir(parents=True, exist_ok=True)
        replace_text(anchor, text)
    await run_tool(store.command, report=lambda _: None)
    return Trusted(config.tls.name, ours.root_file, bundle, anchor)


async def distrust(config: Config, store: Store) -> Path:
    """Takes our root out of the system's store; where it lay. Idempotent."""
    anchor = _anchor(store, authority(config))
    anchor.unlink(missing_ok=True)
    await run_tool(store.command, report=lambda _: None)
    return anchor


async def forget(config: Config, stores: Sequence[Store] = STORES) -> None:
    """Takes every root of this state directory, whatever its domain, out of the stores it is in."""
    ours = [Authority(root.parent, root.parent.name) for root in (config.home / "tls").glob("*/root.pem")]
    for store in stores:
        anchors = [_anchor(store, one) for one in ours if _is_in(store, one)]
        for anchor in anchors:
            anchor.unlink()
        if anchors:
            await run_tool(store.command, report=lambda _: None)


async def run(config: Config, environ: Mapping[str, str], *, remove: bool, as_json: bool) -> int:
    """The command; its exit code. Raises :class:`~atolld.model.errors.AtollError`."""
    store = find_store()
    try:
        if remove:
            anchor = await distrust(config, store)
            said = {"removed": str(anchor)}
            text = f"the root of {config.tls.name} is no longer in the system's store ({anchor})"
        else:
            done = await trust(config, environ, store)
            said = {"root": str(done.root), "anchor": str(done.anchor), "environment": done.variables}
            text = describe(done)
    except PermissionError as error:
        raise HostError(f"{error.filename} may not be written: run the command as root") from error
    print(json.dumps(said, indent=2) if as_json else text)
    return 0


def describe(done: Trusted) -> str:
    exports = "\n".join(f"      export {name}={value}" for name, value in done.variables.items())
    return f"""\
The root of {done.name} is in the system's store: {done.anchor}
It can vouch for {done.name} and names below it, for nothing else.

  curl, wget, git, Go and most others use the system's store and need nothing more.
  Python and Node bring their own: give them the system's roots and ours in one file
{exports}
    (`eval "$(./atoll env --domain)"` does so, and sets what the E2B SDKs need.)
  Chrome, Chromium: certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n 'Atoll {done.name}' -i {done.root}
  Firefox: Settings, Certificates, Authorities, Import: {done.root}

Undo it: ./atoll trust --remove"""


def _is_in(store: Store, ours: Authority) -> bool:
    """Another state directory may have put its own root of the same domain there."""
    anchor = _anchor(store, ours)
    return anchor.is_file() and anchor.read_bytes() == ours.root_file.read_bytes()


def _anchor(store: Store, ours: Authority) -> Path:
    return store.anchors / f"atoll-{ours.name}{store.suffix}"
