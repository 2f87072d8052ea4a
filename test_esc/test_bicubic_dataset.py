"""LQ made by bicubic on the fly: sizes, places of queries, random scales, clear mistakes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import esc_arch

Options = dict[str, Any]


@pytest.fixture
def options(tiny_data: Path) -> Options:
    """Training on pieces of 48 x 40 pixels."""
    return {
        "phase": "train",
        "dataroot_gt": str(tiny_data / "train_HR.lmdb"),
        "io_backend": {"type": "lmdb"},
        "scale": [1, 4],
        "gt_size": 32,
        "queries": 50,
        "use_hflip": True,
        "use_rot": True,
    }


def dataset(opt: Options) -> Any:
    assert esc_arch.__version__
    from basicsr.utils.registry import DATASET_REGISTRY

    return DATASET_REGISTRY.get("BicubicDataset")(opt)


def test_validation_pairs_are_those_of_the_prepared_files(tiny_data: Path) -> None:
    """At the scale of the prepared LR they are equal to the last bit."""
    folder = tiny_data / "val" / "HR"
    opt = {"phase": "val", "dataroot_gt": str(folder), "io_backend": {"type": "disk"}, "scale": 2}
    item = dataset(opt)[0]
    for key, file in (("gt", folder / "p0.png"), ("lq", tiny_data / "val/LR/p0x2.png")):
        expected = torch.from_numpy(cv2.imread(str(file))[..., ::-1].transpose(2, 0, 1).copy())
        assert torch.equal((item[key] * 255).round().byte(), expected)
    assert item["lq_path"] == str(folder / "p0.png")


SIZES = [(1, (48, 40), (48, 40)), (2.7, (17, 14), (46, 38)), (5, (9, 8), (45, 40)), (8, (6, 5), (48, 40))]


@pytest.mark.parametrize(("scale", "lq", "gt"), SIZES)
def test_sizes_at_any_scale(tiny_data: Path, scale: float, lq: tuple[int, int], gt: tuple[int, int]) -> None:
    opt = {"phase": "val", "dataroot_gt": str(tiny_data / "val/HR"), "io_backend": {"type": "disk"}, "scale": scale}
    item = dataset(opt)[0]
    assert tuple(item["lq"].shape) == (3, *lq)
    assert tuple(item["gt"].shape) == (3, *gt)
    enlarged = torch.nn.functional.interpolate(item["lq"][None], size=gt, mode="bicubic")
    assert (enlarged - item["gt"]).abs().mean() < 0.1  # of the same place


def test_scales_are_drawn_for_each_item(options: Options) -> None:
    random.seed(0)
    data = dataset(options)
    sides = []
    for index in range(60):
        item = data[index % len(data)]
        assert item["lq"].shape == (3, 8, 8)
        assert item["gt"].shape == (50, 3)
        sides.append(2 / item["cell"][0, 0].item())
        assert (item["cell"] == item["cell"][0, 0]).all()
    assert min(sides) < 12
    assert max(sides) > 28
    assert 8 <= min(sides) <= max(sides) <= 32.001


def test_queries_are_pixels_of_gt_at_their_places(options: Options, tmp_path: Path) -> None:
    """On a picture whose colour tells the place."""
    rows, columns = np.mgrid[:32, :32]
    cv2.imwrite(str(tmp_path / "a.png"), np.stack([0 * rows, columns * 8, rows * 8], axis=-1))  # red tells the row
    options.update(dataroot_gt=str(tmp_path), io_backend={"type": "disk"}, use_hflip=False, use_rot=False)
    options.update(scale=4, queries=64)
    item = dataset(options)[0]
    places = (item["coord"] + 1) / 2 * 32 - 0.5
    assert torch.allclose(places, places.round(), atol=1e-4)
    assert len({tuple(place) for place in places.round().int().tolist()}) == 64
    assert torch.allclose(item["gt"][:, :2] * 255, places * 8, atol=1e-2)
    assert (item["cell"] == 2 / 32).all()
    # LQ shows the same place: its centres are those of 4 x 4 blocks of GT
    assert torch.allclose(item["lq"][0, 2:-2, 4] * 255, (torch.arange(2, 6) * 4 + 1.5) * 8, atol=1)


def test_fixed_scale_gives_pairs(options: Options) -> None:
    del options["queries"]
    item = dataset({**options, "scale": 2})[1]
    assert item["lq"].shape == (3, 16, 16)
    assert item["gt"].shape == (3, 32, 32)
    down = torch.nn.functional.avg_pool2d(item["gt"][None], 2)[0]
    assert (down - item["lq"]).abs().mean() < 0.05


def test_options_are_left_alone(options: Options) -> None:
    before = str(options)
    assert dataset(options)[0]["lq"].shape == (3, 8, 8)
    assert str(options) == before


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"scale": 0.5}, r"scale must be a number of at least 1, or a range of such numbers, got 0.5"),
        ({"scale": [3, 2]}, r"scale must be a number of at least 1, or a range of such numbers, got \[3, 2\]"),
        ({"queries": None}, "a range of scales needs queries"),
        ({"queries": 65}, "queries must be from 1 to the 64 pixels of the smallest GT patch, got 65"),
        ({"gt_size": 4}, r"gt_size must be at least twice the largest scale, got 4 and \[1, 4\]"),
        ({"phase": "val"}, r"scale must be one number outside training, got \[1, 4\]"),
    ],
)
def test_wrong_options_are_named(options: Options, change: Options, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        dataset({**options, **change})


def test_image_smaller_than_the_patch_is_named(options: Options) -> None:
    data = dataset({**options, "gt_size": 64, "scale": 4})
    with pytest.raises(ValueError, match=r"is smaller than the GT patch of 64 pixels"):
        data[0]
