"""Colours under transparent pixels: they stay, and they do not bleed into what is seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from esc_arch.archs import Bicubic
from esc_arch.pictures import alpha
from esc_arch.upscale import upscale_image

Y, X = np.mgrid[:61, :47]
DISC = (Y - 30) ** 2 + (X - 22) ** 2 < 17**2
TYPES = {"uint8": 255, "uint16": 65535, "float32": 1}


class Blurred(nn.Module):
    """Repeats pixels and averages over 9 x 9 of them: what lies side by side bleeds."""

    upscaling_factor = 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        larger = x.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)
        return nn.functional.avg_pool2d(nn.functional.pad(larger, (4, 4, 4, 4), "replicate"), 9, stride=1)


def disc(dtype: str, colour: tuple[float, ...], ground: float) -> np.ndarray[Any, Any]:
    """An opaque disc on transparent ground, whose colour nobody sees."""
    whole = TYPES[dtype]
    image = np.full((*DISC.shape, len(colour) + 1), ground * whole)
    image[..., -1] = 0
    image[DISC] = [*(part * whole for part in colour), whole]
    return image.astype(dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("ground", [0, 0.5, 1])
@pytest.mark.parametrize("colour", [(1, 0, 0.2), (0.6,)])
@pytest.mark.parametrize("net", [Blurred(), Bicubic(2), Bicubic(3)])
def test_no_rim_around_what_is_opaque(dtype: str, ground: float, colour: tuple[float, ...], net: nn.Module) -> None:
    image = disc(dtype, colour, ground)
    result = upscale_image(image, net, tile=64)
    seen = result[..., -1] > 0.004 * TYPES[dtype]
    assert seen.any()
    assert not seen.all()
    own = image[30, 22, :-1].astype(float)
    assert np.abs(result[seen][:, :-1] - own).max() <= TYPES[dtype] / 255


@pytest.mark.parametrize("dtype", TYPES)
def test_colours_of_transparent_pixels_stay(dtype: str) -> None:
    image = disc(dtype, (1, 0, 0), 0)
    marked = image.copy()
    marked[3, 4, :3] = TYPES[dtype]
    result = upscale_image(marked, Bicubic(2))
    assert (result[6:8, 8:10, :3] == TYPES[dtype]).all()
    assert (result[6:8, 8:10, 3] == 0).all()
    np.testing.assert_array_equal(result[20:], upscale_image(image, Bicubic(2))[20:])


def test_visible_colours_are_those_of_a_picture_without_alpha() -> None:
    """Where transparency is nowhere near, alpha changes nothing."""
    image = np.random.default_rng(0).integers(0, 256, (60, 60, 4), np.uint8)
    image[..., 3] = 255
    image[:20, :, 3] = 0
    result = upscale_image(image, Bicubic(2))
    np.testing.assert_array_equal(result[60:, :, :3], upscale_image(image[..., :3], Bicubic(2))[60:])


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (7, 5), (64, 33), (1030, 7), (1025, 3)])
def test_filling_keeps_what_is_seen_and_invents_nothing(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(100, 151, (*shape, 4), np.uint8)
    image[..., 3] = np.where(rng.random(shape) < 0.05, 255, 0)
    image[0, 0, 3] = 9
    hidden = image[..., 3] == 0
    image[hidden] = (0, 255, 0, 0)
    filled = alpha.fill_hidden(image, 255)
    np.testing.assert_array_equal(filled[~hidden], image[~hidden][:, :3])
    assert filled.min() >= 100
    assert filled.max() <= 150


def test_the_fill_does_not_depend_on_how_many_rows_are_worked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(2).random((101, 30, 4), np.float32)
    image[..., 3] = image[..., 3] > 0.9
    whole = alpha.fill_hidden(image, 1)
    monkeypatch.setattr(alpha, "_ROWS", 8)
    np.testing.assert_allclose(alpha.fill_hidden(image, 1), whole, atol=1e-6)


def test_wholly_transparent_and_wholly_opaque() -> None:
    image = np.random.default_rng(3).integers(0, 256, (9, 8, 4), np.uint8)
    for value in (0, 255):
        image[..., 3] = value
        result = upscale_image(image, Bicubic(2))
        assert (result[..., 3] == value).all()
        np.testing.assert_array_equal(result[..., :3], upscale_image(image[..., :3], Bicubic(2)))
