from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from atolld.tls.caddy import AcmeIssuer, CertificateFiles, Layout, plan_config, plan_retirement

LAYOUT = Layout(
    names=("atoll.localhost", "*.atoll.localhost"),
    listeners=(7, 8),
    upstream="127.0.0.1:8600",
    certificates=CertificateFiles(Path("/c.pem"), Path("/k.pem")),
    admin_socket=Path("/run/caddy.sock"),
    storage=Path("/storage"),
    log=Path("/caddy.log"),
)


def test_it_listens_on_sockets_that_are_lent_to_it() -> None:
    server = plan_config(LAYOUT)["apps"]["http"]["servers"]["front"]
    assert server["listen"] == ["fd/7", "fd/8"]


def test_one_that_retires_listens_no_more_and_is_still_told_what_to_do() -> None:
    retired = plan_retirement(LAYOUT)
    plan = plan_config(LAYOUT)
    assert retired["apps"]["http"] == {"servers": {}}
    assert (retired["admin"], retired["apps"]["tls"]) == (plan["admin"], plan["apps"]["tls"])


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
