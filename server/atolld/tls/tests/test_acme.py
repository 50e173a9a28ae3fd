from __future__ import annotations

import json
from pathlib import Path

import pytest

from atolld.model.errors import InvalidRequest
from atolld.tls.acme import check_provider, read_issuer
from atolld.tls.caddy import AcmeIssuer

TOML = """
email = "ops@example.org"
[challenges.dns.provider]
name = "cloudflare"
api_token = "{env.TOKEN}"
"""
PROVIDER = {"name": "cloudflare", "api_token": "{env.TOKEN}"}
ISSUER = {"module": "acme", "email": "ops@example.org", "challenges": {"dns": {"provider": PROVIDER}}}


def test_toml_and_json_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "acme.toml").write_text(TOML)
    (tmp_path / "acme.json").write_text(json.dumps(ISSUER))
    assert read_issuer(tmp_path / "acme.toml").issuer == ISSUER
    assert read_issuer(tmp_path / "acme.json").issuer == ISSUER


@pytest.mark.parametrize(
    "text", ["email = ", 'email = "a@example.org"', "challenges = 3", "[challenges.dns]"]
)
def test_a_file_without_a_dns_provider_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "acme.toml").write_text(text)
    with pytest.raises(InvalidRequest, match=r"acme\.toml"):
        read_issuer(tmp_path / "acme.toml")


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"none\.toml"):
        read_issuer(tmp_path / "none.toml")


def test_a_caddy_without_the_provider_is_told_apart_before_it_starts() -> None:
    issuer = AcmeIssuer(ISSUER)
    check_provider(issuer, ["tls", "dns.providers.cloudflare"], Path("caddy"))
    with pytest.raises(InvalidRequest, match="it has none"):
        check_provider(issuer, ["tls", "tls.issuance.acme"], Path("caddy"))
