"""Writing the formats: pixels, and of what belongs to a picture all that each can hold."""

from __future__ import annotations

import io
import struct
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from esc_arch.pictures.alpha import fill_hidden, is_hidden
from esc_arch.pictures.metadata import PHOTOSHOP, resources_of_iptc, with_resolution
from esc_arch.pictures.modern import nclx_of, with_nclx
from esc_arch.pictures.picture import INCH, Picture, Pixels, Resolution
from esc_arch.pictures.png import write_png
from esc_arch.pictures.profiles import fit_colours, pixels_to_srgb

QUALITY = 95
_SEGMENT = 65_533  # bytes of a segment of JPEG, without its marker and its length
_XMP_HEADER = 29
_JFIF_UNITS = {"": 0, "inch": 1, "cm": 2}
_BMP_DENSITY = slice(38, 46)  # pixels per metre across and down
_JFIF_DENSITY = slice(13, 18)  # unit, across, down; in the first segment


def encode(stream: BinaryIO, picture: Picture, image_format: str, quality: int = QUALITY) -> None:
    """Write a picture.

    Args:
        stream: where to.
        picture: what the format can hold, see `esc_arch.pictures.writing.check_target`.
        image_format: one of `esc_arch.pictures.formats.WRITTEN`.
        quality: of what is lossy, from 1 to 100.

    Raises:
        OSError: it cannot be written.
        ValueError: the encoder refuses it.
    """
    if image_format == "PNG":
        stream.writelines(write_png(picture))
    elif image_format == "TIFF":
        from esc_arch.pictures.tiff_writing import write_tiff  # which brings a library of its own

        write_tiff(stream, picture)
    elif image_format == "JPEG":
        _write_jpeg(stream, picture, quality)
    elif image_format == "BMP":
        _write_bmp(stream, picture)
    else:
        _write_modern(stream, picture, image_format, quality)


def without_opaque_alpha(pixels: Pixels) -> Pixels:
    """Leave out an alpha that is opaque everywhere, which is none."""
    if pixels.shape[2] in (2, 4) and (pixels[..., -1] == np.iinfo(pixels.dtype).max).all():
        return pixels[..., :-1]
    return pixels


def _image(pixels: Pixels) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))


def _write_jpeg(stream: BinaryIO, picture: Picture, quality: int) -> None:
    options: dict[str, Any] = {"quality": quality, "subsampling": "4:4:4", "icc_profile": picture.profile}
    if len(picture.exif) <= _SEGMENT:
        options["exif"] = picture.exif
    if len(picture.xmp) <= _SEGMENT - _XMP_HEADER:
        options["xmp"] = picture.xmp
    if len(picture.comment) <= _SEGMENT:
        options["comment"] = picture.comment
    if picture.iptc:  # in as many segments as it takes
        block, room = resources_of_iptc(picture.iptc), _SEGMENT - len(PHOTOSHOP)
        parts = (PHOTOSHOP + block[at : at + room] for at in range(0, len(block), room))
        options["extra"] = b"".join(b"\xff\xed" + struct.pack(">H", len(part) + 2) + part for part in parts)
    encoded = io.BytesIO()
    _image(without_opaque_alpha(picture.pixels)).save(encoded, "JPEG", **options)
    data = encoded.getbuffer()
    if picture.resolution and data[6:10] == b"JFIF":  # Pillow writes whole pixels per inch alone
        data[_JFIF_DENSITY] = _density(picture.resolution)
    stream.write(data)


def _density(resolution: Resolution) -> bytes:
    """Return unit and whole numbers as JFIF has them, in the unit in which less is lost: 118.11 per cm are 300 dpi."""
    sides, unit = (resolution.x, resolution.y), resolution.unit
    if inches := resolution.per_inch():
        other = (inches, "inch") if unit == "cm" else ((inches[0] / INCH, inches[1] / INCH), "cm")
        sides, unit = min((sides, unit), other, key=lambda found: _lost(found[0]))
    elif _lost(sides):
        sides = resolution.x * 100, resolution.y * 100
    whole = (min(max(round(side), 1), 65_535) for side in sides)
    return struct.pack(">BHH", _JFIF_UNITS[unit], *whole)


def _lost(sides: tuple[float, float]) -> float:
    return max(abs(side - round(side)) / side for side in sides)


def _write_bmp(stream: BinaryIO, picture: Picture) -> None:
    pixels = pixels_to_srgb(without_opaque_alpha(picture.pixels), picture.profile)
    resolution = (picture.resolution.per_inch() if picture.resolution else None) or (0, 0)
    if pixels.shape[2] not in (2, 4):
        _image(pixels).save(stream, "BMP", dpi=resolution)
        return
    import cv2  # Pillow writes no alpha that it would read

    done, encoded = cv2.imencode(".bmp", pixels[..., [2, 1, 0, 3] if pixels.shape[2] == 4 else [0, 0, 0, 1]])
    if not done:
        raise ValueError("OpenCV gave up")
    per_metre = [round(side * 100 / INCH) for side in resolution]
    encoded[_BMP_DENSITY] = np.frombuffer(struct.pack("<ii", *per_metre), np.uint8)
    stream.write(encoded.tobytes())


def _write_modern(stream: BinaryIO, picture: Picture, image_format: str, quality: int) -> None:
    """Write WebP or AVIF, whose place for the resolution is the EXIF data, and whose grey is stored as RGB."""
    pixels, profile = fit_colours(picture.pixels, picture.profile)
    options: dict[str, Any] = {"icc_profile": profile or b"", "quality": quality}
    if exif := with_resolution(picture.exif, picture.resolution):
        options["exif"] = exif
    if picture.xmp:
        options["xmp"] = picture.xmp
    if image_format == "WEBP":
        options |= {"exact": True, "lossless": picture.lossless}
        if picture.lossless:
            options["quality"] = 80  # of a lossless one, the effort
    else:
        options |= {"subsampling": "4:4:4"}
    if pixels.shape[2] in (2, 4) and not picture.lossless:
        hidden = is_hidden(pixels[..., -1], 255)
        if hidden.any() and not hidden.all():  # what is lossy would smear their colours over visible ones
            pixels = np.concatenate([fill_hidden(pixels, 255), pixels[..., -1:]], axis=2)
    image = _image(pixels)
    if image.mode == "LA":
        image = image.convert("RGBA")
    encoded = io.BytesIO()
    image.save(encoded, image_format, **options)
    nclx = nclx_of(picture) if image_format == "AVIF" else None
    stream.write(with_nclx(encoded.getvalue(), nclx) if nclx else encoded.getbuffer())
