"""Writing pictures, whole or not at all."""

from __future__ import annotations

import os
import struct
import zlib
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from esc_arch.common.errors import UserError
from esc_arch.pictures.formats import FORMATS, WRITTEN
from esc_arch.pictures.picture import Picture

LARGEST_SIDE = {"JPEG": 65_535, "WEBP": 16_383}
QUALITY = 95
OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": QUALITY, "subsampling": "4:4:4"},
    "WEBP": {"quality": QUALITY, "exact": True},
    "TIFF": {"compression": "tiff_adobe_deflate"},
}
PNG_SIGNATURE_AND_HEADER = 33  # bytes, to the end of the first chunk


def check_target(file: str, picture: Picture, scale: float) -> None:
    """Check that a format can hold the enlarged picture, before it is computed.

    Args:
        file: where it shall be written; the suffix tells the format.
        picture: the picture before it is enlarged.
        scale: how many times larger it will be.

    Raises:
        UserError: the suffix is unknown, or the format has no alpha, no 16 bits, or no pictures of this size.
    """
    suffix = os.path.splitext(file)[1].lower()
    if FORMATS.get(suffix) not in WRITTEN:
        known = ", ".join(name for name, kind in FORMATS.items() if kind in WRITTEN)
        raise UserError(f"{file}: the suffix must be one of {known}.")
    image_format, side = FORMATS[suffix], round(scale * max(picture.pixels.shape[:2]))
    problem = None
    if side > LARGEST_SIDE.get(image_format, side):
        problem = f"cannot be {side} pixels wide or high"
    elif picture.pixels.dtype == np.uint16 and image_format not in ("PNG", "TIFF"):
        problem = "cannot hold 16 bits per channel"
    elif picture.pixels.shape[2] in (2, 4) and image_format in ("JPEG", "BMP"):
        problem = "cannot hold transparency"
    if problem:
        raise UserError(f"{file}: a {image_format} {problem}; choose another suffix, .png for example.")


def write_picture(file: str, picture: Picture) -> None:
    """Write a picture under a temporary name and rename it.

    Args:
        file: where to; the folder is made if need be.
        picture: what `check_target` let pass.

    Raises:
        UserError: it cannot be written.
    """
    partial = file + ".partial"
    image_format = FORMATS[os.path.splitext(file)[1].lower()]
    try:
        os.makedirs(os.path.dirname(file) or ".", exist_ok=True)
        with open(partial, "wb") as stream:
            if picture.pixels.dtype == np.uint16:
                _write_deep(stream, picture, image_format)
            else:
                _write(stream, picture, image_format)
        os.replace(partial, file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{file} cannot be written ({reason}).") from error
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def _write(stream: BinaryIO, picture: Picture, image_format: str) -> None:
    pixels = picture.pixels[..., 0] if picture.pixels.shape[2] == 1 else picture.pixels
    options = dict(OPTIONS.get(image_format, {}))
    if image_format != "BMP":
        options["icc_profile"] = picture.profile
    if picture.exif and image_format in ("JPEG", "PNG", "WEBP"):
        options["exif"] = picture.exif
    image = Image.fromarray(pixels)
    if image.mode == "LA" and image_format == "WEBP":
        image = image.convert("RGBA")
    image.save(stream, image_format, **options)


def _write_deep(stream: BinaryIO, picture: Picture, image_format: str) -> None:
    """Write 16 bits per channel, which Pillow can do of grey alone."""
    pixels = picture.pixels
    if pixels.shape[2] == 2:
        pixels = pixels[..., [0, 0, 0, 1]]
    if image_format == "TIFF":
        import tifffile

        grey, alpha = pixels.shape[2] == 1, pixels.shape[2] == 4
        tifffile.imwrite(
            stream,
            pixels[..., 0] if grey else pixels,
            photometric="minisblack" if grey else "rgb",
            extrasamples=["unassalpha"] if alpha else None,
            compression="zlib",
            iccprofile=picture.profile,
        )
        return
    import cv2

    done, encoded = cv2.imencode(
        ".png", pixels[..., [2, 1, 0, 3][: pixels.shape[2]]] if pixels.shape[2] > 1 else pixels
    )
    if not done:
        raise ValueError("OpenCV gave up")
    stream.write(encoded[:PNG_SIGNATURE_AND_HEADER].tobytes())
    if picture.profile:
        stream.write(_png_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(picture.profile)))
    if picture.exif:
        stream.write(_png_chunk(b"eXIf", picture.exif.removeprefix(b"Exif\0\0")))
    stream.write(encoded[PNG_SIGNATURE_AND_HEADER:].tobytes())


def _png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
