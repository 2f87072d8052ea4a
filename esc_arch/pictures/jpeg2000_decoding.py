"""Decoding JPEG 2000 with what gives all of it: Pillow, OpenCV or imagecodecs."""

from __future__ import annotations

import importlib
from contextlib import suppress

import numpy as np
from PIL import Image

from esc_arch.common.errors import UserError
from esc_arch.pictures.jpeg2000_channels import SYCC, Channels, with_plain_space, without_signs
from esc_arch.pictures.modes import plain_pixels
from esc_arch.pictures.opencv import decode_deep
from esc_arch.pictures.picture import Pixels
from esc_arch.pictures.profiles import cmyk_to_srgb, to_srgb
from esc_arch.pictures.ranges import stretch_whole
from esc_arch.pictures.ycbcr import rgb_of_ycbcr

_DEEP = ("L", "LA", "RGB", "RGBA", "I;16")  # modes, of which Pillow cuts or spoils what has more than 8 bits


def pixels_of_jpeg2000(
    file: str, image: Image.Image, data: bytes, bits: int, channels: Channels, profile: bytes | None
) -> tuple[Pixels, bytes | None]:
    """Return the pixels of a picture, and the profile that fits them.

    Args:
        file: its name, for messages.
        image: opened by Pillow.
        data: the file.
        bits: of a channel.
        channels: what they mean.
        profile: that came with it.

    Returns:
        (H, W, 1 to 4), grey or RGB, uint8 or uint16.

    Raises:
        UserError: a library is missing.
        ValueError: the file is damaged.
    """
    if image.mode == "CMYK":
        return np.asarray(to_srgb(image, profile)), None
    elsewhere = channels.lie_between or (bits > 8 and image.mode in _DEEP)
    if elsewhere:
        pixels = stretch_whole(_decode(file, data, bits, channels), 2**bits - 1)
    else:
        pixels = plain_pixels(image)
        if bits < 8:  # which Pillow keeps in the upper bits, and OpenCV cuts
            pixels = stretch_whole(pixels >> (8 - bits), 2**bits - 1)
    if profile and profile[16:20] == b"CMYK" and pixels.shape[2] == 4:
        return cmyk_to_srgb(pixels, profile), None
    return channels.arrange(pixels, is_ordered=elsewhere), profile


def _decode(file: str, data: bytes, bits: int, channels: Channels) -> Pixels:
    """Decode by OpenCV, or what that does not take by imagecodecs; (H, W, 1 to 4), colours in their order."""
    data = without_signs(data)
    if channels.space == SYCC and not channels.lie_between:
        with suppress(ValueError):  # OpenCV has other colours for these numbers
            return rgb_of_ycbcr(file, decode_deep(with_plain_space(data)), bits)
    else:
        with suppress(ValueError):
            return decode_deep(data)
    try:
        codecs = importlib.import_module("imagecodecs")
    except ImportError as error:
        raise UserError(
            f"{file} is a JPEG 2000 of a kind that OpenCV does not decode (grey with alpha of more than 8 bits, for "
            "instance, or colours of fewer pixels), or damaged; try it with pip install 'esc_arch[tiff]'."
        ) from error
    pixels = np.asarray(codecs.jpeg2k_decode(data))
    return pixels if pixels.ndim == 3 else pixels[..., None]
