"""Kernels, features and crops: what the pictures are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from analyzing import TINY_EDSR, TINY_ESC, TINY_SWIN, analyze, arrays, option_file, picture, refused, summary
from conftest import TINY, randomise
from PIL import Image

from esc_arch import ESC, ESCFP
from esc_arch.analyze.features import find_mixers, passages
from esc_arch.analyze.kernels import dynamic_kernels, find_kernels, mosaic
from esc_arch.analyze.networks import Subject, read_subjects
from esc_arch.analyze.visual import most_different, scores
from esc_arch.weights import write_weights


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def subject(network: torch.nn.Module) -> Subject:
    return Subject("it", network.eval().requires_grad_(False), 2, 8)


def test_kernels_are_those_of_the_network() -> None:
    network = randomise(ESC(**TINY))
    it, lq = subject(network), torch.rand(1, 3, 8, 8)
    found = find_kernels(it)
    assert np.array_equal(found.stored, network.plk_filter.numpy())
    averaged = found.averaged
    assert averaged is not None
    turned = [
        np.rot90(flipped, turns, (2, 3)) for flipped in (found.stored, found.stored[..., ::-1]) for turns in range(4)
    ]
    assert averaged == pytest.approx(np.mean(turned, axis=0), abs=1e-6)
    kept: list[torch.Tensor] = []
    convolution: Any = network.blocks[0].pconvs[1]  # type: ignore[union-attr, index]
    handle = convolution.plk.register_forward_pre_hook(
        lambda module, inputs: kept.append(module.dynamic_kernel(inputs[0]))
    )
    dynamic = dynamic_kernels(it, found.predictors, lq)
    handle.remove()
    assert dynamic.shape == (2, 4, 3, 3)
    assert dynamic[1] == pytest.approx(kept[0][0].numpy(), abs=1e-6)


def test_kernels_laid_side_by_side() -> None:
    whole = mosaic(np.arange(12.0).reshape(3, 2, 2), columns=2)
    assert whole.shape == (5, 5)
    assert whole[3:, :2].tolist() == [[8, 9], [10, 11]]
    assert np.isnan(whole[2]).all()
    assert np.isnan(whole[3:, 3:]).all()


def test_kernels_of_the_family(capsys: pytest.CaptureFixture[str]) -> None:
    decomposed = {"type": "ESCFP", **TINY, "upscaling_factor": 2}
    ablated = {"type": "ESCAblation", **TINY, "upscaling_factor": 2, "dynamic_kernel": False, "shared_kernel": False}
    names = [option_file("a", TINY_ESC), option_file("f", decomposed), option_file("n", ablated)]
    pictures = [picture("p.png", 40, 48), picture("q.png", 60, 20, seed=1)]
    assert analyze("kernels", *names, "--images", *pictures, "--side", "8", "-o", "out") == 0
    numbers, (esc, fp, none) = arrays("out/kernels"), summary("out/kernels")["networks"]
    assert numbers["dynamic_0"].shape == (2, 2, 4, 3, 3)
    assert 0 < esc["norm_kept_by_averaging"] < 1
    assert numbers["large_1"].shape == (4, 1, 13, 13)
    assert "averaged_1" not in numbers
    assert len(fp["conv_attn"]) == 2
    assert none["conv_attn"] == []
    assert "no ConvAttn has a dynamic kernel" in capsys.readouterr().out
    assert "no ConvAttn with a large kernel" in refused(capsys, "kernels", option_file("e", TINY_EDSR))


def test_features_are_what_goes_in_and_comes_out() -> None:
    it, lq = subject(randomise(ESC(**TINY))), torch.rand(1, 3, 6, 9)
    mixers = find_mixers(it, 1)
    found = passages(it, mixers, lq)
    assert [passage.name for passage in found] == ["blocks.0.attn", "blocks.0.pconvs.0", "blocks.0.pconvs.1"]
    for passage in found:
        assert passage.given.shape == passage.made.shape == (16, 6, 9)  # without what was padded
    fp = subject(randomise(ESCFP(**TINY)))
    assert len(passages(fp, find_mixers(fp, None), lq)) == 3
    with torch.no_grad():
        attended = mixers["blocks.0.attn"](torch.from_numpy(found[0].given)[None])
    again = passages(it, mixers, lq)[0].made
    assert np.array_equal(again, found[0].made)
    assert attended.shape == (1, 16, 6, 9)


def test_windows_are_put_together_in_their_order() -> None:
    (it,) = read_subjects([option_file("b", TINY_SWIN)], [])
    block: Any = dict(it.network.named_modules())["layers.0.residual_group.blocks.0"]
    kept: list[torch.Tensor] = []
    handle = block.norm1.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    found = passages(it, find_mixers(it, 1), torch.rand(1, 3, 8, 12))
    handle.remove()
    assert found[0].given == pytest.approx(kept[-1][0].T.reshape(12, 8, 12).numpy())  # block 1 does not shift


def test_features_of_several_networks(capsys: pytest.CaptureFixture[str]) -> None:
    names = [option_file("a", TINY_ESC), option_file("b", TINY_SWIN)]
    common = ["--images", picture("p.png", 40, 48), "--side", "12", "-o", "out"]
    assert analyze("features", *names, *common) == 0
    esc, swin = summary("out/features")["networks"]
    assert len(esc["modules"]) == 3
    assert swin["modules"][0]["name"].startswith("layers.1.residual_group.blocks.1.attn")
    assert arrays("out/features")["in_1_0"].shape == (12, 12, 12)
    assert "has 1 blocks, got 2" in refused(capsys, "features", names[0], *common, "--block", "2")
    assert "neither attention nor ConvAttn" in refused(capsys, "features", option_file("e", TINY_EDSR), *common)


def test_where_images_differ_most() -> None:
    images = [np.zeros((40, 60, 3), np.float32) for _ in range(3)]
    images[1][25:29, 40:44] = 1
    left, top, width, height = most_different(images, 8, 6)
    assert (width, height) == (8, 6)
    assert left <= 40
    assert left + 8 >= 44
    assert top <= 25
    assert top + 6 >= 29
    images[2][38:, 58:] = 3  # at the corner
    assert most_different(images, 8, 6) == (52, 34, 8, 6)
    assert most_different(images, 60, 40) == (0, 0, 60, 40)


def test_scores_are_those_of_the_benchmark() -> None:
    gt = np.random.default_rng(0).random((24, 20, 3), np.float32).round(1)
    gt = (gt * 255).round() / 255
    weights = np.array([65.481, 128.553, 24.966]) / 255
    image = np.clip(gt + 10 / 255, 0, 1)
    error = ((image - gt) @ weights)[2:-2, 2:-2]
    assert scores(image, gt, 2)[0] == pytest.approx(-10 * np.log10((error**2).mean()), abs=0.01)
    assert scores(gt, gt, 0)[1] == pytest.approx(1)


def test_crops_of_several_networks(capsys: pytest.CaptureFixture[str]) -> None:
    write_weights("w.pth", randomise(ESC(**TINY)).state_dict())
    names = ["w.pth", option_file("b", TINY_SWIN)]
    pictures = [picture("p.png", 41, 48), picture("q.png", 60, 60, seed=1)]
    assert analyze("visual", *names, "--images", *pictures, "--crop", "4,2,20,12", "-o", "out/a.pdf") == 0
    first = summary("out/a")["pictures"][0]
    assert first["crop"] == [4, 2, 20, 12]
    assert [method["method"] for method in first["methods"]] == ["GT", "bicubic", "w", "b (untrained)"]
    gt = np.asarray(Image.open("p.png"))[2:14, 4:24] / np.float32(255)
    numbers = arrays("out/a")
    assert numbers["crop_0_0"] == pytest.approx(gt, abs=1e-6)
    assert first["methods"][2]["psnr_of_crop"] == pytest.approx(scores(numbers["crop_0_2"], gt, 0)[0])
    assert "psnr_of_crop" not in first["methods"][0]
    assert "of the whole" in capsys.readouterr().out
    assert analyze("visual", *names, "--images", "p.png", "--side", "12") == 0  # the crop is found
    left, top, width, height = summary("results/analyze/visual")["pictures"][0]["crop"]
    assert (left, top, width, height) == (0, 0, 24, 24)
    assert analyze("visual", *names, "--images", "p.png", "--lq") == 0
    lq = summary("results/analyze/visual")["pictures"][0]
    assert lq["methods"] == [{"method": "bicubic"}, {"method": "w"}, {"method": "b (untrained)"}]
    assert lq["crop"][2:] == [48, 48]
    assert "are not within p" in refused(capsys, "visual", *names, "--images", "p.png", "--crop", "40,0,11,11")
    assert "at least 11 x 11" in refused(capsys, "visual", *names, "--images", "p.png", "--crop", "0,0,10,11")
    assert "smaller than 11" in refused(capsys, "visual", *names, "--images", picture("s.png", 10, 40))
