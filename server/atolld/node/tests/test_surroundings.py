from __future__ import annotations

import base64

import pytest

from atolld.model.errors import InvalidRequest
from atolld.node.surroundings import look_around, own_certificates


def pem(content: bytes, width: int = 64) -> str:
    text = base64.b64encode(content).decode()
    lines = "\n".join(text[i : i + width] for i in range(0, len(text), width))
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"


def test_only_certificates_the_distribution_does_not_bring_are_passed_on() -> None:
    known, own = b"known" * 40, b"own" * 40
    bundle = f"# comment\n{pem(known)}\n{pem(own)}"
    assert own_certificates(bundle, pem(known, width=76)) == pem(own)


def test_the_operators_destinations_replace_the_hosts() -> None:
    found = look_around(["10.1.0.0/16", "10.2.3.4:53"], {"PIP_INDEX_URL": "http://192.168.7.7/simple"})
    assert found.allowances == {"10.1.0.0/16", "10.2.3.4:53"}


def test_without_the_operators_the_hosts_indexes_are_reached() -> None:
    found = look_around(None, {"PIP_INDEX_URL": "http://192.168.7.7/simple"})
    assert "192.168.7.7:80" in found.allowances


def test_a_bad_destination_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        look_around(["10.1.2.300"], {})
