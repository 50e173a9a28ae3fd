"""The text of the table; that it works is the machine tests' affair."""

from __future__ import annotations

from ipaddress import IPv4Network

from atolld.node.linux.firewall import (
    Allowance,
    Policy,
    add_offline,
    build_table,
    delete_table,
    link_group,
    table_name,
)

NETWORK = IPv4Network("10.213.0.0/16")


def test_the_table_is_replaced_in_one_transaction() -> None:
    lines = build_table(Policy(NETWORK)).splitlines()
    name = table_name(NETWORK)
    assert lines[:3] == [f"table inet {name}", f"delete table inet {name}", f"table inet {name} {{"]


def test_servers_with_different_ranges_do_not_meet() -> None:
    other = IPv4Network("10.214.0.0/20")
    assert table_name(NETWORK) != table_name(other)
    assert link_group(NETWORK) != link_group(other)


def test_private_and_metadata_ranges_are_blocked_and_allowances_come_first() -> None:
    allowances = frozenset({Allowance(IPv4Network("10.0.0.2/32"), 53), Allowance(IPv4Network("10.9.0.0/16"))})
    text = build_table(Policy(NETWORK, allowances))
    for network in ("10.0.0.0/8", "169.254.0.0/16", "127.0.0.0/8", "100.64.0.0/10"):
        assert network in text
    assert "10.0.0.2/32 . 53" in text
    assert "elements = { 10.9.0.0/16 }" in text
    assert text.index("jump check_allowed") < text.index("ip daddr @blocked jump refuse")


def test_an_offline_sandbox_is_refused_before_its_open_connections_and_all_allowances() -> None:
    text = build_table(Policy(NETWORK, offline=frozenset({"10.213.0.6"})))
    assert "elements = { 10.213.0.6 }" in text
    from_sandbox = text[text.index("chain from_sandbox") :]
    assert from_sandbox.index("jump check_sender") < from_sandbox.index("ct state established")


def test_an_empty_set_has_no_elements() -> None:
    assert "elements = {  }" not in build_table(Policy(NETWORK))


def test_a_change_names_the_table() -> None:
    assert add_offline(NETWORK, "10.213.0.6") == "add element inet atoll_0ad50000_16 offline { 10.213.0.6 }\n"
    assert delete_table(NETWORK).count(table_name(NETWORK)) == 2
