"""Files that end too early or state a wrong length, while all of the picture is there: what other programs open.

A decoder that is not given the end of a file waits for more. It is given several ends: where the pixels are the
same, none of them comes from an end.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from contextlib import suppress

import numpy as np
from PIL import Image

_END_OF_JPEG = b"\xff\xd9"  # of the code stream of JPEG 2000, too
_MARKER = re.compile(rb"\xff[^\0\xd0-\xd7\xff]", re.DOTALL)  # of what is no byte of pixels and no restart
_NOISES = [bytes((first + 37 * number) % 254 + 1 for number in range(60)) for first in (253, 84)]  # none is a marker
_RESTARTS = [
    b"".join(bytes((0xFF, 0xD0 + (first + number) % 8)) + noise for number in range(16))
    for first, noise in zip((0, 4), _NOISES, strict=True)  # one of them is near the number that is waited for
]
_JPEG_ENDS = (b"", _NOISES[0] + _RESTARTS[0], _NOISES[1] + _RESTARTS[1])
_OTHER_ENDS = (bytes(4096), b"\xff" * 2048 + bytes(2048))
_MIDDLE = (127, 128)  # what a decoder of JPEG leaves where there are no data
_START_OF_SCAN = 0xDA
_WEBP_PIXELS = (b"VP8 ", b"VP8L")
_WEBP_CHUNKS = (*_WEBP_PIXELS, b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XMP ")


def load_whole(image: Image.Image, data: bytes, reopen: Callable[[bytes], Image.Image]) -> Image.Image:
    """Decode a picture, also where nothing but the end of its file is missing.

    Args:
        image: opened, not yet decoded.
        data: its file.
        reopen: opens other bytes in the same way.

    Returns:
        the picture, decoded.

    Raises:
        ValueError: a part of the picture is missing.
        Exception: it is damaged in another way.
    """
    is_jpeg = image.format in ("JPEG", "MPO")
    try:
        image.load()
    except OSError as error:
        if "truncated" not in str(error) and image.format != "JPEG2000":
            raise
        whole = _with_ends(data, image.format or "", reopen)
        if whole is None:
            raise ValueError("it is cut off: a part of the picture is missing") from error
        return whole
    empty = is_jpeg and np.isin(np.asarray(image.getpixel((image.width - 1, image.height - 1))), _MIDDLE).all()
    if empty and _with_ends(data, "JPEG", reopen) is None:  # somebody gave an end to what was cut off
        raise ValueError("a part of the picture is missing, though the file has an end")
    return image


def _with_ends(data: bytes, image_format: str, reopen: Callable[[bytes], Image.Image]) -> Image.Image | None:
    """Decode a file with each of several ends; None where the pixels are not the same."""
    if image_format == "JPEG2000":  # whose parts state their lengths
        ends: tuple[bytes, ...] = (_END_OF_JPEG,)
        data = data.rstrip(b"\xff")
    elif image_format in ("JPEG", "MPO"):
        length, complete = _scans(data)
        if not complete:
            return None
        data, ends = data[:length].rstrip(b"\xff"), tuple(end + _END_OF_JPEG for end in _JPEG_ENDS)
    else:
        ends = _OTHER_ENDS
    found = []
    for end in ends:
        with suppress(OSError, ValueError):
            image = reopen(data + end)
            image.load()
            found.append(image)
    same = len(found) == len(ends) and len({image.tobytes() for image in found}) == 1
    return found[0] if same else None


def _scans(data: bytes) -> tuple[int, bool]:
    """Return where the first picture of a JPEG ends, and whether its scans are all: by its end, or by what they bring.

    In a progressive one, several scans together bring the 64 coefficients of each component, bit after bit (ITU-T T.81,
    annex G); what misses the last of them can be decoded, but is blurred.
    """
    missing: dict[int, set[int]] = {}
    position = 2
    while found := _MARKER.search(data, position):
        position, marker = found.end(), data[found.end() - 1]
        if marker == _END_OF_JPEG[1]:
            return found.start(), True
        segment = data[position + 2 : position + int.from_bytes(data[position : position + 2], "big")]
        position += 2 + len(segment)
        if marker in range(0xC0, 0xD0) and marker not in (0xC4, 0xC8, 0xCC):
            missing = {identity: set(range(64)) for identity in segment[6::3]}
        elif marker == _START_OF_SCAN and len(segment) > 3:
            first, last, bits = segment[-3:]
            for identity in segment[1:-3:2]:
                if bits & 15 == 0 and identity in missing:
                    missing[identity] -= set(range(first, last + 1))
    return len(data), bool(missing) and not any(missing.values())


def with_true_length(data: bytes) -> bytes:
    """Correct the length that a WebP states of itself, where it is not that of its chunks (RFC 9649, section 2.3).

    A chunk that is cut off is left out if it holds no pixels. One of an unknown name is a chunk if it lies within a
    length that can be.

    Args:
        data: the file.
    """
    stated = int.from_bytes(data[4:8], "little") + 8
    position, pixels = 12, False
    while position + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, position)
        end = position + 8 + length
        if end > len(data) or not (name in _WEBP_CHUNKS or end <= stated <= len(data)):
            break
        pixels = pixels or name in (*_WEBP_PIXELS, b"ANMF")
        position = end + length % 2
    padded = data + bytes(max(position - len(data), 0))
    if not pixels or stated == position <= len(data):
        return data
    return data[:4] + struct.pack("<I", position - 8) + padded[8:position]
