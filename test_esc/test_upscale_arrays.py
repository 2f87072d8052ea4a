"""Arrays of every type, order of bytes and layout: enlarged rightly, or refused in a sentence that says why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from esc_arch.upscale import upscale_image

Pixels = np.ndarray[Any, Any]


class Nearest(nn.Module):
    """Repeats every pixel."""

    upscaling_factor = 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)


def numbers(dtype: str, shape: tuple[int, ...] = (9, 12, 3)) -> Pixels:
    whole = {"u": np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 0, "f": 1, "b": 1}[np.dtype(dtype).kind]
    drawn = np.random.default_rng(0).random(shape)
    return (drawn > 0.5) if np.dtype(dtype).kind == "b" else (drawn * whole).astype(dtype)


def frozen(image: Pixels) -> Pixels:
    image = image.copy()
    image.flags.writeable = False
    return image


LAYOUTS: dict[str, Callable[[Pixels], Pixels]] = {
    "as it is": lambda image: image,
    "read-only": frozen,
    "Fortran": np.asfortranarray,
    "backwards": lambda image: image[::-1, ::-1],
    "channels backwards": lambda image: image[..., ::-1],
    "every other": lambda image: image[::2, ::3],
    "turned": lambda image: image.swapaxes(0, 1),
    "repeated": lambda image: np.broadcast_to(image[:1], image.shape),
    "unaligned": lambda image: np.frombuffer(b"x" + image.tobytes(), image.dtype, offset=1).reshape(image.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "<f4", ">f4", "<f2", ">f2", "<f8", ">f8", "?"])
def test_every_type_and_layout(dtype: str, layout: str) -> None:
    for shape in ((9, 12), (9, 12, 1), (9, 12, 2), (9, 12, 3), (9, 12, 4)):
        if len(shape) == 2 and layout == "channels backwards":
            continue
        image = LAYOUTS[layout](numbers(dtype, shape))
        before = image.copy()
        result = upscale_image(image, Nearest())
        expected = image.repeat(2, axis=0).repeat(2, axis=1)
        assert result.dtype == image.dtype
        if image.ndim == 3 and image.shape[2] in (2, 4) and image.dtype.kind == "b":
            expected[..., :-1] &= expected[..., -1:]  # colours that nobody sees may change
            result = result.copy()
            result[..., :-1] &= result[..., -1:]
        np.testing.assert_allclose(
            result.astype(float), expected.astype(float), rtol=1e-6 if "2" not in dtype else 1e-3
        )
        np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "u4", "u8", "c8", "O", "U1", "m8[s]"])
def test_other_types_are_told(dtype: str) -> None:
    with pytest.raises(ValueError, match=r"type uint8, uint16, float32, bool, float16 or float64, got \(4, 4\) and"):
        upscale_image(np.zeros((4, 4)).astype(dtype), Nearest())


@pytest.mark.parametrize("number", [255.0, -1.0, np.nan, np.inf])
def test_float_images_of_another_range_are_told(number: float) -> None:
    image = np.full((4, 4, 3), 0.5, np.float32)
    image[1, 2, 0] = number
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\], got numbers from"):
        upscale_image(image, Nearest())


def test_a_little_too_much_is_cut_off() -> None:
    assert upscale_image(np.array([[-0.1, 1.2]]), Nearest()).tolist() == [[0, 0, 1, 1], [0, 0, 1, 1]]


def test_what_would_be_taken_for_something_else_is_told() -> None:
    with pytest.raises(ValueError, match=r"channels come last: image.transpose\(1, 2, 0\)"):
        upscale_image(numbers("u1", (3, 9, 12)), Nearest())
    with pytest.raises(ValueError, match="must not be masked"):
        upscale_image(np.ma.masked_less(numbers("u1"), 9), Nearest())
    picture = Image.fromarray(numbers("u1"))
    np.testing.assert_array_equal(upscale_image(picture, Nearest()), upscale_image(np.asarray(picture), Nearest()))
    for mode in ("P", "CMYK", "YCbCr", "HSV"):
        with pytest.raises(ValueError, match=f"mode {mode}; convert"):
            upscale_image(picture.convert(mode), Nearest())
