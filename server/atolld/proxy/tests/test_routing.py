from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atolld.model.routes import Route
from atolld.model.sandbox import SandboxId
from atolld.proxy.errors import Refusal
from atolld.proxy.heads import BadHead, parse_request
from atolld.proxy.routing import Decision, ToApi, ToSandbox, admit, decide, host_names, is_reserved

OWN = host_names(["atoll.localhost:8600", "Box.Example.com"])
TO = ToSandbox(SandboxId("i1"), 3000)
BOTH = "E2b-Sandbox-Id: i1\nE2b-Sandbox-Port: 3000\n"


def decided(host: str, headers: str = "", target: str = "/") -> Decision:
    text = f"GET {target} HTTP/1.1\nHost: {host}\n{headers}\n"
    return decide(parse_request(text.replace("\n", "\r\n").encode("latin-1")), OWN)


@pytest.mark.parametrize(
    "host",
    [
        "3000-i1.atoll.localhost:8600",
        "3000-i1.e2b.app",
        "3000-I1.X.y:1",
        "3000-i1-client.example.org",
        "3000-i1.x.",
    ],
)
def test_a_host_label_names_the_sandbox_on_any_domain(host: str) -> None:
    assert decided(host) == TO


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8600",
        "127.0.0.1:8600",
        "[::1]:8600",
        "[::1]",
        "10.1.2.3",
        "sandbox.e2b.app",
        "atoll.localhost",
        "atoll.localhost:8600",
        "atoll.localhost:443",
        "box.example.com:8600",
    ],
)
def test_the_headers_count_on_shared_hosts(host: str) -> None:
    assert decided(host, BOTH) == TO
    assert decided(host) == ToApi()


@pytest.mark.parametrize(
    "host", ["api.example.org", "example.org", "3000-i1", "x-i1.example.org", "sandboxes.x"]
)
def test_elsewhere_the_headers_do_not_count(host: str) -> None:
    assert decided(host, BOTH) == ToApi()


def test_the_label_wins_over_the_headers() -> None:
    assert decided("80-i2.example.org", BOTH) == ToSandbox(SandboxId("i2"), 80)


def test_the_target_in_absolute_form_wins_over_the_host_header() -> None:
    assert decided("api.example.org", target="http://3000-i1.example.org/x") == TO


def test_the_old_form_of_an_id_is_understood() -> None:
    assert decided("localhost", "E2b-Sandbox-Id: i1-client\nE2b-Sandbox-Port: 3000\n") == TO


@pytest.mark.parametrize(
    ("host", "headers", "message"),
    [
        ("localhost", "E2b-Sandbox-Id: i1\n", "missing header"),
        ("localhost", "E2b-Sandbox-Port: 3000\n", "missing header"),
        ("localhost", "E2b-Sandbox-Id: i1\nE2b-Sandbox-Port: x\n", "Invalid sandbox port"),
        ("localhost", "E2b-Sandbox-Id: i1\nE2b-Sandbox-Port: 0\n", "Invalid sandbox port"),
        ("localhost", "E2b-Sandbox-Id: i1\nE2b-Sandbox-Port: 65536\n", "Invalid sandbox port"),
        ("localhost", "E2b-Sandbox-Id: i_1\nE2b-Sandbox-Port: 1\n", "Invalid sandbox ID"),
        ("localhost", "E2b-Sandbox-Id:\nE2b-Sandbox-Port: 1\n", "Invalid sandbox ID"),
        ("localhost", BOTH + "E2b-Sandbox-Id: i2\n", "Invalid sandbox ID"),
        ("localhost", BOTH + "E2b-Sandbox-Port: 2\n", "Invalid sandbox port"),
        ("99999-i1.example.org", "", "Invalid sandbox port"),
        ("0-i1.example.org", "", "Invalid sandbox port"),
        ("80-i_1.example.org", "", "Invalid sandbox ID"),
        ("80-.example.org", "", "Invalid sandbox ID"),
        ("exa mple.org", "", "Invalid host"),
        ("a.example.org:x", "", "Invalid host"),
        ("user@example.org", "", "Invalid host"),
        ("example.org/x", "", "Invalid host"),
    ],
)
def test_what_cannot_be_routed_is_refused(host: str, headers: str, message: str) -> None:
    assert decided(host, headers) == Refusal(400, message, text=True)


@given(host=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30))
def test_only_a_well_formed_label_leads_to_a_sandbox(host: str) -> None:
    try:
        decision = decided(host)
    except BadHead:
        return
    if isinstance(decision, ToSandbox):
        label = host.lower().partition(".")[0]
        assert label.startswith(
            f"{int(label.partition('-')[0]):d}-{decision.sandbox_id}"
        ) or label.startswith("0")


@given(
    port=st.integers(1, 65535),
    sandbox_id=st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True),
    domain=st.from_regex(r"[a-z]{1,9}(\.[a-z]{1,9}){0,3}", fullmatch=True),
)
def test_every_port_of_every_sandbox_has_a_name(port: int, sandbox_id: str, domain: str) -> None:
    assert decided(f"{port}-{sandbox_id}.{domain}") == ToSandbox(SandboxId(sandbox_id), port)


@pytest.mark.parametrize(
    "target",
    [
        r"/init",
        r"/INIT",
        r"//init",
        r"/init/",
        r"/init?x=1",
        r"/%69nit",
        r"/%2569nit",
        r"/./init",
        r"/x/../init",
        r"/%2e/init",
        r"/x/%2e%2E/init",
        r"/init;a=b",
        r"/;x/init",
        r"/%2Finit",
        r"\init",
        r"/init%3Fx",
        r"/init%00",
        r"/files%3F/../../init",
        r"/init#x",
        r"/freeze",
        r"/unfreeze",
        r"/collapse",
        r"/fsfreeze",
        r"/fsthaw",
        r"/upgrade",
        r"/tunnel?port=22",
    ],
)
def test_the_daemons_host_routes_are_reserved_however_they_are_spelled(target: str) -> None:
    assert is_reserved(ToSandbox(SandboxId("i1"), 49983), target.encode())
    assert not is_reserved(TO, target.encode())


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "*",
        "/health",
        "/files?path=/init",
        "/initial",
        "/process.Process/Start",
        "/init/../files",
        "/x/init",
    ],
)
def test_the_daemons_other_routes_are_open(target: str) -> None:
    assert not is_reserved(ToSandbox(SandboxId("i1"), 49983), target.encode())


@given(
    spelling=st.lists(
        st.sampled_from(["/", "//", "/./", "/%2e/", "/a/../", "/;p/", "/%2F"]), min_size=1, max_size=4
    )
)
def test_no_prefix_hides_a_reserved_route(spelling: list[str]) -> None:
    assert is_reserved(ToSandbox(SandboxId("i1"), 49983), ("".join(spelling) + "%49nit").encode())


def admitted(route: Route, headers: str, port: int = 3000) -> Refusal | None:
    text = f"GET / HTTP/1.1\nHost: x\n{headers}\n"
    return admit(ToSandbox(SandboxId("i1"), port), parse_request(text.replace("\n", "\r\n").encode()), route)


def test_a_private_sandbox_wants_its_token_on_every_port_but_the_daemons() -> None:
    secured = Route("a", allow_public=False, traffic_token_sha256=hashlib.sha256(b"right").hexdigest())
    prefix = "Sandbox is secured with traffic access token. "
    missing, wrong = admitted(secured, ""), admitted(secured, "E2B-Traffic-Access-Token: wrong\n")
    assert missing is not None
    assert (missing.status, missing.message) == (
        403,
        prefix + "Token header 'e2b-traffic-access-token' is missing",
    )
    assert wrong is not None
    assert (wrong.status, wrong.message) == (
        403,
        prefix + "Provided token in header 'e2b-traffic-access-token' is invalid",
    )
    assert admitted(secured, "e2b-traffic-access-token: right\n") is None
    assert admitted(secured, "", port=49983) is None
    assert admitted(Route("a"), "") is None


def test_a_private_sandbox_without_a_token_lets_nobody_in() -> None:
    assert admitted(Route("a", allow_public=False), "e2b-traffic-access-token: x\n") is not None
