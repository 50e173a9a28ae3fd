from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from atolld.tls.caddy import AcmeIssuer, CertificateFiles, Layout, plan_config

LAYOUT = Layout(
    names=("atoll.localhost", "*.atoll.localhost"),
    addresses=("127.0.0.1", "::1"),
    port=8443,
    upstream="127.0.0.1:8600",
    certificates=CertificateFiles(Path("/c.pem"), Path("/k.pem")),
    admin_socket=Path("/run/caddy.sock"),
    storage=Path("/storage"),
    log=Path("/caddy.log"),
)


def test_both_loopback_addresses_are_listened_on() -> None:
    server = plan_config(LAYOUT)["apps"]["http"]["servers"]["front"]
    assert server["listen"] == ["tcp/127.0.0.1:8443", "tcp/[::1]:8443"]
    everywhere = plan_config(replace(LAYOUT, addresses=("",)))["apps"]["http"]["servers"]["front"]
    assert everywhere["listen"] == ["tcp/:8443"]


def test_caddy_is_told_what_to_do_by_a_socket_only() -> None:
    assert plan_config(LAYOUT)["admin"]["listen"] == "unix///run/caddy.sock|0600"


def test_nothing_is_decided_by_caddy_itself() -> None:
    config = plan_config(LAYOUT)
    assert config["apps"]["http"]["servers"]["front"]["automatic_https"] == {"disable": True}
    assert "pki" not in config["apps"]
    assert config["apps"]["tls"] == {
        "certificates": {"load_files": [{"certificate": "/c.pem", "key": "/k.pem"}]}
    }


def test_acme_manages_the_domain_and_its_wildcard() -> None:
    tls = plan_config(replace(LAYOUT, certificates=AcmeIssuer({"module": "acme"})))["apps"]["tls"]
    assert tls["certificates"] == {"automate": ["atoll.localhost", "*.atoll.localhost"]}
    assert tls["automation"]["policies"] == [
        {"subjects": ["atoll.localhost", "*.atoll.localhost"], "issuers": [{"module": "acme"}]}
    ]
