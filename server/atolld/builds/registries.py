"""How this machine reaches package registries, so that a root's build and the sandboxes reach them likewise.

A machine may have its own certificate authority, its own indexes and a proxy. The build gets all of it. The
sandboxes get what is no secret: an index address that carries a password stays outside.
"""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

GUEST_CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
"""Where a sandbox keeps the roots it trusts; the host's own are added when it is claimed."""

_CA_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "NODE_EXTRA_CA_CERTS")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


@dataclass(frozen=True, slots=True)
class Registries:
    """``None`` and empty mean that the tools' own defaults hold."""

    ca_bundles: tuple[Path, ...]
    """Where the machine's certificate authorities may be, first choice first."""
    pip_index: str | None
    pip_extra_indexes: tuple[str, ...]
    npm_registry: str | None
    proxies: Mapping[str, str]

    @property
    def ca_bundle(self) -> Path | None:
        """Looked for anew each time: set-up may just have installed it."""
        return next((path for path in self.ca_bundles if path.is_file()), None)

    def installer_environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """``environ`` with what uv needs on the host itself."""
        bundle = self.ca_bundle
        return {**environ, **({} if bundle is None else self.build_environment(str(bundle)))}

    def build_environment(self, ca_bundle: str) -> dict[str, str]:
        """What uv and npm need for a root; ``ca_bundle`` is where its build sees the authorities."""
        env = {"SSL_CERT_FILE": ca_bundle, "UV_NO_PROGRESS": "1", **self.proxies}
        if self.pip_index:
            env["UV_DEFAULT_INDEX"] = self.pip_index
        if self.pip_extra_indexes:
            env["UV_INDEX"] = " ".join(self.pip_extra_indexes)
        if self.npm_registry:
            env["NPM_CONFIG_REGISTRY"] = self.npm_registry
        return env | {"NODE_EXTRA_CA_CERTS": ca_bundle}

    def sandbox_environment(self) -> dict[str, str]:
        """Variables that every sandbox of a template starts with: libraries that bring their own list of
        certificate authorities are pointed at the system's, and at the indexes this machine uses."""
        env: dict[str, str] = dict.fromkeys(_CA_VARIABLES, GUEST_CA_BUNDLE)
        if self.pip_index and not _has_secret(self.pip_index):
            env["PIP_INDEX_URL"] = self.pip_index
        extra = [index for index in self.pip_extra_indexes if not _has_secret(index)]
        if extra:
            env["PIP_EXTRA_INDEX_URL"] = " ".join(extra)
        if self.npm_registry and not _has_secret(self.npm_registry):
            env["NPM_CONFIG_REGISTRY"] = self.npm_registry
        return env


def read_registries(environ: Mapping[str, str], root: Path = Path("/")) -> Registries:
    """From the environment, else from the settings of pip and npm below ``root`` and ``$HOME``."""
    home = Path(environ.get("HOME") or "/root")
    pip = _read_pip(
        [root / "etc/pip.conf", home / ".pip/pip.conf", home / ".config/pip/pip.conf"]
        + [Path(path) for path in [environ.get("PIP_CONFIG_FILE", "")] if path]
    )
    npm = _read_npm([root / "etc/npmrc", root / "usr/etc/npmrc", home / ".npmrc"])
    extra = environ.get("PIP_EXTRA_INDEX_URL") or pip.get("extra-index-url", "")
    return Registries(
        ca_bundles=_list_bundles(environ, root),
        pip_index=environ.get("UV_DEFAULT_INDEX") or environ.get("PIP_INDEX_URL") or pip.get("index-url"),
        pip_extra_indexes=tuple(extra.split()),
        npm_registry=environ.get("NPM_CONFIG_REGISTRY") or environ.get("npm_config_registry") or npm,
        proxies={name: environ[name] for name in _PROXIES if environ.get(name)},
    )


def find_ca_bundle(environ: Mapping[str, str], root: Path = Path("/")) -> Path | None:
    """The file of certificate authorities that this machine trusts."""
    return next((path for path in _list_bundles(environ, root) if path.is_file()), None)


def _list_bundles(environ: Mapping[str, str], root: Path) -> tuple[Path, ...]:
    named = environ.get("SSL_CERT_FILE")
    return (*([Path(named)] if named else []), *(root / path.lstrip("/") for path in _CA_BUNDLES))


def _read_pip(paths: list[Path]) -> dict[str, str]:
    """The ``[global]`` section of pip's settings, later files over earlier ones."""
    parser = configparser.RawConfigParser(strict=False)
    for path in paths:
        try:
            parser.read(path)
        except (configparser.Error, UnicodeDecodeError):
            continue  # pip itself will complain; a broken file is no reason not to build
    return dict(parser["global"]) if parser.has_section("global") else {}


def _read_npm(paths: list[Path]) -> str | None:
    registry = None
    for path in paths:
        if not path.is_file():
            continue
        for line in path.read_text(errors="replace").splitlines():
            name, _, value = line.partition("=")
            if name.strip() == "registry":
                registry = value.strip().strip("\"'")
    return registry


def _has_secret(url: str) -> bool:
    return "@" in urlsplit(url).netloc
