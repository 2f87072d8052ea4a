"""Further metrics: in the comparison, in option files, and told in a sentence where they cannot be had."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from comparing import QUICK, compare, networks, write

from esc_arch.checks.options import check_options
from esc_arch.common.errors import UserError
from esc_arch.metrics import calculate_pyiqa, load_metric, pyiqa_metric

Options = dict[str, Any]
FAKE = '''
"""Stands in for pyiqa: metrics whose scores can be predicted, and one whose weights cannot be fetched."""
import os
import sys
import types
import urllib.error

import cv2

utils = types.ModuleType("pyiqa.utils.img_util")
utils.scandir_images = lambda folder: sorted(os.path.join(folder, name) for name in os.listdir(folder))
sys.modules["pyiqa.utils"] = types.ModuleType("pyiqa.utils")
sys.modules["pyiqa.utils.img_util"] = utils


def folders(results, gt):
    """The difference of two folders in brightness."""
    first, second = ([cv2.imread(file).mean() for file in utils.scandir_images(folder)] for folder in (results, gt))
    assert len(first) == len(second)
    return abs(sum(first) - sum(second)) / len(first)


class Metric:
    def __init__(self, mode, score):
        self.metric_mode, self.score = mode, score

    def __call__(self, *images, **_options):
        if self.metric_mode == "folders":
            return self.score(*images)
        assert len(images) == (2 if self.metric_mode == "FR" else 1)
        assert all(image.shape[:2] == (1, 3) and 0 <= image.min() <= image.max() <= 1 for image in images)
        return self.score(*images)


def list_models():
    return ["brightness", "distance", "far", "fid", "inception_score", "clipscore"]


def create_metric(name, device):
    if name == "far":
        raise urllib.error.URLError("Name or service not known")
    if name == "fid":
        return Metric("folders", folders)
    if name == "inception_score":
        return Metric("folders", lambda results: {"inception_score_mean": len(utils.scandir_images(results))})
    if name == "distance":
        return Metric("FR", lambda x, y: (x - y).abs().mean())
    return Metric("NR", lambda x: x[0, 0].mean())  # of the red channel
'''


def _forget_pyiqa() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyiqa"]:
        del sys.modules[name]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyiqa.py").write_text(FAKE)
    monkeypatch.syspath_prepend(tmp_path)
    _forget_pyiqa()
    load_metric.cache_clear()
    yield
    _forget_pyiqa()
    load_metric.cache_clear()


def test_a_device_that_is_not_there(fake: None) -> None:
    with pytest.raises(UserError, match="metric brightness: its device cude cannot be used"):
        load_metric("brightness", "cude")


def test_images_reach_the_metric_as_rgb(fake: None) -> None:
    image = np.zeros((8, 10, 3), np.uint8)
    image[..., 2] = 51  # red, in BGR
    assert calculate_pyiqa(image, metric="brightness", better="higher") == pytest.approx(0.2)
    image[0] = 255
    assert calculate_pyiqa(image, metric="brightness", crop_border=1) == pytest.approx(0.2)
    assert calculate_pyiqa(image, image, metric="distance") == 0
    with pytest.raises(UserError, match="metric distance compares with GT"):
        calculate_pyiqa(image, metric="distance")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "far",
            r"metric far: its weights cannot be fetched \(URLError: .*not known>\); run this once with a connection",
        ),
        ("nothing", "metric nothing is unknown to pyiqa, or not of images; choose from brightness, distance, far"),
        ("clipscore", "metric clipscore is unknown to pyiqa, or not of images; choose"),  # it compares with a caption
    ],
)
def test_what_cannot_be_had_is_told(fake: None, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_metric(name)


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    load_metric.cache_clear()
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(UserError, match=r"metric lpips needs pyiqa .*esc_arch\[metrics\]"):
        load_metric("lpips")


def test_option_files_are_checked_before_training(fake: None, tiny_options: Options) -> None:
    options = {**tiny_options, "is_train": True, "dist": False}
    metrics = {"far": {"type": "calculate_pyiqa", "metric": "far"}}
    with pytest.raises(UserError, match="metric far: its weights cannot be fetched"):
        check_options({**options, "val": {**options["val"], "metrics": metrics}})
    metrics = {"far": {"type": "calculate_pyiqa"}}
    with pytest.raises(UserError, match="val: metrics: far has no option metric"):
        check_options({**options, "val": {**options["val"], "metrics": metrics}})


def test_comparison_scores_by_them(
    options: Options, fake: None, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    Path("photos").mkdir()
    for name in "ab":
        photo = cv2.GaussianBlur(rng.integers(0, 255, (100, 110, 3)).astype(np.uint8), (0, 0), 2)
        cv2.imwrite(f"photos/{name}.png", photo)
    tiny = next(dataset for dataset in options["datasets"].values() if dataset.get("name") == "tiny")
    photos = {"name": "photos", "type": "SingleImageDataset", "dataroot_lq": "photos", "io_backend": {"type": "disk"}}
    file = write("a.yml", options, datasets={"test_1": tiny, "test_2": photos})
    arguments = [file, *QUICK, "--scores-only", "--bicubic", "--sets", "photos", "--metrics"]
    assert compare(*arguments, "niqe", "brightness", "distance") == 0
    scores = networks()["bicubic x2"]["quality"]["photos"]
    assert scores.keys() == {"niqe", "brightness", "images"}, "what compares with GT is left out where there is none"
    red = np.mean([cv2.imread(f"photos/{name}.png")[..., 2].mean() for name in "ab"]) / 255
    assert scores["brightness"] == pytest.approx(red, abs=0.01)
    assert scores["niqe"] > 0
    out = capsys.readouterr().out
    assert "photos NIQE" in out
    assert "Further metrics by BasicSR (NIQE) and pyiqa, on whole images. Lower is better: NIQE." in out
    assert "niqe_photos,brightness_photos" in Path("out/comparison.csv").read_text()


def test_comparison_beside_psnr_and_what_fails(
    options: Options, fake: None, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write("a.yml", options)
    assert compare(file, *QUICK, "--scores-only", "--metrics", "distance") == 0
    assert list(networks()["a"]["quality"]["tiny"]) == ["psnr", "ssim", "distance", "images"]
    assert compare(file, *QUICK, "--scores-only", "--metrics", "far") == 1
    assert "metric far: its weights cannot be fetched" in networks()["a"]["problems"]["tiny"]
    assert compare(file, *QUICK, "--scores-only") == 0
    assert list(networks()["a"]["quality"]["tiny"]) == ["psnr", "ssim", "images"]


def test_real_package(tmp_path: Path) -> None:
    """Two metrics of pyiqa that need no weights."""
    pytest.importorskip("pyiqa")
    pyiqa_metric.load_metric.cache_clear()
    rng = np.random.default_rng(0)
    image = rng.integers(0, 250, (64, 72, 3)).astype(np.uint8)
    expected = 10 * torch.log10(torch.tensor(255**2 / 25)).item()
    assert calculate_pyiqa(image + 5, image, metric="psnr") == pytest.approx(expected, abs=0.01)
    assert calculate_pyiqa(image, image, metric="gmsd") < calculate_pyiqa(image[::-1], image, metric="gmsd")
