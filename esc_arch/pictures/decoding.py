"""Reading the formats that Pillow decodes: JPEG, WebP, BMP, AVIF, GIF, JPEG 2000, HEIC, JPEG XL, and older ones."""

from __future__ import annotations

import importlib
import io
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from esc_arch.common.errors import UserError
from esc_arch.pictures import jpegxl
from esc_arch.pictures.endings import load_whole, with_true_length
from esc_arch.pictures.formats import EXTRAS
from esc_arch.pictures.items import Property, main_properties, orientation_of_steps, resolution_of_shape, show, steps_of
from esc_arch.pictures.jpeg2000 import Belongings, bits_of_channel, read_belongings
from esc_arch.pictures.jpeg2000_channels import Channels, read_channels
from esc_arch.pictures.jpeg2000_decoding import pixels_of_jpeg2000
from esc_arch.pictures.metadata import (
    PHOTOSHOP,
    clean_exif,
    clean_xmp,
    iptc_of_resources,
    load_exif,
    orientation_of,
    resolution_of,
    without_resolution,
)
from esc_arch.pictures.modern import bits_stored, decode_deep_heif, meant_colours
from esc_arch.pictures.modes import plain_pixels
from esc_arch.pictures.older import mend, pictures_of_dds
from esc_arch.pictures.picture import Picture, Pixels, Resolution
from esc_arch.pictures.profiles import fit_profile, to_srgb
from esc_arch.pictures.rewriting import REWRITTEN, made_known
from esc_arch.pictures.upright import turn_resolution, turn_upright

_ALONE = ("JPEG", "HEIF")  # of several pictures the first is the one, the others are its companions
_JPEG_KINDS = {
    **dict.fromkeys((0xC3, 0xC7, 0xCB, 0xCF), "a lossless JPEG"),
    **dict.fromkeys((0xC5, 0xC6, 0xCD, 0xCE), "a hierarchical JPEG"),
    0xF7: "a JPEG-LS picture",
}
# libjpeg's note on CMYK (libjpeg.txt, "Special color spaces"): a JPEG itself does not say which; browsers, ImageMagick,
# libvips and OpenCV decide likewise
_UNMARKED = (
    "its CMYK is taken as stored with 0 for full ink, as other programs take it; if it looks like a negative (one out "
    "of a PDF may), convert it to RGB"
)
_REDUCED = "its {} bits are reduced to 8, which is all that its decoder gives"
_JPEG_HEAD = 2**24  # bytes that hold all that stands before the pixels
_BMP_HEADER, _BMP_FIFTH = 14, 124  # bytes of the header of a BMP, and of BITMAPV5HEADER behind it


@dataclass(frozen=True)
class _Said:
    """What a file says that Pillow does not tell.

    Args:
        bits: of a channel.
        beside: what belongs to the picture.
        turn: how the stored pixels are to be turned, 1 to 8 as in EXIF; None where EXIF and XMP say it.
        is_turned: whether the decoder does so.
        is_animation: whether there is more than one frame.
        steps: how an AVIF or HEIC is cropped and turned.
        properties: of an AVIF or HEIC.
        channels: of a JPEG 2000.
    """

    bits: int = 8
    beside: Belongings = field(default_factory=Belongings)
    turn: int | None = None
    is_turned: bool = False
    is_animation: bool = False
    steps: tuple[Property, ...] = ()
    properties: tuple[Property, ...] = ()
    channels: Channels = field(default_factory=Channels)


def open_image(file: str, stream: BinaryIO, image_format: str) -> Image.Image:
    """Open a picture whose format is known, without the limits of `Image.open`: the caller has one.

    Args:
        file: its name, for messages.
        stream: of the whole file. Pillow is not given the name: it would map uncompressed TIFFs wrongly.
        image_format: as in `esc_arch.pictures.formats.FORMATS`.

    Raises:
        UserError: a library is missing.
        Exception: the file is damaged, with the reason that `Image.open` keeps to itself.
    """
    Image.init()
    if image_format in EXTRAS and image_format not in Image.OPEN:
        module, extra = EXTRAS[image_format]
        try:
            plugin = importlib.import_module(module)
        except ImportError as error:
            raise UserError(f"{file} is {image_format}, which takes pip install 'esc_arch[{extra}]'.") from error
        if image_format == "HEIF":
            plugin.register_heif_opener()
    if image_format not in Image.OPEN:
        raise UserError(f"{file} is {image_format}, which this Pillow was built without; install a newer Pillow.")
    factory: Callable[..., Image.Image] = Image.OPEN[image_format][0]
    return factory(stream, "")


def read_with_pillow(file: str, stream: BinaryIO, image_format: str, check: Callable[[int, int], None]) -> Picture:
    """Read a picture, upright.

    Args:
        file: its name, for messages.
        stream: of the whole file.
        image_format: as in `esc_arch.pictures.formats.FORMATS`.
        check: called with the width and the height before pixels are decoded; raises where there are too many.

    Raises:
        UserError: a library is missing, the picture is an animation, has too many pixels or another range of numbers.
        Exception: it is damaged.
    """
    if image_format == "JPEG" and (kind := _kind_of_jpeg(stream.read(_JPEG_HEAD))):
        raise UserError(f"{file} is {kind}, which is not read; make a PNG of it, or leave it out.")
    stream.seek(0)
    notes: list[str] = []
    if image_format == "WEBP":
        stream = io.BytesIO(with_true_length(stream.read()))
    elif image_format in REWRITTEN:
        stream = io.BytesIO(made_known(stream.read(), image_format, check, notes))
    with open_image(file, stream, image_format) as image:
        check(image.width, image.height)
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image_format not in _ALONE:
            raise UserError(f"{file} is an animation of {frames} frames; enlarge its frames one by one.")
        position = stream.tell()
        stream.seek(0)
        data = stream.read()
        stream.seek(position)
        if image_format == "DDS" and (count := pictures_of_dds(data)) > 1:
            raise UserError(
                f"{file} holds {count} pictures (of a cube, a volume or a list); split it into single ones."
            )
        said = _said(file, image_format, image, data)
        if said.is_animation:  # the plugin of JPEG XL shows the last frame
            raise UserError(f"{file} is an animation; enlarge its frames one by one.")
        opened = image
        image = load_whole(opened, data, lambda whole: open_image(file, io.BytesIO(whole), image_format))
        if image is not opened:
            notes.append("its end is missing; all of the picture is there")
        exif = load_exif(_exif_of_avif(image) or image.info.get("exif") or said.beside.exif)
        xmp = image.info.get("xmp") or said.beside.xmp
        xmp = xmp if isinstance(xmp, bytes) else b""
        turn = said.turn or orientation_of(exif, xmp)
        profile = image.info.get("icc_profile") or said.beside.profile or None
        if image_format == "BMP":
            profile = profile or _profile_of_bmp(stream)
        pixels, profile = _pixels(file, image, data, image_format, said, profile, notes)
        if image_format == "AVIF":  # whose decoder leaves to others what is not about decoding
            pixels = show(pixels, said.steps, notes)
        elif not said.is_turned:
            pixels = turn_upright(pixels, turn)
        pixels, profile = fit_profile(pixels, profile)
        resolution = _resolution(image) or resolution_of(exif)
        if (shaped := resolution_of_shape(said.properties, resolution)) != resolution:
            exif, resolution = without_resolution(exif), shaped
        return Picture(
            pixels,
            profile,
            clean_exif(exif, turn),
            clean_xmp(xmp),
            _iptc(image) or said.beside.iptc,
            turn_resolution(resolution, turn),
            _comment(image),
            chunks=((b"cICP", meant),) if not profile and (meant := meant_colours(said.properties)) else (),
            notes=tuple(notes),
            lossless=image_format == "WEBP" and _is_lossless(stream),
        )


def _said(file: str, image_format: str, image: Image.Image, data: bytes) -> _Said:
    """Read what the format has a place for and Pillow, or its plugin, does not read."""
    if image_format == "JPEG2000":
        bits, beside, channels = bits_of_channel(data), read_belongings(data), read_channels(data)
        channels.require_known(file, beside.profile)
        return _Said(bits, beside, channels=channels)
    if image_format == "JXL":
        header = jpegxl.read_header(data)
        is_turned = not getattr(image, "jpeg", False)  # of what was a JPEG, that is decoded
        return _Said(header.bits, jpegxl.read_belongings(data), header.orientation, is_turned, header.is_animation)
    if image_format in ("AVIF", "HEIF"):
        own, below = main_properties(data)
        bits = bits_stored([*own, *below]) if image_format == "AVIF" else image.info.get("bit_depth") or 8
        steps = steps_of(own)
        turn, is_turned = orientation_of_steps(steps), image_format == "HEIF"
        return _Said(bits, turn=turn, is_turned=is_turned, steps=tuple(steps), properties=(*own, *below))
    return _Said()


def _pixels(
    file: str,
    image: Image.Image,
    data: bytes,
    image_format: str,
    said: _Said,
    profile: bytes | None,
    notes: list[str],
) -> tuple[Pixels, bytes | None]:
    """Return pixels as they are stored, (H, W, 1 to 4), grey or RGB of 8 or 16 bits, and the profile that fits them."""
    if image_format == "HEIF" and said.bits > 8:
        return decode_deep_heif(data, said.bits), profile
    if image_format == "JPEG2000":
        pixels, profile = pixels_of_jpeg2000(file, image, data, said.bits, said.channels, profile)
        if said.bits > 8 and pixels.dtype == np.uint8:
            notes.append(_REDUCED.format(said.bits))
        return pixels, profile
    if image.mode == "CMYK" and image_format == "JPEG" and "adobe" not in image.info:
        notes.append(_UNMARKED)
    if image.mode in ("CMYK", "LAB"):
        image, profile = to_srgb(image, profile), None
    pixels = plain_pixels(image)
    if said.bits > 8 and pixels.dtype == np.uint8:
        notes.append(_REDUCED.format(said.bits))
    return mend(data, image_format, pixels, notes), profile


def _kind_of_jpeg(data: bytes) -> str | None:
    """Say what a JPEG is whose pixels are coded in a way that is not decoded here (ITU-T T.81, table B.1; T.87)."""
    position = 2
    while position + 5 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        bits = data[position + 4]
        if marker in _JPEG_KINDS:
            return _JPEG_KINDS[marker]
        if marker in range(0xC0, 0xD0) and marker not in (0xC4, 0xC8, 0xCC):
            return f"a JPEG of {bits} bits" if bits != 8 else None
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None


def _resolution(image: Image.Image) -> Resolution | None:
    info: dict[Any, Any] = image.info
    try:
        if "jfif_unit" in info:
            units = {0: "", 1: "inch", 2: "cm"}
            across, down = info["jfif_density"]
            found = Resolution(float(across), float(down), units.get(info["jfif_unit"], ""))
        elif image.format in ("BMP", "JPEG2000", "PCX") and "dpi" in info:
            across, down = info["dpi"]
            found = Resolution(float(across), float(down))
        else:
            return None
    except (TypeError, ValueError):
        return None
    return found if found.says_something() else None


def _iptc(image: Image.Image) -> bytes:
    """Return IPTC records of a JPEG, whose resources of Photoshop may go on from one segment to the next."""
    segments = [content for name, content in getattr(image, "applist", ()) if name == "APP13"]
    parts = (content[len(PHOTOSHOP) :] for content in segments if content.startswith(PHOTOSHOP))
    return iptc_of_resources(b"".join(parts))


def _exif_of_avif(image: Image.Image) -> bytes:
    """Return EXIF data as they are stored: Pillow writes them anew, and spoils texts, where they say how to turn."""
    if image.format != "AVIF":
        return b""
    with suppress(AttributeError, IndexError):
        found = image._decoder.get_info()[4]  # type: ignore[attr-defined]
        return found if isinstance(found, bytes) else b""
    return b""


def _profile_of_bmp(stream: BinaryIO) -> bytes | None:
    """Return the profile within a BMP, which its fifth header points to."""
    stream.seek(_BMP_HEADER)
    header = stream.read(_BMP_FIFTH)
    if len(header) < _BMP_FIFTH or header[:4] != struct.pack("<I", _BMP_FIFTH) or header[56:60] != b"DEBM":
        return None
    start, size = struct.unpack_from("<II", header, 112)
    stream.seek(_BMP_HEADER + start)
    return stream.read(size)


def _is_lossless(stream: BinaryIO) -> bool:
    """Tell whether a WebP has a chunk of pixels that are stored as they are (RFC 9649, section 2.6)."""
    position = stream.seek(12)
    while len(header := stream.read(8)) == 8 and header[:4] not in (b"VP8 ", b"ANMF"):
        if header[:4] == b"VP8L":
            return True
        length = int.from_bytes(header[4:], "little")
        position = stream.seek(position + 8 + length + length % 2)
    return False


def _comment(image: Image.Image) -> bytes:
    found = image.info.get("comment", b"")
    found = found.encode() if isinstance(found, str) else found
    return found if isinstance(found, bytes) and image.format in ("JPEG", "MPO", "GIF") else b""
