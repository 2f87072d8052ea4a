"""The effective receptive field and the spectra of features, of networks and images for which they are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from analyzing import TINY_EDSR, TINY_ESC, TINY_SWIN, analyze, arrays, option_file, picture, refused, summary
from conftest import randomise
from torch import nn

from esc_arch.analyze.erf import gradients, side_of
from esc_arch.analyze.networks import Subject
from esc_arch.analyze.spectrum import BINS, amplitudes, frequencies


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_field_of_a_convolution_is_its_kernel() -> None:
    convolution = randomise(nn.Conv2d(3, 3, 5, padding=2))
    field = gradients(Subject("it", convolution.requires_grad_(False), 1), torch.rand(1, 3, 12, 13))
    expected = np.zeros((12, 13))
    expected[6 - 2 : 6 + 3, 6 - 2 : 6 + 3] = convolution.weight.double().abs().sum((0, 1)).numpy()
    assert field == pytest.approx(expected, rel=1e-5)
    assert side_of(field, 1) == 5


def test_the_pixel_in_the_middle_of_what_is_enlarged() -> None:
    network = nn.Upsample(scale_factor=4)
    field = gradients(Subject("it", network, 4), torch.rand(1, 3, 6, 8))
    assert np.argwhere(field).tolist() == [[3, 4]]


def test_sides_of_known_fields() -> None:
    assert side_of(np.ones((9, 9)), 0.5) == 7  # 49 of 81
    assert side_of(np.ones((9, 9)), 25 / 81) == 5
    assert side_of(np.ones((8, 8)), 1) == 9  # beyond the border there is nothing
    one = np.zeros((9, 9))
    one[4, 4] = 1
    assert [side_of(one, share) for share in (0.5, 0.99)] == [1, 1]
    one[0, 4] = 1
    assert [side_of(one, share) for share in (0.5, 0.51)] == [1, 9]


def wave(cycles: float, side: int = 64) -> np.ndarray:
    return np.sin(2 * np.pi * cycles * np.arange(side))[None, None].repeat(side, 1)


@pytest.mark.parametrize("cycles", [0.1, 0.25, 0.4])
def test_a_wave_has_its_frequency(cycles: float) -> None:
    found = amplitudes(np.concatenate([wave(cycles), 3 + wave(cycles).transpose(0, 2, 1)]))
    assert abs(frequencies()[found.argmax()] - cycles) <= 0.5 / BINS
    assert amplitudes(2 * wave(cycles)) == pytest.approx(2 * amplitudes(wave(cycles)), rel=1e-9)


def test_noise_has_all_frequencies_and_constants_have_none() -> None:
    found = amplitudes(np.random.default_rng(0).standard_normal((32, 64, 48)))
    assert found.max() < 1.2 * found.min()
    assert amplitudes(np.full((2, 16, 16), 5.0)) == pytest.approx(np.zeros(BINS), abs=1e-12)
    assert np.isfinite(amplitudes(wave(0.2, 8))).all()  # fewer frequencies than bins


def test_fields_of_networks() -> None:
    networks = [option_file("a", TINY_ESC), option_file("c", TINY_EDSR)]
    pictures = [picture("p.png", 40, 48), picture("q.png", 60, 40, seed=1)]
    assert analyze("erf", *networks, "--images", *pictures, "--side", "16", "-o", "out") == 0
    esc, edsr = summary("out/erf")["networks"]
    assert 1 <= edsr["sides"]["50%"] <= edsr["sides"]["90%"] <= edsr["sides"]["99%"] <= 17
    assert edsr["sides"]["99%"] <= 1 + 2 * 10  # of ten 3x3 convolutions
    assert esc["network"] == "a (untrained)"
    field = arrays("out/erf")["gradients_1"]
    assert field.shape == (16, 16)
    assert side_of(field, 0.9) == edsr["sides"]["90%"]


def test_spectra_of_networks(capsys: pytest.CaptureFixture[str]) -> None:
    networks = [option_file("a", TINY_ESC), option_file("b", TINY_SWIN)]
    assert analyze("spectrum", *networks, "--images", picture("p.png", 40, 48), "--side", "16", "-o", "out") == 0
    numbers = arrays("out/spectrum")
    assert numbers["amplitudes_0"].shape == (3, BINS)
    assert numbers["amplitudes_1"].shape == (4, BINS)
    assert (numbers["amplitudes_1"] > 0).all()
    falls = np.log10(numbers["amplitudes_1"][:, -1] / numbers["amplitudes_1"][:, 0])
    assert summary("out/spectrum")["networks"][1]["falls"] == pytest.approx(falls.tolist())
    assert "powers of ten" in capsys.readouterr().out


def test_what_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    own = option_file("a", TINY_ESC)
    tiny, large, wide = picture("tiny.png", 4, 40), picture("p.png", 40, 48), picture("wide.png", 20, 48)
    assert "tiny is smaller than 3" in refused(capsys, "erf", own, "--images", large, tiny)
    assert "different LQ sizes" in refused(capsys, "erf", own, "--images", large, wide)
    assert "tiny is smaller than 8" in refused(capsys, "spectrum", own, "--images", tiny)
    assert "smaller than 2 x 2" in refused(capsys, "spectrum", own, "--images", picture("dot.png", 1, 1))
    bicubic = option_file("none", {"type": "Bicubic", "upscaling_factor": 2})
    assert "no gradients" in refused(capsys, "erf", bicubic, "--images", large)
