"""What is said in the environment → where https listens and what it is called."""

from __future__ import annotations

import pytest

from atolld.config import TlsSettings, read_config
from atolld.model.errors import InvalidRequest
from atolld.tls.names import certificate_names, listen_addresses


@pytest.mark.parametrize(
    ("environ", "name", "port", "domain"),
    [
        ({}, "atoll.localhost", 8443, "atoll.localhost:8443"),
        ({"ATOLL_TLS_PORT": "9443"}, "atoll.localhost", 9443, "atoll.localhost:9443"),
        ({"ATOLL_DOMAIN": "Sandbox.example.org"}, "sandbox.example.org", 443, "sandbox.example.org"),
        ({"ATOLL_DOMAIN": "x.example:9443"}, "x.example", 9443, "x.example:9443"),
        # The domain of plain HTTP, said aloud.
        ({"ATOLL_DOMAIN": "atoll.localhost:8600"}, "atoll.localhost", 8443, "atoll.localhost:8443"),
        ({"ATOLL_DOMAIN": "x.example", "ATOLL_TLS_PORT": "8443"}, "x.example", 8443, "x.example:8443"),
        # 443 is passed on to 8443 by somebody else.
        ({"ATOLL_DOMAIN": "x.example:443", "ATOLL_TLS_PORT": "8443"}, "x.example", 8443, "x.example"),
    ],
)
def test_domain_and_port_follow_from_what_is_given(
    environ: dict[str, str], name: str, port: int, domain: str
) -> None:
    tls = read_config(environ).tls
    assert (tls.name, tls.port, tls.domain) == (name, port, domain)


def test_the_defaults_of_the_class_are_those_of_an_empty_environment() -> None:
    assert read_config({}).tls == TlsSettings()


@pytest.mark.parametrize(
    "environ",
    [
        {"ATOLL_TLS": "yes"},
        {"ATOLL_TLS_PORT": "0"},
        {"ATOLL_DOMAIN": "x.example:http"},
        {"ATOLL_TLS_CERT": "/c.pem"},
        {"ATOLL_TLS_KEY": "/k.pem"},
        {"ATOLL_TLS_CERT": "/c.pem", "ATOLL_TLS_KEY": "/k.pem", "ATOLL_TLS_ACME": "/a.toml"},
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused_by_name(environ: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest, match="ATOLL_"):
        read_config(environ)


def test_a_certificate_holds_the_domain_and_everything_right_below() -> None:
    assert certificate_names("sandbox.example.org") == ("sandbox.example.org", "*.sandbox.example.org")


@pytest.mark.parametrize(
    "name",
    ["", "localhost", "10.0.0.1", "[::1]", "a..b", "-a.b", "under_score.org", "é.org", "a." * 100 + "b"],
)
def test_a_name_that_no_certificate_can_serve_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest):
        certificate_names(name)


def test_below_localhost_only_this_machine_is_listened_to() -> None:
    assert listen_addresses("atoll.localhost", None) == ("127.0.0.1", "::1")
    assert listen_addresses("sandbox.example.org", None) == ("",)
    assert listen_addresses("sandbox.example.org", "127.0.0.1") == ("127.0.0.1", "::1")
    assert listen_addresses("atoll.localhost", "0.0.0.0") == ("",)
    assert listen_addresses("sandbox.example.org", "192.0.2.1") == ("192.0.2.1",)
