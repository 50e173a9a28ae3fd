from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from atolld.builds.workshop import ensure_host_key, load_host_key, open_workshop, plan_network
from atolld.config import Config


@pytest.mark.parametrize(
    ("servers", "workshops"),
    [
        ("10.213.0.0/16", "10.214.0.0/28"),
        ("192.168.8.0/28", "192.168.8.16/28"),
        ("255.255.0.0/16", "255.254.255.240/28"),
    ],
)
def test_the_workshop_has_addresses_the_server_has_not(servers: str, workshops: str):
    assert plan_network(IPv4Network(servers)) == IPv4Network(workshops)


def test_the_workshop_is_gone_after_use_and_kept_when_something_lives_in_it(tmp_path: Path):
    config = Config(home=tmp_path)
    with open_workshop(config) as borrowed:
        assert (borrowed.home / "host-key").read_bytes() == (tmp_path / "host-key").read_bytes()
        (borrowed.home / "run/sandboxes/one").mkdir(parents=True)
    assert (tmp_path / "run/build/run/sandboxes/one").is_dir()
    with open_workshop(config) as borrowed:
        (borrowed.home / "run/sandboxes/one").rmdir()
    assert not (tmp_path / "run/build").exists()
    assert (tmp_path / "host-key").is_file()


def test_the_first_node_that_builds_uses_the_servers_key_not_one_of_its_own(tmp_path: Path):
    with open_workshop(Config(home=tmp_path)) as borrowed:
        lent = load_host_key(borrowed.home / "host-key").private_bytes_raw()
    assert load_host_key(tmp_path / "host-key").private_bytes_raw() == lent


def test_the_hosts_key_is_made_once_and_is_secret(tmp_path: Path):
    path = tmp_path / "home/host-key"
    ensure_host_key(path)
    seed = path.read_bytes()
    ensure_host_key(path)
    assert path.read_bytes() == seed
    assert len(seed) == 32
    assert path.stat().st_mode & 0o777 == 0o600
