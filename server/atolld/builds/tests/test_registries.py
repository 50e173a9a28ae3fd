from __future__ import annotations

from pathlib import Path

from atolld.builds.registries import GUEST_CA_BUNDLE, read_registries


def make_host(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_machine_without_settings_leaves_the_tools_defaults(tmp_path: Path):
    registries = read_registries({"HOME": str(tmp_path)}, tmp_path)
    assert registries.ca_bundle is None
    assert registries.pip_index is None
    assert set(registries.sandbox_environment().values()) == {GUEST_CA_BUNDLE}


def test_pips_and_npms_files_are_followed(tmp_path: Path):
    host = make_host(
        tmp_path,
        {
            "etc/pip.conf": "[global]\nindex-url = https://one.example/simple\ncert = /x\n",
            "home/.config/pip/pip.conf": "[global]\nextra-index-url =\n  https://two.example\n  https://u:p@three.example\n",
            "home/.npmrc": "fund=false\nregistry = https://npm.example/\n",
        },
    )
    registries = read_registries({"HOME": str(host / "home")}, host)
    assert registries.pip_index == "https://one.example/simple"
    assert registries.pip_extra_indexes == ("https://two.example", "https://u:p@three.example")
    assert registries.npm_registry == "https://npm.example/"


def test_the_environment_wins_over_files(tmp_path: Path):
    host = make_host(tmp_path, {"etc/pip.conf": "[global]\nindex-url = https://file.example\n"})
    environ = {"HOME": str(tmp_path), "PIP_INDEX_URL": "https://environment.example"}
    assert read_registries(environ, host).pip_index == "https://environment.example"


def test_an_index_with_a_password_stays_outside_the_sandboxes(tmp_path: Path):
    environ = {"HOME": str(tmp_path), "PIP_INDEX_URL": "https://user:secret@pip.example/simple"}
    registries = read_registries(environ, tmp_path)
    assert registries.build_environment("/ca")["UV_DEFAULT_INDEX"] == "https://user:secret@pip.example/simple"
    assert "secret" not in str(registries.sandbox_environment())


def test_a_broken_pip_conf_stops_nothing(tmp_path: Path):
    host = make_host(tmp_path, {"etc/pip.conf": "no section here\n"})
    assert read_registries({"HOME": str(tmp_path)}, host).pip_index is None


def test_the_bundle_named_by_the_environment_is_taken_when_it_is_there(tmp_path: Path):
    host = make_host(tmp_path, {"etc/ssl/certs/ca-certificates.crt": "system", "own.pem": "own"})
    named = read_registries({"HOME": str(tmp_path), "SSL_CERT_FILE": str(host / "own.pem")}, host)
    missing = read_registries({"HOME": str(tmp_path), "SSL_CERT_FILE": "/nowhere"}, host)
    assert named.ca_bundle == host / "own.pem"
    assert missing.ca_bundle == host / "etc/ssl/certs/ca-certificates.crt"
