"""Reading TIFF: what the samples of its picture mean (TIFF 6.0, and Adobe's notes), and what belongs to it."""

from __future__ import annotations

import importlib.util
import io
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import numpy as np
import tifffile
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from esc_arch.common.errors import UserError
from esc_arch.pictures.decoding import open_image
from esc_arch.pictures.metadata import (
    DESCRIPTIVE,
    EXIF_BLOCK,
    GPS_BLOCK,
    INTEROPERABILITY,
    UNITS,
    clean_exif,
    clean_xmp,
    iptc_of_resources,
)
from esc_arch.pictures.modes import plain_pixels
from esc_arch.pictures.picture import Picture, Pixels, Resolution
from esc_arch.pictures.profiles import cmyk_to_srgb, fit_profile, to_srgb
from esc_arch.pictures.ranges import divide_by_alpha, require_numbers, stretch_fractions, stretch_stated, stretch_whole
from esc_arch.pictures.tiff_pages import main_page, tag_bytes, tag_number, tag_value
from esc_arch.pictures.tiff_samples import COMPRESSIONS, read_samples
from esc_arch.pictures.upright import turn_resolution, turn_upright
from esc_arch.pictures.ycbcr import rgb_of_ycbcr

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, MASK, SEPARATED, YCBCR, CIELAB, ICCLAB = 0, 1, 2, 3, 4, 5, 6, 8, 9
_COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, SEPARATED: 4, CIELAB: 3, ICCLAB: 3}
_NOT_READ = {
    32803: "the raw data of a camera's sensor; develop it first",
    34892: "the linear raw data of a camera; develop it first",
    32844: "light without a stated range (LogL)",
    32845: "light without a stated range (LogLuv)",
    4: "a mask of transparency, not a picture",
}
_D50_TO_D65 = np.array(  # Bradford's adaptation, as ICC profiles use it
    [[0.9555766, -0.0230393, 0.0631636], [-0.0282895, 1.0099416, 0.0210077], [0.0122982, -0.0204830, 1.3299098]]
)
_STATED_BY = " (tags SMinSampleValue, SMaxSampleValue)"
_DESCRIPTION = 270  # a tag
_ASSOCIATED, _UNASSOCIATED = 1, 2  # values of ExtraSamples
_MOST_SAMPLES = 32
_ALWAYS_YCBCR = (33003, 33004)  # compressions, of JPEG 2000 by Aperio and libvips, whatever is said of the colours
_CONVERTED = (6, 7, 34892, 50001)  # compressions, of JPEG and WebP, whose decoders give RGB of YCbCr
_CLASSIC_HEADS, _BIG = {b"II": b"II*\0\0\0\0\0", b"MM": b"MM\0*\0\0\0\0"}, 43


def read_tiff(file: str, stream: BinaryIO, check: Callable[[int, int], None]) -> Picture:
    """Read the picture of a TIFF, upright.

    Thumbnails, overviews and masks beside it are left. Numbers that are not of 8 bits become 16 bits.

    Args:
        file: its name, for messages.
        stream: of the whole file.
        check: called with the width and the height before pixels are decoded; raises where there are too many.

    Raises:
        UserError: it holds several pictures, or samples whose meaning is not stated or not known.
        Exception: it is damaged.
    """
    with _quiet(), tifffile.TiffFile(stream) as tiff:
        notes: list[str] = []
        page = main_page(file, tiff, notes)
        check(page.imagewidth, page.imagelength)
        photometric = tag_number(page, 262, BLACK_IS_ZERO)
        if photometric in _NOT_READ:
            raise UserError(f"{file} holds {_NOT_READ[photometric]}.")
        if page.imagedepth > 1:
            raise UserError(f"{file} holds a volume of {page.imagedepth} pictures; split it into single pictures.")
        profile = tag_bytes(page, 34675) or None
        turn = tag_number(page, 274, 1)
        turn = turn if turn in range(1, 9) else 1
        if photometric in _COLOURS and page.compression in COMPRESSIONS:
            pixels, profile = _meaning(file, page, photometric, profile)
            pixels = turn_upright(pixels, turn)
        else:
            pixels, profile = _decode_elsewhere(file, page, stream, photometric, profile)
        pixels, profile = fit_profile(pixels, profile)
        return Picture(
            pixels,
            profile,
            _exif(stream, page),
            clean_xmp(tag_bytes(page, 700)),
            tag_bytes(page, 33723) or iptc_of_resources(tag_bytes(page, 34377)),
            turn_resolution(_resolution(page), turn),
            notes=tuple(notes),
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep tifffile from logging what is wrong with a file: one sentence tells it."""
    logger = logging.getLogger("tifffile")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _meaning(
    file: str, page: tifffile.TiffPage, photometric: int, profile: bytes | None, samples: Pixels | None = None
) -> tuple[Pixels, bytes | None]:
    """Turn the samples of a page, as stored or decoded already, into pixels as a `Picture` has them.

    Returns:
        pixels, not yet turned, and the profile that they then have.
    """
    bits, sample_format = _same(file, page, 258, "bits", 1), _same(file, page, 339, "formats", 1)
    colours = _COLOURS[photometric]
    if not colours <= page.samplesperpixel <= _MOST_SAMPLES:
        raise UserError(f"{file} has {page.samplesperpixel} samples per pixel, which is not one picture; split it.")
    if photometric == SEPARATED and tag_number(page, 332, 1) != 1:
        raise UserError(f"{file} is separated into inks other than CMYK; convert it to RGB.")
    if sample_format == 4:  # undefined, which is what a whole number without a sign is written as at times
        sample_format = 1
    if samples is None:
        samples = read_samples(page, bits, sample_format)
    extra = tag_value(page, 338)
    extra = extra if isinstance(extra, tuple) else () if extra is None else (extra,)
    if extra == () and samples.shape[2] == colours + 1 and photometric != SEPARATED:
        extra = (_UNASSOCIATED,)  # one more than the colours: an alpha that an old program did not declare
    alphas = [index for index, kind in enumerate(extra) if int(kind) in (_ASSOCIATED, _UNASSOCIATED)]
    chosen = [*range(colours), *(colours + index for index in alphas[:1] if colours + index < samples.shape[2])]
    if colours == 1 and not alphas and samples.shape[2] > 2:
        raise UserError(
            f"{file} has {samples.shape[2]} channels that are not said to be colours; split it, or make it RGB."
        )
    values = samples if samples.shape[2] == len(chosen) else samples[..., chosen]
    if photometric == PALETTE:
        return _look_up(
            file, page, values, bits, is_multiplied=bool(alphas) and int(extra[alphas[0]]) == _ASSOCIATED
        ), profile
    if photometric in (CIELAB, ICCLAB):
        return _lab(file, values, bits, sample_format, photometric), None
    pixels: Pixels = _stretch(file, page, values, bits, sample_format)
    if alphas and int(extra[alphas[0]]) == _ASSOCIATED:
        pixels = divide_by_alpha(pixels)
    if photometric == WHITE_IS_ZERO:
        pixels[..., 0] = np.iinfo(pixels.dtype).max - pixels[..., 0]
    if photometric == SEPARATED:
        return cmyk_to_srgb(pixels, profile), None
    return pixels, profile


def _same(file: str, page: tifffile.TiffPage, code: int, what: str, default: int) -> int:
    value = tag_value(page, code)
    values = (
        {int(number) for number in value} if isinstance(value, tuple) and value else {tag_number(page, code, default)}
    )
    if len(values) > 1:
        raise UserError(f"{file} has channels of different {what} ({', '.join(map(str, sorted(values)))}); convert it.")
    return values.pop()


def _stretch(file: str, page: tifffile.TiffPage, values: Pixels, bits: int, sample_format: int) -> Pixels:
    """Map the range of the samples to all of 8 or 16 bits."""
    if sample_format == 1:
        return stretch_whole(values, 2**bits - 1)
    lowest, highest = _range(page)
    if lowest is None or highest is None or not lowest < highest:
        if sample_format == 2:
            raise UserError(
                f"{file} has signed samples from {values.min()} to {values.max()} and does not state what is black and "
                f"white{_STATED_BY}; convert it to 16 bits without sign."
            )
        return stretch_fractions(file, values, _STATED_BY)
    require_numbers(file, values)
    return stretch_stated(values, lowest, highest)


def _range(page: tifffile.TiffPage) -> tuple[float | None, float | None]:
    """Return what is black and what is white, where the page states it and all channels agree."""
    found = []
    for code in (340, 341):
        value = tag_value(page, code)
        values = value if isinstance(value, tuple) else (value,)
        found.append(float(values[0]) if value is not None and values and len(set(values)) == 1 else None)
    return found[0], found[1]


def _look_up(file: str, page: tifffile.TiffPage, samples: Pixels, bits: int, *, is_multiplied: bool) -> Pixels:
    """Look up colours of 16 bits, of which most writers use the upper 8; alpha behind the places stays."""
    stored = tag_value(page, 320)
    table: Pixels = np.array(() if stored is None else stored, np.uint16).ravel()
    if bits > 16 or table.size != 3 * 2**bits:
        raise UserError(f"{file} has a palette of {table.size // 3} colours where {2**bits} belong; it is damaged.")
    table = table.reshape(3, -1).T
    low, high = table & 255, table >> 8
    if not high.any():  # written by programs that took 8 bits for 16
        table = low
    elif (low == high).all() or not low.any():
        table = high
    colours = table[samples[..., 0]] if table.max(initial=0) > 255 else table.astype(np.uint8)[samples[..., 0]]
    if samples.shape[2] == 1:
        return colours
    alpha = stretch_whole(samples[..., 1:], 2**bits - 1)
    if alpha.dtype != colours.dtype:
        alpha = alpha.astype(np.uint16) * 257 if colours.dtype == np.uint16 else (alpha // 257).astype(np.uint8)
    pixels = np.concatenate([colours, alpha], axis=2)
    return divide_by_alpha(pixels) if is_multiplied else pixels


def _lab(file: str, values: Pixels, bits: int, sample_format: int, photometric: int) -> Pixels:
    """Convert CIE L*a*b* to sRGB (TIFF 6.0, section 23, and Adobe's technical note on ICCLab), 8 or 16 bits."""
    from skimage.color import lab2xyz, xyz2rgb

    if bits not in (8, 16) or sample_format == 3:
        raise UserError(f"{file} holds CIE L*a*b* of {bits} bits; convert it to RGB.")
    whole, step = (255, 1.0) if bits == 8 else (65535, 256.0)
    lab = np.empty((*values.shape[:2], 3), np.float32)
    lab[..., 0] = values[..., 0].view(f"u{bits // 8}").astype(np.float32) * (100 / whole)
    if photometric == ICCLAB:
        lab[..., 1:] = values[..., 1:3].astype(np.float32) / step - 128
    else:
        lab[..., 1:] = values[..., 1:3].view(f"i{bits // 8}").astype(np.float32) / step
    pixels = (
        (xyz2rgb(lab2xyz(lab, illuminant="D50") @ _D50_TO_D65.T) * whole).round().clip(0, whole).astype(f"u{bits // 8}")
    )
    return np.concatenate([pixels, values[..., 3:].view(pixels.dtype)], axis=2)


def _decode_elsewhere(
    file: str, page: tifffile.TiffPage, stream: BinaryIO, photometric: int, profile: bytes | None
) -> tuple[Pixels, bytes | None]:
    """Decode by libtiff what has up to 8 bits, such as JPEG in a TIFF, and by imagecodecs what else it knows."""
    separate = page.planarconfig == 2 and page.samplesperpixel > 1
    reason: Exception | None = None
    try:
        if page.index is not None and isinstance(page.index, int) and not separate and tag_number(page, 258, 1) <= 8:
            stream.seek(0)
            with open_image(file, io.BytesIO(stream.read()), "TIFF") as image:
                image.seek(page.index)
                if sorted(image.size) != sorted((page.imagewidth, page.imagelength)):
                    raise ValueError("its size is stated twice")
                image.load()  # turns the picture as its tag says
                image = ImageOps.exif_transpose(image)
                if image.mode in ("CMYK", "LAB"):
                    return np.asarray(to_srgb(image, profile)), None
                return plain_pixels(image), profile
    except Exception as error:  # a damaged file may raise anything at all
        reason = error
    name = getattr(page.compression, "name", page.compression)
    if importlib.util.find_spec("imagecodecs") is None:
        because = f" ({reason})" if reason else ""
        raise UserError(
            f"{file} is a TIFF compressed by {name}, which cannot be read{because} without pip install "
            "'esc_arch[tiff]'."
        )
    if 0 in page.databytecounts:  # tifffile would fill it with zeros
        raise ValueError("a part of the picture is missing")
    samples = np.moveaxis(page.asarray(squeeze=False)[:, 0], 0, -2)  # (H, W, planes, samples)
    samples = samples.reshape(*samples.shape[:2], -1)
    if (photometric == YCBCR and page.compression not in _CONVERTED) or page.compression in _ALWAYS_YCBCR:
        samples = rgb_of_ycbcr(file, samples)
    if photometric == YCBCR:
        photometric = RGB
    if photometric not in _COLOURS:
        raise UserError(f"{file} has colours of the kind {photometric} of TIFF, which is not read; convert it to PNG.")
    pixels, profile = _meaning(file, page, photometric, profile, samples)
    return turn_upright(pixels, tag_number(page, 274, 1)), profile


def _exif(stream: BinaryIO, page: tifffile.TiffPage) -> bytes:
    """Return the tags that tell about the picture as EXIF data."""
    kept, tags = Image.Exif(), _directory(stream, page.offset)
    for tag in DESCRIPTIVE:
        if tag in tags and not (tag == _DESCRIPTION and _describes_the_file(str(tags[tag]))):
            kept[tag] = tags[tag]
    for block in (EXIF_BLOCK, GPS_BLOCK):
        if isinstance(tags.get(block), int):
            values = _directory(stream, tags[block], block)
            if isinstance(values.get(INTEROPERABILITY), int):
                values[INTEROPERABILITY] = _directory(stream, values[INTEROPERABILITY], INTEROPERABILITY)
            kept[block] = values
    return clean_exif(kept)


def _directory(stream: BinaryIO, offset: int, group: int | None = None) -> dict[int, Any]:
    """Read the tags of a directory with their types as Pillow has them; what is damaged is left out."""
    found: dict[int, Any] = {}
    with suppress(Exception):  # damaged data may raise anything at all
        stream.seek(0)
        head = stream.read(4)
        directory = ImageFileDirectory_v2(_CLASSIC_HEADS[head[:2]], group=group)
        directory._bigtiff = _BIG in head[2:]  # which Pillow itself sees in one order of bytes alone
        stream.seek(offset)
        directory.load(stream)
        for tag in directory:
            with suppress(Exception):
                found[tag] = directory[tag]
    return found


def _describes_the_file(text: str) -> bool:
    """Tell whether a description is what programs of microscopy keep there: sizes of an array, which change."""
    if text.startswith("ImageJ=") or "<OME " in text[:2000]:
        return True
    with suppress(ValueError):
        found = json.loads(text)
        return isinstance(found, dict) and "shape" in found
    return False


def _resolution(page: tifffile.TiffPage) -> Resolution | None:
    with suppress(TypeError, ValueError, ZeroDivisionError, IndexError):
        x, y = (tag_value(page, code) for code in (282, 283))
        across = x[0] / x[1]
        found = Resolution(across, y[0] / y[1] if y else across, UNITS.get(tag_number(page, 296, 2), "inch"))
        return found if found.says_something() else None
    return None
