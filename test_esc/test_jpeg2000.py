"""What belongs to a JPEG 2000 picture lies in boxes around its pixels, which Pillow does not tell."""

from __future__ import annotations

import importlib.util
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from esc_arch.common.errors import UserError
from esc_arch.pictures.jpeg2000 import EXIF, IPTC, XMP, read_belongings
from esc_arch.pictures.reading import read_picture, read_picture_in_memory

if not features.check("jpg_2000"):
    pytest.skip("this Pillow has no JPEG 2000", allow_module_level=True)

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
RECORDS, PACKET = b"\x1c\x02\x69\x00\x08headline", b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


def boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    found, position = [], 0
    while position < len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        found.append((name, data[position + 8 : position + length if length else len(data)]))
        position += length or len(data)
    return found


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x010F], tags[0x0112] = "a camera", orientation
    return tags.tobytes().removeprefix(b"Exif\0\0")


def with_everything(orientation: int, method: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "JPEG2000", irreversible=False)
    parts = b""
    for name, content in boxes(stream.getvalue()):
        if name == b"jp2h":
            inner = [part for part in boxes(content) if part[0] != b"colr"]
            resolution = box(b"resc", struct.pack(">HHHHBB", 9449, 1, 11811, 1, 0, 0))
            inner += [(b"colr", bytes([method, 0, 0]) + SRGB), (b"res ", resolution)]
            content = b"".join(box(*part) for part in inner)
        if name == b"jp2c":
            for kind, value in ((EXIF, exif(orientation)), (XMP, PACKET), (IPTC, RECORDS)):
                parts += box(b"uuid", kind + value)
        parts += box(name, content)
    return parts


@pytest.mark.parametrize("method", [2, 3])
@pytest.mark.parametrize("orientation", [1, 6])
def test_what_belongs_to_it_is_kept(tmp_path: Path, orientation: int, method: int) -> None:
    (tmp_path / "a.jp2").write_bytes(with_everything(orientation, method))
    picture = read_picture(str(tmp_path / "a.jp2"), 10**6)
    assert np.array_equal(picture.pixels, PIXELS if orientation == 1 else np.rot90(PIXELS, -1))
    assert (picture.profile, picture.xmp, picture.iptc) == (SRGB, PACKET, RECORDS)
    assert b"a camera" in picture.exif
    assert picture.resolution is not None
    assert picture.resolution.per_inch() == pytest.approx((300, 240) if orientation == 1 else (240, 300), rel=1e-3)


def test_damaged_boxes_do_no_harm(tmp_path: Path) -> None:
    whole = with_everything(1, 2)
    start = whole.index(EXIF) - 8
    damaged = whole[:start] + b"\xff\xff\xff\xff" + whole[start + 4 :]
    assert read_belongings(damaged).profile == SRGB
    assert read_belongings(damaged).exif == b""
    for cut in range(len(whole)):
        read_belongings(whole[:cut])
    assert read_belongings(whole[whole.index(b"\xff\x4f\xff\x51") :]).profile == b""


def written(bits: int, channels: int) -> np.ndarray[Any, Any]:
    """What OpenJPEG's `opj_compress` was given for `FILES`, as fractions."""
    step = 371 if bits == 12 else 7
    values = (np.arange(12 * channels).reshape(3, 4, channels) * step) % 2**bits
    values[0, 0], values[0, 1] = 0, 2**bits - 1
    return values / (2**bits - 1)


HEAD = "ff4fff5100{:02x}0000000000040000000300000000000000000000000400000003000000000000000000"
FILES = {  # bits and channels
    (1, 1): HEAD.format(0x29)
    + "01000101ff52000c00000001000000000001ff5c00044008ff90000a0000000000120001ff93d1000939ffd9",
    (4, 1): HEAD.format(0x29) + "01030101ff52000c00000001000000000001ff5c00044020ff90000a0000000000190001ff93df2080069e"
    "0ec2b49e237fffd9",
    (2, 3): HEAD.format(0x2F)
    + "03010101010101010101ff52000c00000001010000000001ff5c00044010ff90000a0000000000210001ff93"
    "dd1006b2a60fdd14114638b17fdd100be9e350ffd9",
    (4, 2): HEAD.format(0x2C)
    + "02030101030101ff52000c00000001000000000001ff5c00044020ff90000a0000000000230001ff93df2080"
    "058d37885cc82f3fdf2070069e8f100b9015ffd9",
    (12, 2): HEAD.format(0x2C)
    + "020b01010b0101ff52000c00000001000000000001ff5c00044060ff90000a00000000003b0001ff93dfe04c"
    "06b4c3ed30a6bb189806478c71b15d376e3f4bdfe050069e8439463e8c29501d7f8d09d84dc0bd993991ffd9",
}


@pytest.mark.parametrize(("bits", "channels"), FILES)
def test_white_is_white_whatever_the_bits(bits: int, channels: int) -> None:
    data = bytes.fromhex(FILES[bits, channels])
    if bits > 8 and channels == 2 and importlib.util.find_spec("imagecodecs") is None:
        with pytest.raises(UserError, match=r"grey with alpha of more than 8 bits, .*esc_arch\[tiff\]"):
            read_picture_in_memory("a.j2k", data, 10**6)
        return
    found = read_picture_in_memory("a.j2k", data, 10**6).pixels
    assert found.dtype == (np.uint8 if bits <= 8 else np.uint16)
    np.testing.assert_allclose(
        found / np.iinfo(found.dtype).max, written(bits, channels), atol=1e-5 if bits > 8 else 2e-3
    )
