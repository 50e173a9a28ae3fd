from __future__ import annotations

from atolld.builds.mirrors import Source, parse_release, parse_sources, plan_options, plan_sources

BOOKWORM = {"ID": "debian", "VERSION_CODENAME": "bookworm"}
STANZAS = """\
# comment
Types: deb deb-src
URIs: https://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: https://mirror.example/security
Suites: bookworm-security
Components: main

Types: deb
URIs: https://other.example/tool
Suites: stable
Components: main
Enabled: no
"""
LINES = """\
# deb http://commented.example/debian bookworm main
deb-src http://source.example/debian bookworm main
deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main contrib # ours
deb http://mirror.example/security bookworm-security main
deb http://tool.example/apt bookworm tool
"""


def test_both_formats_are_read_alike():
    lines = plan_sources(BOOKWORM, parse_sources(LINES))
    stanzas = plan_sources(BOOKWORM, parse_sources(STANZAS.replace("https", "http")))
    assert lines == stanzas


def test_a_debian_hosts_mirror_is_carried_over_to_our_release():
    assert plan_sources(BOOKWORM, parse_sources(STANZAS)) == [
        "deb https://mirror.example/debian trixie main",
        "deb https://mirror.example/debian trixie-updates main",
        "deb https://mirror.example/security trixie-security main",
    ]


def test_a_disabled_source_and_a_foreign_repository_are_passed_over():
    sources = parse_sources(STANZAS) + parse_sources("deb http://tool.example/apt bookworm tool\n")
    assert [source.uris[0] for source in sources if "main" not in source.components] == [
        "http://tool.example/apt"
    ]
    assert not any("other.example" in uri for source in sources for uri in source.uris)


def test_continued_fields_and_comments_in_a_stanza_are_read():
    uris = "URIs:\n http://one.example\n# in between\n http://two.example\n"
    text = f"Types: deb\n{uris}Suites: sid\nComponents: main\n"
    assert parse_sources(text) == [Source(("http://one.example", "http://two.example"), ("sid",), ("main",))]


def test_ubuntus_mirror_does_not_carry_debian():
    ubuntu = {"ID": "ubuntu", "VERSION_CODENAME": "noble"}
    assert plan_sources(ubuntu, parse_sources("deb http://ubuntu.example noble main\n")) == []


def test_without_a_mirror_of_the_hosts_release_the_default_is_taken():
    assert plan_sources(BOOKWORM, parse_sources("deb http://mirror.example bullseye main\n")) == []


def test_the_operators_own_mirror_wins():
    planned = plan_sources(BOOKWORM, parse_sources(STANZAS), "http://own.example/debian")
    assert planned == [
        "deb http://own.example/debian trixie main",
        "deb http://own.example/debian trixie-updates main",
    ]


def test_os_release_is_read_with_and_without_quotes():
    assert parse_release('ID=debian\nPRETTY_NAME="Debian 12"\n# x=y\n') == {
        "ID": "debian",
        "PRETTY_NAME": "Debian 12",
    }


def test_proxies_and_certificates_are_carried_and_nothing_else():
    dump = "\n".join(
        [
            'Acquire "";',
            'Acquire::http::Proxy "http://proxy.example:3128";',
            'Acquire::https::mirror.example::CaInfo "/etc/ca.crt";',
            'Acquire::https::Proxy "";',
            'Acquire::IndexTargets::deb "";',
            'Acquire::Retries "3";',
        ]
    )
    assert plan_options(dump) == [
        'Acquire::http::Proxy "http://proxy.example:3128";',
        'Acquire::https::mirror.example::CaInfo "/etc/ca.crt";',
        'Acquire::Retries "3";',
    ]
