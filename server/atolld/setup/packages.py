"""The packages of the distribution that Atoll needs: installed by apt, or named for the other managers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from glob import glob

from atolld.builds.tools import Report, run_tool
from atolld.model.errors import HostError

# Manager → what must be there (a program on PATH, or a file) → the package that brings it. The launcher names
# the same packages when it cannot even get as far as this (see `atoll`).
_PROGRAMS = ("mmdebstrap", "mkfs.erofs", "nft", "ip", "setpriv", "zstd")
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
# Makes every name below .localhost this machine's own, so that a sandbox's public name leads somewhere.
_LOCAL_NAMES = "/lib/*/libnss_myhostname.so.2"

_APT: Mapping[str, str] = {
    "mmdebstrap": "mmdebstrap",
    "mkfs.erofs": "erofs-utils",
    "nft": "nftables",
    "ip": "iproute2",
    "setpriv": "util-linux",
    "zstd": "zstd",
    _KEYRING: "debian-archive-keyring",
    _CERTIFICATES: "ca-certificates",
    _LOCAL_NAMES: "libnss-myhostname",
}
_OTHERS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "dnf": (
        "dnf install",
        {
            "mmdebstrap": "debootstrap debian-keyring",
            "mkfs.erofs": "erofs-utils",
            "nft": "nftables",
            "ip": "iproute",
            "setpriv": "util-linux",
            "zstd": "zstd",
        },
    ),
    "pacman": (
        "pacman -S",
        {
            "mmdebstrap": "debootstrap debian-archive-keyring",
            "mkfs.erofs": "erofs-utils",
            "nft": "nftables",
            "ip": "iproute2",
            "setpriv": "util-linux",
            "zstd": "zstd",
        },
    ),
    "apk": (
        "apk add",
        {
            "mmdebstrap": "debootstrap debian-archive-keyring",
            "mkfs.erofs": "erofs-utils",
            "nft": "nftables",
            "ip": "iproute2",
            "setpriv": "setpriv util-linux-misc",
            "zstd": "zstd",
        },
    ),
    "zypper": (
        "zypper install",
        {
            "mmdebstrap": "debootstrap",
            "mkfs.erofs": "erofs-utils",
            "nft": "nftables",
            "ip": "iproute2",
            "setpriv": "util-linux",
            "zstd": "zstd",
        },
    ),
}
# Either makes a Debian root; mmdebstrap is several times faster and the one apt's distributions get.
_ALTERNATIVES: Mapping[str, tuple[str, ...]] = {"mmdebstrap": ("mmdebstrap", "debootstrap")}


@dataclass(frozen=True, slots=True)
class Packages:
    environ: Mapping[str, str]

    def is_done(self) -> bool:
        return not self.missing()

    def missing(self) -> list[str]:
        """The programs and files that are not there."""
        wanted: Sequence[str] = list(_APT) if self._find("apt-get") else _PROGRAMS
        return find_missing(wanted, self._is_there)

    async def run(self, report: Report) -> None:
        """Raises :class:`HostError` naming the packages on a machine without apt."""
        missing = self.missing()
        if not self._find("apt-get"):
            raise HostError(describe_missing(missing, self._find))
        env = {**self.environ, "DEBIAN_FRONTEND": "noninteractive"}
        await run_tool(["apt-get", "update", "--quiet"], report=report, env=env)
        names = sorted({_APT[name] for name in missing})
        install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *names]
        await run_tool(install, report=report, env=env)
        if left := self.missing():
            raise HostError(f"still missing after apt-get install {' '.join(names)}: {', '.join(left)}")

    def _is_there(self, name: str) -> bool:
        return bool(glob(name)) if name.startswith("/") else self._find(name)

    def _find(self, program: str) -> bool:
        return shutil.which(program, path=self.environ.get("PATH")) is not None


def find_missing(wanted: Sequence[str], is_there: Callable[[str], bool]) -> list[str]:
    """Of ``wanted``, what neither is there itself nor by an alternative."""
    return [name for name in wanted if not any(map(is_there, _ALTERNATIVES.get(name, (name,))))]


def describe_missing(missing: Sequence[str], is_there: Callable[[str], bool]) -> str:
    """Which command brings what is missing, on a machine without apt; all when the manager is unknown."""
    managers = [name for name in _OTHERS if is_there(name)] or list(_OTHERS)
    commands: list[str] = []
    for manager in managers:
        command, names = _OTHERS[manager]
        packages = [names[name] for name in missing if name in names]
        commands.append(f"    {command} {' '.join(packages)}")
    return "\n".join(
        [f"missing on this machine: {', '.join(missing)}. Install them and run the same again:", *commands]
    )
