from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from atolld.model.errors import HostError
from atolld.tls.authority import LEAF_LIFE, ROOT_LIFE, Authority

NOW = datetime.now(UTC)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "tls", "atoll.localhost")


def leaf(authority: Authority) -> x509.Certificate:
    return x509.load_pem_x509_certificate(authority.leaf_file.read_bytes())


def test_keys_are_for_their_owner_only_and_the_root_is_for_all(authority: Authority) -> None:
    assert authority.ensure(NOW)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in authority.directory.iterdir()}
    assert modes == {"authority.pem": 0o600, "server.pem": 0o600, "root.pem": 0o644}
    assert "PRIVATE" not in authority.root_file.read_text()


def test_the_leaf_holds_the_domain_and_its_wildcard(authority: Authority) -> None:
    authority.ensure(NOW)
    names = leaf(authority).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["atoll.localhost", "*.atoll.localhost"]


def test_the_root_may_vouch_for_nothing_but_the_domain(authority: Authority) -> None:
    authority.ensure(NOW)
    root = x509.load_pem_x509_certificate(authority.root_file.read_bytes())
    limits = root.extensions.get_extension_for_class(x509.NameConstraints)
    assert limits.critical
    assert limits.value.permitted_subtrees == [x509.DNSName("atoll.localhost")]
    assert len(limits.value.excluded_subtrees or ()) == 2


def test_what_is_good_is_kept(authority: Authority) -> None:
    authority.ensure(NOW)
    before = {path: path.read_bytes() for path in authority.directory.iterdir()}
    assert not authority.ensure(NOW + timedelta(days=30))
    assert {path: path.read_bytes() for path in authority.directory.iterdir()} == before


def test_a_leaf_that_is_about_to_end_is_renewed_under_the_same_root(authority: Authority) -> None:
    authority.ensure(NOW)
    root, old = authority.root_file.read_bytes(), leaf(authority)
    assert authority.ensure(NOW + LEAF_LIFE - timedelta(days=29))
    assert authority.root_file.read_bytes() == root
    assert leaf(authority).not_valid_after_utc > old.not_valid_after_utc


def test_a_root_that_is_about_to_end_is_replaced_with_its_leaf(authority: Authority) -> None:
    authority.ensure(NOW)
    root = authority.root_file.read_bytes()
    assert authority.ensure(NOW + ROOT_LIFE - timedelta(days=1))
    assert authority.root_file.read_bytes() != root


def test_a_leaf_of_another_root_is_replaced(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other", "atoll.localhost")
    other.ensure(NOW)
    authority.ensure(NOW)
    authority.leaf_file.write_bytes(other.leaf_file.read_bytes())
    assert authority.ensure(NOW)


def test_a_damaged_file_is_named_and_left_alone(authority: Authority) -> None:
    authority.ensure(NOW)
    secret = authority.directory / "authority.pem"
    secret.write_text("nonsense")
    with pytest.raises(HostError, match=r"authority\.pem"):
        authority.ensure(NOW)
    assert secret.read_text() == "nonsense"
