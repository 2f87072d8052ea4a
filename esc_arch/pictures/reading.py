"""Reading pictures, with every sort of pixel turned into grey or RGB, 8 or 16 bits, with or without alpha."""

from __future__ import annotations

import io
import os
import struct
import threading
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from esc_arch.common.errors import UserError
from esc_arch.pictures.picture import Picture

READ = ["BMP", "JPEG", "PNG", "TIFF", "WEBP"]
ORIENTATION, BITS_PER_SAMPLE = 0x0112, 258  # tags
EXIF_SIZES = (0xA002, 0xA003)  # width and height, in the Exif block
EXIF_BLOCK = 0x8769
LARGEST_EXIF = 60_000  # bytes; JPEG has room for 65 533
_LIMIT = threading.Lock()


def read_picture(file: str, max_pixels: int) -> Picture:
    """Read a picture and turn it upright.

    Palettes become RGB or grey with alpha, bilevel becomes grey, CMYK is converted by its profile. Of the pictures in
    one file only MPO (JPEG with further pictures, of phones and cameras) may hold several; the first is read.

    Args:
        file: path of a PNG, JPEG, WebP, BMP or TIFF.
        max_pixels: the largest number of pixels that is accepted, since a small file may unpack to a huge picture.

    Returns:
        the picture.

    Raises:
        UserError: the file is missing, empty, damaged, too large, or of another kind.
    """
    try:
        if os.path.getsize(file) == 0:
            raise UserError(f"{file} is empty.")
        with _open(file) as image:
            if image.width * image.height > max_pixels:
                raise UserError(
                    f"{file} has {image.width} x {image.height} pixels, more than the limit of {max_pixels}; raise it "
                    "by --max-pixels if you trust the file."
                )
            if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
                raise UserError(f"{file} has several pages or frames; split it into single pictures.")
            return _decode(file, image)
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise UserError(f"{file} is none of {', '.join(READ)}, or damaged from the start.") from error
    except MemoryError as error:
        raise UserError(f"{file} does not fit into memory.") from error
    except Exception as error:  # a damaged file may raise anything at all
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"{file} cannot be read ({reason}).") from error


def _open(file: str) -> Image.Image:
    """Open without Pillow's own limit, which warns where it should refuse: the caller has one."""
    with _LIMIT:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=READ)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _decode(file: str, image: Image.Image) -> Picture:
    image.load()  # raises where the file is truncated
    profile = image.info.get("icc_profile")
    if image.mode in ("I;16", "I;16B", "I;16L", "I;16N"):
        return Picture(_upright(np.asarray(image).astype(np.uint16)[..., None], image), profile, _exif(image))
    if image.mode in ("RGB", "RGBA", "LA", "RGBX") and _is_deep(file, image):
        return Picture(_upright(_decode_deep(file, image.mode), image), profile, _exif(image))
    if image.mode in ("I", "F"):
        raise UserError(f"{file} has 32 bits per channel; convert it to 16 bits.")
    upright = ImageOps.exif_transpose(image)
    exif = _exif(image)  # only now: it takes the orientation out
    if image.mode == "CMYK":
        upright, profile = _to_rgb(upright, profile), None
    pixels = np.asarray(_to_plain_mode(upright))
    return Picture(pixels if pixels.ndim == 3 else pixels[..., None], profile or None, exif)


def _to_plain_mode(image: Image.Image) -> Image.Image:
    """Convert to L, LA, RGB or RGBA."""
    transparent = "transparency" in image.info
    if image.mode in ("1", "L"):
        return image.convert("LA" if transparent else "L")
    if image.mode in ("LA", "RGBA"):
        return image
    if image.mode in ("P", "PA", "RGBa", "La"):
        return image.convert("RGBA" if transparent or image.mode != "P" else "RGB")
    return image.convert("RGBA" if transparent else "RGB")


def _to_rgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert CMYK to sRGB, by its profile where it has one that can be used."""
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError):
            return image.convert("RGB")
        if converted is not None:
            return converted
    return image.convert("RGB")


def _is_deep(file: str, image: Image.Image) -> bool:
    """Tell whether a picture that Pillow reads with 8 bits per channel has 16."""
    if image.format == "PNG":
        with open(file, "rb") as stream:
            return stream.read(25)[24] == 16  # the signature, then the header chunk: length, name, width, height, depth
    tags: Any = getattr(image, "tag_v2", {})
    return 16 in (tags.get(BITS_PER_SAMPLE) or ())


def _decode_deep(file: str, mode: str) -> np.ndarray[Any, Any]:
    """Decode 16 bits per channel of RGB, with or without alpha, or of grey with alpha, which OpenCV returns as RGBA."""
    import cv2

    pixels = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
        raise UserError(f"{file} has 16 bits per channel in a form that cannot be read; convert it to PNG.")
    pixels = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    return pixels[..., [0, 3]] if mode == "LA" and pixels.shape[2] == 4 else pixels


def _upright(pixels: np.ndarray[Any, Any], image: Image.Image) -> np.ndarray[Any, Any]:
    """Turn and mirror pixels as the EXIF orientation says (1 to 8)."""
    orientation = image.getexif().get(ORIENTATION, 1)
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _exif(image: Image.Image) -> bytes:
    """Return the EXIF data that remain true of the enlarged picture; none of TIFF, whose tags describe the file."""
    try:
        exif = image.getexif()
        if image.format == "TIFF" or not exif:
            return b""
        exif.pop(ORIENTATION, None)
        for size in EXIF_SIZES:
            exif.get_ifd(EXIF_BLOCK).pop(size, None)
        data = exif.tobytes()
    except (ValueError, KeyError, TypeError, OSError, SyntaxError, struct.error):
        return b""  # damaged data about a picture are no reason to refuse it
    return data if len(data) < LARGEST_EXIF else b""
