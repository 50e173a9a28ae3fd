"""API keys: who is asking, and the key of this machine's operator."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from atolld.model.errors import Unauthorized
from atolld.model.team import LOCAL_TEAM, LOCAL_TEAM_NAME, Team, hash_api_key, new_api_key
from atolld.store import Store

_VARIABLE = "E2B_API_KEY"
_REMEMBERED_FOR = 10.0
_MOST_REMEMBERED = 1024


class Keys:
    def __init__(self, store: Store, ticks: Callable[[], float]) -> None:
        self._store = store
        self._ticks = ticks
        self._known: dict[str, tuple[Team, float]] = {}

    async def authenticate(self, key: str | None) -> Team:
        """The team ``key`` belongs to; raises :class:`Unauthorized`.

        Found by its hash, so the time a look-up takes says nothing about the keys there are. A key that was
        good is trusted for ten seconds without looking again.
        """
        if not key:
            raise Unauthorized("Missing API key: send it in the X-API-Key header (`./atoll env` prints it)")
        key_hash = hash_api_key(key)
        team = None if key_hash is None else await self._team(key_hash)
        if team is None:
            raise Unauthorized("Invalid API key: `./atoll env` prints the one this server knows")
        return team

    async def _team(self, key_hash: str) -> Team | None:
        team, until = self._known.get(key_hash, (None, 0.0))
        if team is not None and self._ticks() < until:
            return team
        team = await self._store.teams.of_key(key_hash)
        if team is None:
            self._known.pop(key_hash, None)
            return None
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        self._known[key_hash] = (team, self._ticks() + _REMEMBERED_FOR)
        return team


async def ensure_credentials(store: Store, path: Path) -> str:
    """The local operator's API key, made when there is none; idempotent.

    ``path`` (mode 0600) holds one line, ``E2B_API_KEY=e2b_…``. A key in the file that the store does not know
    (the database was removed) is taken up again, so that shells which have it keep working.
    """
    now = datetime.now(UTC)
    team = await store.teams.ensure(LOCAL_TEAM, LOCAL_TEAM_NAME, now)
    key = read_credentials(path)
    key_hash = None if key is None else hash_api_key(key)
    if key is None or key_hash is None:
        key = new_api_key()
        key_hash = hash_api_key(key)
        assert key_hash is not None
        _write_credentials(path, key)
    holder = await store.teams.of_key(key_hash)
    if holder is None:
        await store.teams.add_key(team.team_id, "local operator", key_hash, now)
    return key


def read_credentials(path: Path) -> str | None:
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return None
    for line in lines:
        name, _, value = line.partition("=")
        if name.strip() == _VARIABLE:
            return value.strip()
    return None


def _write_credentials(path: Path, key: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # mkstemp makes it 0600 from its first moment.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".credentials-")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{_VARIABLE}={key}\n")
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
