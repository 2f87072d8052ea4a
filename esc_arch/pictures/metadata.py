"""EXIF, XMP and IPTC: what stays true of the enlarged picture. Damaged data are no reason to refuse a picture."""

from __future__ import annotations

import re
import struct
from contextlib import suppress
from typing import Any

from PIL import Image

from esc_arch.pictures.picture import Resolution

ORIENTATION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 0x0112, 0x011A, 0x011B, 0x0128
EXIF_BLOCK, GPS_BLOCK = 0x8769, 0x8825
INTEROPERABILITY = 0xA005  # a directory below the Exif block
_NOT_IN_BLOCKS = (0xA002, 0xA003, EXIF_BLOCK, GPS_BLOCK)  # width and height; and directories in circles
DESCRIPTIVE = (  # tags of the first directory that tell about the picture and not about the file
    *(0x010D, 0x010E, 0x010F, 0x0110, 0x011D, 0x0131, 0x0132, 0x013B, 0x013C, 0x4746, 0x4749, 0x8298),
    *range(0x9C9B, 0x9CA0),
)
_UNDEFINED_OF_GPS = (0x1B, 0x1C)  # tags whose bytes are of type UNDEFINED, as are all in the Exif block
UNITS = {1: "", 2: "inch", 3: "cm"}
_OF_THE_FILE = {  # tags of the first directory that are wrong once the pixels are others
    *(0x0100, 0x0101, 0x0102, 0x0103, 0x0106, 0x010A, 0x0111, 0x0115, 0x0116, 0x0117, 0x011C, 0x0140, 0x0142, 0x0143),
    *(0x0144, 0x0145, 0x014A, 0x0152, 0x0153, 0x015B, 0x0201, 0x0202, 0x0212, 0x02BC, 0x83BB, 0x8649, 0x8773, 0x00FE),
}
_XMP_SIZES = rb"(?:tiff:(?:ImageWidth|ImageLength|Orientation)|exif:Pixel[XY]Dimension)"
_XMP_STALE = re.compile(rb"\s*\b%s\s*=\s*(?:\"\d*\"|'\d*')|<%s>\s*\d*\s*</[\w:]*>" % (_XMP_SIZES, _XMP_SIZES))
# thumbnails, a part of XMP that lies elsewhere, and the film, depth or gain map behind a phone's picture: they are left
_XMP_LEFT = rb"(?:hdrgm:Version|xmpNote:HasExtendedXMP|G(?:Depth|Image):\w+|GCamera:(?:MicroVideo|MotionPhoto)\w*)"
_XMP_OF_COMPANIONS = re.compile(
    rb"\s*\b%s\s*=\s*(?:\"[^\"<]*\"|'[^'<]*')" % _XMP_LEFT
    + rb"|<(%s|Container:Directory|xmp:Thumbnails|xap:Thumbnails)(?:\s[^<>]*)?>.*?</\1\s*>" % _XMP_LEFT,
    re.DOTALL,
)
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>\s*)([1-8])")
_IPTC_RESOURCE = 0x0404
PHOTOSHOP = b"Photoshop 3.0\0"  # begins the segments of a JPEG that hold image resources


class _Stored(str):
    """A text whose bytes are written as they were read: mostly UTF-8, of which Pillow would make question marks."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return super().encode("latin-1", "replace")  # as Pillow decodes it


def as_stored(value: Any, tag: int = 0, block: int = 0) -> Any:
    """Prepare a value of EXIF data, as `load_exif` returns it, for being written without a loss.

    Args:
        value: of a tag, or a whole directory.
        tag: its number.
        block: the directory that it lies in, 0 for the first.
    """
    if isinstance(value, dict):
        return {inner: as_stored(part, inner, tag) for inner, part in value.items()}
    if isinstance(value, bytes) and (block == EXIF_BLOCK or (block == GPS_BLOCK and tag in _UNDEFINED_OF_GPS)):
        return [bytearray(value)]  # what Pillow knows as nothing else it writes as UNDEFINED; bytes would be BYTE
    return _Stored(value) if isinstance(value, str) else value


def load_exif(data: bytes | Image.Exif | None) -> Image.Exif:
    """Parse EXIF data, as far as they are whole.

    Args:
        data: with or without the `Exif` in front; or what a library has parsed already.

    Returns:
        an empty one where nothing can be read.
    """
    if isinstance(data, Image.Exif):
        return data
    exif = Image.Exif()
    with suppress(Exception):  # damaged data may raise anything at all
        exif.load(data or b"")
        dict(exif)
        return exif
    return Image.Exif()


def orientation_of(exif: Image.Exif, xmp: bytes = b"") -> int:
    """Return how a picture is to be turned, 1 to 8 as in EXIF; 1 where nothing is said that makes sense."""
    with suppress(Exception):
        found = exif.get(ORIENTATION)
        if found is not None:
            return found if found in range(1, 9) else 1
    found = _XMP_ORIENTATION.search(xmp)
    return int(found[1]) if found else 1


def resolution_of(exif: Image.Exif) -> Resolution | None:
    """Return the resolution that EXIF data state."""
    with suppress(Exception):
        if X_RESOLUTION in exif:
            x = float(exif[X_RESOLUTION])
            found = Resolution(x, float(exif.get(Y_RESOLUTION, x)), UNITS.get(exif.get(RESOLUTION_UNIT, 2), "inch"))
            return found if found.says_something() else None
    return None


def without_resolution(exif: Image.Exif) -> Image.Exif:
    """Remove the resolution, where something else says it better."""
    for tag in (X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT):
        exif.pop(tag, None)
    return exif


def clean_exif(exif: Image.Exif, turn: int = 1) -> bytes:
    """Return the EXIF data that stay true: without orientation, sizes, thumbnail, and what describes the file.

    Args:
        exif: what came with the picture.
        turn: how it has been turned, 1 to 8; from 5 on, across and down change places.

    Returns:
        with `Exif` in front; empty where nothing is left or they are damaged.
    """
    with suppress(Exception):  # each tag may be damaged in another way
        kept = Image.Exif()
        exchanged = {X_RESOLUTION: Y_RESOLUTION, Y_RESOLUTION: X_RESOLUTION} if turn >= 5 else {}
        for name, value in dict(exif).items():
            tag = exchanged.get(name, name)
            if tag not in _OF_THE_FILE and tag not in (ORIENTATION, EXIF_BLOCK, GPS_BLOCK):
                _set_if_it_can_be_written(kept, tag, value)
        for block in (EXIF_BLOCK, GPS_BLOCK):
            if block in exif:
                stored = block_of(exif, block)
                values = {tag: value for tag, value in stored.items() if tag not in {*_NOT_IN_BLOCKS, *_OF_THE_FILE}}
                if values:
                    _set_if_it_can_be_written(kept, block, values)
        return kept.tobytes() if len(kept) else b""
    return b""


def block_of(exif: Image.Exif, block: int) -> dict[int, Any]:
    """Return a directory below the first one, with those below it in place of where they were stored."""
    values = dict(exif[block] if isinstance(exif.get(block), dict) else exif.get_ifd(block))
    if INTEROPERABILITY in values and not isinstance(values[INTEROPERABILITY], dict):
        values[INTEROPERABILITY] = dict(exif.get_ifd(INTEROPERABILITY))
    return values


def _set_if_it_can_be_written(exif: Image.Exif, tag: int, value: Any) -> None:
    alone, value = Image.Exif(), as_stored(value, tag)
    with suppress(Exception):
        alone[tag] = value
        alone.tobytes()
        exif[tag] = value


def with_resolution(exif: bytes, resolution: Resolution | None) -> bytes:
    """Add the resolution to EXIF data that do not state it, for formats without another place for it."""
    values = load_exif(exif)
    if resolution is None or X_RESOLUTION in values:
        return exif
    values[X_RESOLUTION], values[Y_RESOLUTION] = resolution.x, resolution.y
    values[RESOLUTION_UNIT] = next(code for code, unit in UNITS.items() if unit == resolution.unit)
    return clean_exif(values)


def clean_xmp(packet: Any) -> bytes:
    """Return an XMP packet without what is no longer true; empty where it is none.

    That is orientation, sizes, thumbnails, and what describes companions of the picture that are left.
    """
    if isinstance(packet, str):
        packet = packet.encode()
    if not isinstance(packet, bytes) or b"<" not in packet:
        return b""
    return _XMP_OF_COMPANIONS.sub(b"", _XMP_STALE.sub(b"", packet.rstrip(b"\0")))


def iptc_of_resources(resources: bytes) -> bytes:
    """Find the records of IPTC-IIM among the image resources of Photoshop (`8BIM` blocks)."""
    position = 0
    while resources[position : position + 4] == b"8BIM" and position + 12 <= len(resources):
        number, name_length = struct.unpack_from(">HB", resources, position + 4)
        start = position + 6 + (name_length + 2) // 2 * 2
        if start + 4 > len(resources):
            break
        (length,) = struct.unpack_from(">I", resources, start)
        if number == _IPTC_RESOURCE:
            return resources[start + 4 : start + 4 + length]
        position = start + 4 + (length + 1) // 2 * 2
    return b""


def resources_of_iptc(iptc: bytes) -> bytes:
    """Wrap records of IPTC-IIM as an image resource of Photoshop, as JPEG holds them."""
    return b"8BIM" + struct.pack(">HHI", _IPTC_RESOURCE, 0, len(iptc)) + iptc + bytes(len(iptc) % 2)
