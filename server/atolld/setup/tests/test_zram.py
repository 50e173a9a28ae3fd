from __future__ import annotations

from pathlib import Path

import pytest

from atolld.model.errors import HostError
from atolld.setup import zram

SWAPS = """Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority
/dev/zram1                              partition\t4194300\t\t524288\t\t100
"""


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ("[lzo-rle] lzo lz4", "lz4"),
        ("lzo-rle lzo lz4 [zstd]", "zstd"),
        ("[lzo-rle] lzo", "lzo-rle"),
        ("[842] deflate", "842"),
    ],
)
def test_the_densest_algorithm_is_chosen(offered: str, chosen: str):
    assert zram.choose_algorithm(offered) == chosen


def test_swaps_are_read_in_mib(tmp_path: Path):
    (tmp_path / "swaps").write_text(SWAPS)
    assert zram.read_swaps(tmp_path / "swaps") == (zram.Swap("/dev/zram1", 4095, 512),)
    assert zram.read_swaps(tmp_path / "absent") == ()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of what was made, on a machine without swap."""
    sizes: list[int] = []

    def make(size_mib: int) -> str:
        sizes.append(size_mib)
        return "/dev/zram7"

    monkeypatch.setattr(zram, "make", make)
    monkeypatch.setattr(zram, "read_swaps", lambda: ())
    return sizes


def test_nothing_is_made_before_the_operator_agreed_and_again_after_a_reboot(tmp_path: Path, made: list[int]):
    zram.ensure(tmp_path)
    assert made == []
    zram.agree(tmp_path)
    assert len(made) == 1
    zram.ensure(tmp_path)
    assert len(made) == 2


def test_a_machine_with_swap_is_left_as_it_is(
    tmp_path: Path, made: list[int], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(zram, "read_swaps", lambda: (zram.Swap("/swapfile", 1024, 0),))
    assert "/swapfile" in zram.agree(tmp_path)
    assert made == []
    assert "no swap of ours" in zram.disagree(tmp_path)


def test_a_kernel_that_cannot_leaves_no_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(size_mib: int) -> str:
        raise HostError("no zram")

    monkeypatch.setattr(zram, "read_swaps", lambda: ())
    monkeypatch.setattr(zram, "make", fail)
    with pytest.raises(HostError):
        zram.agree(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.machine
def test_a_device_is_made_and_removed():
    if not zram.can_make():
        pytest.skip("this kernel has no zram")
    device = zram.make(64)
    try:
        assert [swap.size_mib for swap in zram.read_swaps() if swap.device == device] == [63]
    finally:
        zram.remove(device)
    assert device not in [swap.device for swap in zram.read_swaps()]
    assert not Path(f"/sys/block/{Path(device).name}").exists()
