from __future__ import annotations

from pathlib import Path

from atolld.tls.bundle import bundle_sources, merge_certificates, write_bundle


def block(text: str) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"


def test_every_certificate_is_there_once_and_comments_are_not() -> None:
    merged = merge_certificates(
        ["# A\n" + block("a") + block("b"), block("b").replace("\n", "\r\n"), block("c")]
    )
    assert merged == block("a") + block("b") + block("c")


def test_the_machines_own_and_named_files_are_all_kept(tmp_path: Path) -> None:
    usual = tmp_path / "etc/ssl/certs/ca-certificates.crt"
    usual.parent.mkdir(parents=True)
    usual.write_text(block("system"))
    named = tmp_path / "company.pem"
    named.write_text(block("company"))
    environ = {"SSL_CERT_FILE": str(named), "NODE_EXTRA_CA_CERTS": str(named), "REQUESTS_CA_BUNDLE": "/gone"}
    assert bundle_sources(tmp_path / "bundle.pem", environ, tmp_path) == [named, usual]


def test_a_bundle_is_not_made_from_itself(tmp_path: Path) -> None:
    """A shell that has our variables starts the server."""
    root, bundle = tmp_path / "root.pem", tmp_path / "bundle.pem"
    root.write_text(block("old"))
    environ = {"SSL_CERT_FILE": str(bundle)}
    write_bundle(bundle, root, environ)
    root.write_text(block("new"))
    write_bundle(bundle, root, environ)
    assert block("new") in bundle.read_text()
    assert block("old") not in bundle.read_text()
