"""Brightness and colour differences that no decoder converts."""

from __future__ import annotations

import numpy as np

from esc_arch.common.errors import UserError
from esc_arch.pictures.picture import Pixels


def rgb_of_ycbcr(file: str, samples: Pixels, bits: int | None = None) -> Pixels:
    """Convert brightness and colour differences of the whole range of their numbers (TIFF 6.0, section 21).

    Args:
        file: its name, for messages.
        samples: (H, W, 3 or more), uint8 or uint16; what is beyond three channels stays.
        bits: of a number, where they do not fill the type.

    Raises:
        UserError: they are of another type.
    """
    if samples.dtype.kind != "u" or samples.dtype.itemsize > 2 or samples.shape[2] < len("RGB"):
        raise UserError(f"{file} has YCbCr of {samples.dtype}, which is not read; convert it to RGB.")
    whole = np.iinfo(samples.dtype).max if bits is None else 2**bits - 1
    y = samples[..., 0].astype(np.float32)
    blue, red = (samples[..., index].astype(np.float32) - (whole + 1) // 2 for index in (1, 2))
    rgb = np.stack([y + 1.402 * red, y - 0.344136 * blue - 0.714136 * red, y + 1.772 * blue], axis=2)
    return np.concatenate([rgb.round().clip(0, whole).astype(samples.dtype), samples[..., 3:]], axis=2)
