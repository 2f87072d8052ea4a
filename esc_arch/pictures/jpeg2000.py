"""What belongs to a JPEG 2000 picture, of which Pillow tells the pixels alone (ISO/IEC 15444-1, annexes A and I)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

EXIF = bytes.fromhex("4a706754696666457869662d3e4a5032")  # "JpgTiffExif->JP2"
XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
IPTC = bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38")
FILE = b"\0\0\0\x0cjP  "
_ICC_METHODS = (2, 3)  # of a `colr` box: a restricted profile, and in the extended format (JPX) any
CODE_STREAM = b"\xff\x4f\xff\x51"  # start of the code stream, then its first marker
_MOST_CHANNELS = 5  # CMYK and alpha


@dataclass(frozen=True)
class Belongings:
    """What the boxes around the code stream hold; empty where there is none.

    Args:
        profile: ICC profile.
        exif: EXIF data, beginning with the header of a TIFF.
        xmp: XMP packet.
        iptc: records of IPTC-IIM.
    """

    profile: bytes = b""
    exif: bytes = b""
    xmp: bytes = b""
    iptc: bytes = b""


def read_belongings(data: bytes) -> Belongings:
    """Find what belongs to the picture, as far as the boxes are whole.

    Args:
        data: the file; of a bare code stream there is nothing to find.
    """
    if not data.startswith(FILE):
        return Belongings()
    profile, found = b"", dict[bytes, bytes]()
    for name, content in boxes(data):
        if name == b"jp2h":
            for inner, colour in boxes(content):
                if inner == b"colr" and colour[:1] and colour[0] in _ICC_METHODS and not profile:
                    profile = colour[3:]
        elif name == b"uuid":
            found.setdefault(content[:16], content[16:])
    exif = found.get(EXIF, b"").removeprefix(b"Exif\0\0")
    return Belongings(profile, exif, found.get(XMP, b""), found.get(IPTC, b""))


def bits_of_channel(data: bytes) -> int:
    """Return the bits of a channel (section A.5.1).

    Raises:
        ValueError: the channels have different ones, the file does not say, or it is not one picture.
    """
    start = data.find(CODE_STREAM) + len(CODE_STREAM)
    channels = int.from_bytes(data[start + 36 : start + 38], "big")
    bits = {(byte & 0x7F) + 1 for byte in data[start + 38 : start + 38 + 3 * channels : 3]}
    if start < len(CODE_STREAM) or len(bits) != 1:
        raise ValueError("its channels have different numbers of bits")
    if channels > _MOST_CHANNELS:
        raise ValueError(f"it has {channels} channels, which is not one picture")
    return bits.pop()


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the names and contents of the boxes that are whole (section I.4); the last may be without a length.

    Args:
        data: of a file or of a box with others in it; of JPEG XL, too, whose boxes are the same.
    """
    position = 0
    while position + 8 <= len(data):
        length, name, start = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8], 8
        if length == 1:
            length, start = int.from_bytes(data[position + 8 : position + 16], "big"), 16
        length = length or len(data) - position
        if length < start or position + length > len(data):
            return
        yield name, data[position + start : position + length]
        position += length
