"""FID and its kin, which score all images of a folder together: against a formula, in the comparison, and refused."""

from __future__ import annotations

import sys
import urllib.error
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from comparing import QUICK, compare, networks, write
from test_metrics import fake  # noqa: F401

from esc_arch.checks.options import check_options
from esc_arch.common.errors import UserError
from esc_arch.metrics import calculate_pyiqa, load_metric, score_folder

Options = dict[str, Any]


class Means(torch.nn.Module):
    """Takes the place of pyiqa's Inception: the mean of every colour."""

    BLOCK_INDEX_BY_DIM = {2048: 3}  # noqa: RUF012

    def __init__(self, output_blocks: Any) -> None:
        super().__init__()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3)).double()


@pytest.fixture
def means(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package pyiqa with features that can be predicted."""
    pytest.importorskip("pyiqa")
    from pyiqa.archs import fid_arch

    load_metric.cache_clear()
    monkeypatch.setattr(fid_arch, "InceptionV3", Means)
    yield
    load_metric.cache_clear()


def plain_images(folder: Path, colours: np.ndarray) -> str:
    """Images of one colour each, in RGB."""
    folder.mkdir()
    for number, colour in enumerate(colours):
        image = np.broadcast_to(colour[::-1], (20 + number, 31, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), image)
    return str(folder)


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """The distance of the normal distributions of two sets, with eigenvalues in place of a root of matrices."""
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    roots = np.sqrt(np.linalg.eigvals(first @ second).real.clip(0)).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first) + np.trace(second) - 2 * roots)


def test_fid_is_the_distance_of_two_distributions(means: None, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (9, 3)), rng.integers(50, 200, (6, 3))
    a, b = plain_images(tmp_path / "a", colours[0]), plain_images(tmp_path / "b", colours[1])
    assert score_folder("fid", a, b) == pytest.approx(frechet(*colours), rel=1e-4)
    assert score_folder("fid", a, a) == pytest.approx(0, abs=1e-3)


def test_folders_that_cannot_be_compared(means: None, tmp_path: Path) -> None:
    some = plain_images(tmp_path / "some", np.full((3, 3), 7))
    one = plain_images(tmp_path / "one", np.full((1, 3), 7))
    with pytest.raises(UserError, match=r"metric fid: .*one holds 1 images, but at least 2 are needed"):
        score_folder("fid", some, one)
    with pytest.raises(UserError, match=r"metric fid: .*nowhere is no folder"):
        score_folder("fid", str(tmp_path / "nowhere"), some)
    with pytest.raises(UserError, match="metric fid compares with GT, and there is none"):
        score_folder("fid", some)
    with pytest.raises(UserError, match="metric lpips scores single images; of folders are fid, sfid"):
        score_folder("lpips", some, some)


def test_weights_that_are_absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("pyiqa")
    from pyiqa.archs import inception

    def unreachable(*_arguments: Any, **_options: Any) -> None:
        raise urllib.error.URLError("Name or service not known")

    load_metric.cache_clear()
    monkeypatch.setattr(inception, "load_pretrained_network", unreachable)
    some = plain_images(tmp_path / "some", np.full((3, 3), 7))
    with pytest.raises(UserError, match=r"metric fid: its weights cannot be fetched .*not known.*; run this once with"):
        score_folder("fid", some, some)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    load_metric.cache_clear()
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(UserError, match=r"metric fid needs pyiqa .*esc_arch\[metrics\]"):
        score_folder("fid", str(tmp_path), str(tmp_path))


@pytest.mark.usefixtures("fake")
def test_image_by_image_they_are_refused(tiny_options: Options) -> None:
    image = np.zeros((8, 10, 3), np.uint8)
    words = "metric fid scores all images of a set together, not one after the other; take it out of val:metrics and"
    with pytest.raises(UserError, match=words):
        calculate_pyiqa(image, image, metric="fid")
    metrics = {"fid": {"type": "calculate_pyiqa", "metric": "fid", "better": "lower"}}
    options = {**tiny_options, "is_train": True, "dist": False, "val": {**tiny_options["val"], "metrics": metrics}}
    with pytest.raises(UserError, match=f"val:metrics:fid: {words}"):
        check_options(options)


@pytest.mark.usefixtures("fake")
def test_comparison_scores_by_them(options: Options, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On pairs, whose GT is twice as bright as the results, and on pictures without GT."""
    rng = np.random.default_rng(0)
    photos = [cv2.GaussianBlur(rng.integers(0, 255, (48, 40, 3)).astype(np.uint8), (0, 0), 2) for _ in range(2)]
    for kind, size in (("HR", (40, 48)), ("LR", (20, 24))):
        Path(kind).mkdir()
        for name, photo in zip("ab", photos, strict=True):
            cv2.imwrite(f"{kind}/{name}.png", cv2.resize(photo, size) // (1 if kind == "HR" else 2))
    disk = {"io_backend": {"type": "disk"}}
    pairs = {"name": "pairs", "type": "PairedImageDataset", "dataroot_gt": "HR", "dataroot_lq": "LR", **disk}
    alone = {"name": "alone", "type": "SingleImageDataset", "dataroot_lq": "LR", **disk}
    file = write("a.yml", options, datasets={"test_1": pairs, "test_2": alone})
    few = [file, *QUICK, "--scores-only", "--bicubic", "--metrics"]
    assert compare(*few, "fid", "inception_score", "distance") == 0
    line = networks()["bicubic x2"]
    assert list(line["quality"]["pairs"]) == ["psnr", "ssim", "distance", "fid", "inception_score", "images"]
    brightness = np.mean([cv2.resize(photo, (40, 48)).mean() for photo in photos])
    assert line["quality"]["pairs"]["fid"] == pytest.approx(brightness / 2, rel=0.02)
    assert line["quality"]["alone"] == {"inception_score": 2, "images": 2}, "FID needs GT"
    out = capsys.readouterr().out
    assert "pairs PSNR" in out
    assert "FID, INCEPTION_SCORE: of all images of a data set together. Lower is better: FID." in out
    assert compare(*few, "fid", "--sets", "alone") == 1
    assert "datasets: alone has no dataroot_gt" in networks()["bicubic x2"]["problems"]["alone"]
