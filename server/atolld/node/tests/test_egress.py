from __future__ import annotations

import pytest

from atolld.model.errors import InvalidRequest
from atolld.node import egress
from atolld.node.egress import Destination


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.1.2.3", Destination("10.1.2.3")),
        ("10.1.0.0/16", Destination("10.1.0.0/16")),
        ("10.1.2.3:8080", Destination("10.1.2.3", 8080)),
        (" mirror.example:443 ", Destination("mirror.example", 443)),
    ],
)
def test_a_destination_of_the_operator_is_read(text: str, expected: Destination) -> None:
    assert egress.parse_destination(text) == expected


@pytest.mark.parametrize(
    "text", ["", "10.1.2.3:0", "10.1.2.3:http", "10.1.2.300", "a b", "10.0.0.0/33", "::1"]
)
def test_nonsense_is_refused_and_the_variable_is_named(text: str) -> None:
    with pytest.raises(InvalidRequest, match="ATOLL_ALLOW_EGRESS"):
        egress.parse_destination(text)


def test_the_resolvers_are_read_in_order_without_comments_and_ipv6() -> None:
    text = "# x\nsearch a.b\nnameserver 10.0.0.2 # first\nnameserver fe80::1%eth0\nnameserver 1.1.1.1\n"
    assert egress.parse_name_servers(text) == ["10.0.0.2", "1.1.1.1"]


def test_a_local_stub_resolver_is_recognised() -> None:
    assert egress.is_loopback_only("nameserver 127.0.0.53\noptions edns0\n")
    assert not egress.is_loopback_only("nameserver 127.0.0.1\nnameserver 10.0.0.2\n")
    assert not egress.is_loopback_only("")


def test_pips_configuration_names_its_indexes() -> None:
    text = (
        "[global]\nindex-url = https://u:p@pip.example/simple\nextra-index-url =\n  http://a.example:8081/x\n"
    )
    assert list(egress.destinations_of_pip(text)) == [
        Destination("pip.example", 443),
        Destination("a.example", 8081),
    ]
    assert list(egress.destinations_of_pip("index-url = https://no.section/")) == []


def test_npms_configuration_names_its_registries_and_no_other_url() -> None:
    text = (
        "registry=https://npm.example/\n"
        "@scope:registry = http://scope.example\n"
        "homepage=https://other.example\n"
    )
    assert [d.host for d in egress.destinations_of_npm(text)] == ["npm.example", "scope.example"]


def test_both_forms_of_apt_sources_are_read() -> None:
    text = (
        "# deb http://old.example/debian x main\n"
        "deb [signed-by=/a] http://deb.example/debian trixie main\n"
        "Types: deb\nURIs: https://two.example/debian http://three.example:3142/debian\n"
    )
    assert list(egress.destinations_of_apt(text)) == [
        Destination("deb.example", 80),
        Destination("two.example", 443),
        Destination("three.example", 3142),
    ]


def test_the_environment_names_indexes_proxies_and_module_proxies() -> None:
    environ = {
        "PIP_INDEX_URL": "https://pip.example/simple",
        "GOPROXY": "https://go.example|https://more.example,direct",
        "HTTPS_PROXY": "http://proxy.example:3128",
        "HOME": "https://not.example",
    }
    hosts = {(d.host, d.port) for d in egress.destinations_of_environment(environ)}
    assert hosts == {
        ("pip.example", 443),
        ("go.example", 443),
        ("more.example", 443),
        ("proxy.example", 3128),
    }


def test_broken_urls_are_passed_over() -> None:
    assert list(
        egress.parse_urls("https://a.example:99999/ https:// http://[::1]:80/ https://b.example")
    ) == [Destination("b.example", 443)]
