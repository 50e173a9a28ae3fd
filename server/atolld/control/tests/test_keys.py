from __future__ import annotations

import stat
from typing import Any

import pytest

from atolld.control.keys import Keys, ensure_credentials, read_credentials
from atolld.model.errors import Unauthorized
from atolld.model.team import hash_api_key
from atolld.store import Store


async def test_credentials_are_made_once_and_for_the_owner_only(house: Any) -> None:
    path = house.config.home / "credentials"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == f"E2B_API_KEY={house.key}\n"
    assert await ensure_credentials(house.store, path) == house.key


async def test_a_key_in_the_file_is_kept_when_the_database_is_new(house: Any) -> None:
    store = await Store.open(house.config.home / "another.db")
    key = await ensure_credentials(store, house.config.home / "credentials")
    assert key == house.key
    assert (await Keys(store, house.clock.ticks).authenticate(key)).slug == "local"
    await store.close()


async def test_a_file_with_no_key_in_it_gets_one(house: Any) -> None:
    path = house.config.home / "credentials"
    path.write_text("E2B_API_KEY=nonsense\n")
    key = await ensure_credentials(house.store, path)
    assert key == read_credentials(path) != house.key
    assert (await house.keys.authenticate(key)).slug == "local"
    assert not list(path.parent.glob(".credentials-*"))


@pytest.mark.parametrize("key", [None, "", "e2b_", "e2b_" + "0" * 40, "E2B_" + "0" * 40, "x" * 10_000, "é"])
async def test_a_key_that_is_none_is_refused(house: Any, key: str | None) -> None:
    with pytest.raises(Unauthorized, match="atoll env"):
        await house.keys.authenticate(key)


def test_a_key_is_hashed_as_the_wire_sheet_says() -> None:
    # sha256 of 20 zero bytes, standard base64 without padding
    assert hash_api_key("e2b_" + "00" * 20) == "$sha256$3kfJsn640wDbtfLDU+Yyw5MmLPBjQMT6fxtAxMvTb5A"


async def test_a_good_key_is_remembered_for_a_while(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    look = house.store.teams.of_key

    async def of_key(key_hash: str) -> Any:
        asked.append(key_hash)
        return await look(key_hash)

    monkeypatch.setattr(house.store.teams, "of_key", of_key)
    keys = Keys(house.store, house.clock.ticks)
    for _ in range(3):
        await keys.authenticate(house.key)
    assert len(asked) == 1
    await house.clock.advance(11)
    await keys.authenticate(house.key)
    assert len(asked) == 2
