import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_wire import hostauth, hosts, signatures

IDS = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=64)
PORTS = st.integers(1, 65535)


@given(PORTS, IDS, st.sampled_from(["atoll.localhost:8600", "example.com", "a"]))
def test_a_sandbox_host_is_parsed_as_it_was_made(port: int, sandbox_id: str, domain: str) -> None:
    assert hosts.parse_sandbox_host(hosts.sandbox_host(port, sandbox_id, domain)) == (port, sandbox_id)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("49983-iabc.atoll.localhost:8600", (49983, "iabc")),
        ("49983-IABC.Example.COM", (49983, "iabc")),
        ("3000-iabc-6532622b.e2b.app", (3000, "iabc")),
        ("49983-iabc", None),
        ("api.example.com", None),
        ("localhost:8600", None),
        ("127.0.0.1:8600", None),
        ("[::1]:8600", None),
        ("0-iabc.example.com", None),
        ("65536-iabc.example.com", None),
        ("999999-iabc.example.com", None),
        ("-iabc.example.com", None),
        ("80-.example.com", None),
        ("80-i_bc.example.com", None),
        ("٨٠-iabc.example.com", None),
        ("", None),
    ],
)
def test_hosts(host: str, expected: tuple[int, str] | None) -> None:
    assert hosts.parse_sandbox_host(host) == expected


@given(st.text(max_size=80))
def test_any_host_is_answered(host: str) -> None:
    hosts.parse_sandbox_host(host)


@pytest.mark.parametrize(
    ("sandbox_id", "port", "expected"),
    [
        ("iabc", "49983", (49983, "iabc")),
        ("iabc-6532622b", "80", (80, "iabc")),
        ("", "80", None),
        ("i/../x", "80", None),
        ("iabc", "", None),
        ("iabc", "-1", None),
        ("iabc", "70000", None),
        ("iabc", "²", None),
    ],
)
def test_routing_headers(sandbox_id: str, port: str, expected: tuple[int, str] | None) -> None:
    assert hosts.parse_routing_headers(sandbox_id, port) == expected


def test_the_signature_seen_on_the_wire() -> None:
    signature = signatures.file_signature("x.txt", "write", "", "tok123")
    assert signature == "v1_aLdHP72DZ35Gxte3Z0H3BBNZlIJiiK/1D14o/T87Ew8"


def test_a_signature_is_as_the_published_sdk_makes_it() -> None:
    sdk = pytest.importorskip("e2b.sandbox.signature")
    made = sdk.get_signature("/home/a b", "read", "root", "tok", None)["signature"]
    assert signatures.file_signature("/home/a b", "read", "root", "tok") == made


def test_a_signature_counts_for_what_it_was_made_for_only() -> None:
    signature = signatures.file_signature("a", "read", "user", "token", 1_800_000_000)
    assert signatures.is_file_signature(signature, "a", "read", "user", "token", 1_800_000_000)
    assert not signatures.is_file_signature(signature, "b", "read", "user", "token", 1_800_000_000)
    assert not signatures.is_file_signature(signature, "a", "write", "user", "token", 1_800_000_000)
    assert not signatures.is_file_signature(signature, "a", "read", "user", "token", 1_800_000_001)
    assert not signatures.is_file_signature(signature, "a", "read", "user", "token")
    assert not signatures.is_file_signature("ü", "a", "read", "user", "token")


def test_what_the_host_signs() -> None:
    assert hostauth.signing_bytes("POST", "/init", 1700000000123, b"{}") == (
        b"POST\n/init\n1700000000123\n44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    )


@given(st.integers(0, 10**18), st.binary(max_size=64))
def test_a_host_signature_header_survives_the_round_trip(unix_ms: int, signature: bytes) -> None:
    assert hostauth.parse_header(hostauth.encode_header(unix_ms, signature)) == (unix_ms, signature)


@pytest.mark.parametrize("value", ["", "12", ":QQ==", "-1:QQ==", "1:QQ", "1:*", "²:QQ==", "9" * 30 + ":QQ=="])
def test_a_malformed_host_signature_header_is_none(value: str) -> None:
    assert hostauth.parse_header(value) is None
