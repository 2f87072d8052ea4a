"""Writing pictures, whole or not at all."""

from __future__ import annotations

import os

import numpy as np

from esc_arch.common.errors import UserError
from esc_arch.common.whole_files import cannot_write, replacing
from esc_arch.pictures.encoding import QUALITY, encode, without_opaque_alpha
from esc_arch.pictures.formats import FORMATS, WRITTEN, format_of
from esc_arch.pictures.modern import nclx_of
from esc_arch.pictures.picture import Picture
from esc_arch.pictures.png import colour_chunks, has_colours_of_its_own

# of libjpeg and libwebp, which write no more; libavif writes more, and reads it only if it is told to trust the file
LARGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383, "AVIF": 32_768}
MOST_PIXELS = {"AVIF": 16_384**2}


def check_target(file: str, picture: Picture, scale: float) -> None:
    """Check that a format can hold the enlarged picture, before it is computed.

    Args:
        file: where it shall be written; the suffix tells the format.
        picture: the picture before it is enlarged.
        scale: how many times larger it will be.

    Raises:
        UserError: the suffix is unknown, or the format has no alpha, no 16 bits, no pictures of this size, or
            no way to say what the colours mean.
    """
    height, width = (round(scale * side) for side in picture.pixels.shape[:2])
    check_format(file, written_format(file), picture, (height, width))


def written_format(file: str) -> str:
    """Return the format that the suffix of a file stands for.

    Raises:
        UserError: it is unknown, or one that is not written.
    """
    image_format = format_of(file)
    if image_format not in WRITTEN:
        known = ", ".join(name for name, kind in FORMATS.items() if kind in WRITTEN)
        raise UserError(f"{file}: the suffix must be one of {known}.")
    return image_format


def check_format(name: str, image_format: str, picture: Picture, sides: tuple[int, int]) -> None:
    """Check that a format can hold the enlarged picture.

    Args:
        name: of the result, for messages.
        image_format: one of `WRITTEN`.
        picture: the picture before it is enlarged.
        sides: H', W' of the result.

    Raises:
        UserError: as `check_target` has it.
    """
    side, problem = max(sides), None
    if side > LARGEST_SIDE.get(image_format, side):
        problem = f"cannot be {side} pixels wide or high"
    elif sides[0] * sides[1] > MOST_PIXELS.get(image_format, sides[0] * sides[1]):
        problem = f"of {sides[1]} x {sides[0]} pixels is not opened by what reads it"
    elif picture.pixels.dtype == np.uint16 and image_format not in ("PNG", "TIFF"):
        problem = "cannot hold 16 bits per channel"
    elif without_opaque_alpha(picture.pixels).shape[2] in (2, 4) and image_format == "JPEG":
        problem = "cannot hold transparency"
    elif (
        image_format != "PNG" and has_colours_of_its_own(picture) and not (image_format == "AVIF" and nclx_of(picture))
    ):
        problem = "cannot say what the colours of this picture mean (as PNG does by gAMA, cHRM, cICP)"
    if problem:
        article = "an" if image_format[0] in "AEIO" else "a"
        raise UserError(
            f"{name}: {article} {image_format} {problem}; name the result (-o) with another suffix, or take "
            "--format png."
        )


def without_metadata(picture: Picture) -> Picture:
    """Leave out what belongs to a picture, but for what says how its colours and the shape of its pixels are meant."""
    found = picture.resolution
    shape = found if found and found.x != found.y else None
    return Picture(
        picture.pixels, picture.profile, resolution=shape, chunks=colour_chunks(picture), lossless=picture.lossless
    )


def write_picture(file: str, picture: Picture, quality: int = QUALITY) -> None:
    """Write a picture under a temporary name and rename it.

    Args:
        file: where to; the folder is made if need be.
        picture: what `check_target` let pass.
        quality: of what is lossy, from 1 to 100.

    Raises:
        DiskError: the disk is full or can only be read.
        UserError: it cannot be written for another reason.
    """
    image_format = FORMATS[os.path.splitext(file)[1].lower()]
    try:
        os.makedirs(os.path.dirname(file) or ".", exist_ok=True)
        with replacing(file) as stream:
            encode(stream, picture, image_format, quality)
    except UserError:
        raise
    except OSError as error:
        raise cannot_write(file, error) from error
    except ValueError as error:
        raise UserError(f"{file} cannot be written ({error}).") from error
