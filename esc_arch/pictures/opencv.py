"""Decoding with OpenCV what Pillow reduces to 8 bits."""

from __future__ import annotations

import numpy as np

from esc_arch.pictures.picture import Pixels


def decode_deep(data: bytes) -> Pixels:
    """Decode grey, RGB or RGBA as it is stored, silently.

    Args:
        data: the file.

    Returns:
        (H, W, 1, 3 or 4), in the order red, green, blue, alpha; uint8 or uint16.

    Raises:
        ValueError: OpenCV cannot decode it.
    """
    import cv2

    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # one sentence of ours is enough
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    finally:
        cv2.utils.logging.setLogLevel(level)
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError("OpenCV cannot decode it")
    if pixels.ndim == 2:
        return np.asarray(pixels[..., None])
    return np.asarray(pixels[..., [2, 1, 0, 3][: pixels.shape[2]]])
