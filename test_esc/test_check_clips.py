"""Frames of clips are decoded before training as pictures are, whatever list or folder they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from esc_arch.checks import remembered
from esc_arch.checks.data import check_dataset
from esc_arch.common.errors import UserError

Options = dict[str, Any]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "cache_folder", lambda: str(tmp_path / "cache"))


def clip(root: Path, names: list[str]) -> None:
    for part, side in (("gt", 32), ("lq", 16)):
        for index, name in enumerate(names):
            file = root / part / name
            file.parent.mkdir(parents=True, exist_ok=True)
            image = np.random.default_rng(index).integers(0, 256, (side, side, 3), np.uint8)
            assert cv2.imwrite(str(file), image)


def section(root: Path, kind: str, **more: Any) -> Options:
    return {
        "name": "vid4", "type": kind, "phase": "train", "scale": 2, "gt_size": 16, "use_hflip": True, "use_rot": True,
        "dataroot_gt": str(root / "gt"), "dataroot_lq": str(root / "lq"), "io_backend": {"type": "disk"},
        "num_frame": 7, "random_reverse": False, **more,
    }  # fmt: skip


def spoil(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:200])


@pytest.mark.parametrize("kind", ["Vimeo90KDataset", "Vimeo90KRecurrentDataset", "VideoTestVimeo90KDataset"])
def test_vimeo(tmp_path: Path, kind: str) -> None:
    clip(tmp_path, [f"00001/{sequence:04d}/im{frame}.png" for sequence in (1, 2) for frame in range(1, 8)])
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbf00001/0001\r\n\r\n00001/0002 7 (32,32,3)\r\n")
    opt = section(tmp_path, kind, meta_info_file=str(tmp_path / "list.txt"), flip_sequence=False, cache_data=False)
    opt["phase"] = "val" if "Test" in kind else "train"
    assert check_dataset(opt, "datasets:x").count == 2
    spoil(tmp_path / "lq/00001/0002/im7.png")
    spoil(tmp_path / "gt/00001/0002/im4.png")
    with pytest.raises(UserError, match=r"2 files cannot be read .*im7\.png is damaged or cut off"):
        check_dataset(opt, "datasets:x")


@pytest.mark.parametrize("kind", ["REDSDataset", "REDSRecurrentDataset"])
def test_reds(tmp_path: Path, kind: str) -> None:
    clip(tmp_path, [f"001/{frame:08d}.png" for frame in range(100)])
    (tmp_path / "list.txt").write_text("001 100 (32,32,3)\n")
    opt = section(tmp_path, kind, meta_info_file=str(tmp_path / "list.txt"), val_partition="REDS4", test_mode=False)
    opt.update(dataroot_flow=None, interval_list=[1])
    assert check_dataset(opt, "datasets:train").count == 100
    (tmp_path / "lq/001/00000099.png").unlink()
    with pytest.raises(UserError, match=r"a file cannot be read as an image: .*lq/001/00000099\.png is missing"):
        check_dataset(opt, "datasets:train")


@pytest.mark.parametrize(
    ("kind", "cached"),
    [
        ("VideoTestDataset", True),
        ("VideoTestDataset", False),
        ("VideoTestDUFDataset", False),
        ("VideoRecurrentTestDataset", True),
    ],
)
def test_clips_of_tests(tmp_path: Path, kind: str, cached: bool) -> None:
    clip(tmp_path, [f"walk/{frame}.png" for frame in range(7)])
    opt = section(tmp_path, kind, cache_data=cached, padding="replicate", use_duf_downsampling=False, phase="val")
    assert check_dataset(opt, "datasets:val").count in (1, 7)
    assert cv2.imwrite(str(tmp_path / "gt/walk/3.png"), np.zeros((30, 32, 3), np.uint8))
    with pytest.raises(UserError, match=r"gt/walk/3\.png \(32x30\) and .*lq/walk/3\.png \(16x16\) do not pair"):
        check_dataset(opt, "datasets:val")
    spoil(tmp_path / "lq/walk/5.png")
    with pytest.raises(UserError, match=r"lq/walk/5\.png is damaged or cut off"):
        check_dataset(opt, "datasets:val")
