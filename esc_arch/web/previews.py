"""Pictures as a browser shows them, small enough to be sent at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from esc_arch.pictures.picture import Pixels
from esc_arch.pictures.profiles import pixels_to_srgb
from esc_arch.pictures.reading import read_picture

LONGEST = 2048  # pixels of a side
ANY = 2**62  # pixels: what is here was read, or written, before


class Pair(NamedTuple):
    """Files of a picture before and after, in one size."""

    before: str
    after: str


def write_previews(before: str, after: str, stem: str) -> Pair:
    """Write a picture and what became of it as PNG, in the size of the result, or smaller.

    Args:
        before: the picture; it is enlarged as browsers do.
        after: the result.
        stem: path of the files to write, to which `-before.png` and `-after.png` are added.
    """
    result = _image(after)
    factor = min(1.0, LONGEST / max(result.size))
    size = max(round(result.width * factor), 1), max(round(result.height * factor), 1)
    pair = Pair(f"{stem}-before.png", f"{stem}-after.png")
    for image, file in ((_image(before), pair.before), (result, pair.after)):
        (image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)).save(file)
    return pair


def _image(file: str) -> Image.Image:
    picture = read_picture(file, ANY)
    return Image.fromarray(_squeezed(pixels_to_srgb(_in_8_bits(picture.pixels), picture.profile)))


def _in_8_bits(pixels: Pixels) -> Pixels:
    return pixels if pixels.dtype == np.uint8 else ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _squeezed(pixels: Pixels) -> Pixels:
    """Return pixels as Pillow takes them: grey has no axis of channels."""
    return np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
