from __future__ import annotations

from collections.abc import Sequence

import pytest

from atolld.tls.resolve import Lookup, resolves_to_us


def answering(*addresses: str) -> Lookup:
    async def look_up(host: str) -> Sequence[str]:
        assert host.startswith("49983-check")
        return addresses

    return look_up


async def test_a_name_that_leads_here_needs_nothing() -> None:
    found = await resolves_to_us("atoll.localhost:8443", answering("::1", "127.0.0.1"))
    assert found.is_ours
    assert found.host.endswith(".atoll.localhost")
    assert found.advice == ""


@pytest.mark.parametrize(
    ("domain", "advice"),
    [("atoll.localhost:8443", "libnss-myhostname"), ("sandbox.example.org", "*.sandbox.example.org. A")],
)
async def test_a_name_that_leads_nowhere_says_what_to_add(domain: str, advice: str) -> None:
    found = await resolves_to_us(domain, answering())
    assert found.where == "nowhere"
    assert advice in found.advice


async def test_a_name_that_leads_to_another_machine_is_said_with_its_address() -> None:
    found = await resolves_to_us("sandbox.example.org", answering("192.0.2.7"))
    assert found.where == "elsewhere"
    assert "192.0.2.7" in found.advice


async def test_the_resolver_of_this_machine_is_asked_by_default() -> None:
    assert (await resolves_to_us("nowhere.invalid")).where == "nowhere"
