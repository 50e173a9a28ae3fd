"""The system's store is a directory and a command that says it was run; the real one is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from atolld.config import Config
from atolld.model.errors import HostError
from atolld.tls.trust import Store, describe, distrust, find_store, forget, trust


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(home=tmp_path / "home")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    anchors = tmp_path / "anchors"
    return Store(anchors, ".crt", ("cp", "-rT", str(anchors), str(tmp_path / "updated")))


async def test_the_root_goes_into_the_store_and_out_again(
    config: Config, store: Store, tmp_path: Path
) -> None:
    done = await trust(config, {}, store)
    assert done.anchor.name == "atoll-atoll.localhost.crt"
    assert done.anchor.read_text() == done.root.read_text()
    assert (tmp_path / "updated" / done.anchor.name).exists()
    assert done.root.read_text() in done.bundle.read_text()
    assert await trust(config, {}, store) == done

    assert await distrust(config, store) == done.anchor
    assert not done.anchor.exists()
    assert await distrust(config, store) == done.anchor


async def test_uninstalling_takes_out_our_roots_and_no_others(config: Config, store: Store) -> None:
    await forget(config, [store])
    done = await trust(config, {}, store)
    stranger = done.anchor.with_name("company.crt")
    stranger.write_text("theirs")
    other = Config(home=config.home.parent / "other")
    await trust(other, {}, Store(store.anchors.parent / "elsewhere", ".crt", ("true",)))
    await forget(other, [store])
    assert done.anchor.exists()
    await forget(config, [store])
    assert not done.anchor.exists()
    assert stranger.exists()


async def test_what_python_node_and_browsers_need_is_said(config: Config, store: Store) -> None:
    text = describe(await trust(config, {}, store))
    for word in ("SSL_CERT_FILE=", "REQUESTS_CA_BUNDLE=", "NODE_EXTRA_CA_CERTS=", "certutil", "Firefox"):
        assert word in text


async def test_a_store_that_cannot_be_updated_is_an_error(config: Config, store: Store) -> None:
    broken = Store(store.anchors, store.suffix, ("false",))
    with pytest.raises(HostError, match="false exited with 1"):
        await trust(config, {}, broken)


def test_the_store_is_the_one_whose_command_and_directory_are_there(tmp_path: Path) -> None:
    debian = Store(tmp_path / "usr/share/ca-certificates", ".crt", ("update-ca-certificates",))
    suse = Store(tmp_path / "pki/trust/anchors", ".pem", ("update-ca-certificates",))
    suse.anchors.mkdir(parents=True)
    assert find_store((debian, suse), lambda _: True) == suse
    with pytest.raises(HostError, match="ca-certificates"):
        find_store((debian, suse), lambda _: None)
