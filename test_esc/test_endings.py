"""Files that lack nothing but their end, or state a wrong length: what is whole is read, and nothing else is."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from esc_arch.common.errors import UserError
from esc_arch.pictures.picture import Picture
from esc_arch.pictures.reading import read_picture_in_memory

LIMIT = 10**6
END_OF_JPEG = b"\xff\xd9"
JPEGS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "4:4:4": {"subsampling": 0},
    "restarts": {"restart_marker_rows": 1},
    "optimized": {"optimize": True},
}


def read(data: bytes, name: str = "picture") -> Picture:
    return read_picture_in_memory(name, data, LIMIT)


def noise(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def encoded(pixels: np.ndarray[Any, Any], image_format: str, mode: str = "RGB", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, image_format, **options)
    return stream.getvalue()


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
@pytest.mark.parametrize("shape", [(48, 64), (37, 53), (1, 1)])
def test_whole_jpegs(shape: tuple[int, int], options: dict[str, Any], mode: str) -> None:
    """Whatever stands behind the pixels, also where the last of them look as if they were missing."""
    for pixels in (noise(*shape, 3), np.full((*shape, 3), 128, np.uint8)):
        data = encoded(pixels, "JPEG", mode, **options)
        expected = read(data).pixels
        for other in (data[:-2], data[:-1], data + bytes(300), data + noise(300).tobytes()):
            np.testing.assert_array_equal(read(other).pixels, expected)


@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9, 0.98])
def test_jpegs_that_are_cut_off(part: float, options: dict[str, Any]) -> None:
    data = encoded(noise(96, 128, 3), "JPEG", **options)
    with pytest.raises(UserError, match="a part of the picture is missing"):
        read(data[: int(len(data) * part)])


@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_jpegs_that_somebody_gave_an_end(part: float) -> None:
    data = encoded(noise(96, 128, 3), "JPEG")
    with pytest.raises(UserError, match="though the file has an end"):
        read(data[: int(len(data) * part)] + END_OF_JPEG)


def test_progressive_jpegs_need_not_have_every_scan() -> None:
    """One of but its first scan is a picture, if its end says that this is all; grey, it looks unfinished."""
    data = encoded(np.full((48, 64, 3), 128, np.uint8), "JPEG", progressive=True)
    second = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    tables = data.rindex(b"\xff\xc4", 0, second) if b"\xff\xc4" in data[data.index(b"\xff\xda") : second] else second
    picture = read(data[:tables] + END_OF_JPEG)
    np.testing.assert_array_equal(picture.pixels, np.full((48, 64, 3), 128))
    with pytest.raises(UserError, match="a part of the picture is missing"):
        read(data[:tables])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_png_without_its_end(mode: str) -> None:
    pixels = noise(20, 30, 3)
    data = encoded(pixels, "PNG", mode)
    expected = read(data).pixels
    for other in (data[:-12], data[:-5], data + b"behind it"):
        np.testing.assert_array_equal(read(other).pixels, expected)
    for length in (len(data) - 24, len(data) * 2 // 3):
        with pytest.raises(UserError, match="cannot be read"):
            read(data[:length])


def test_black_rows_at_the_end_of_a_png_are_no_sign_of_damage() -> None:
    pixels = noise(20, 30, 3)
    pixels[-5:] = 0
    data = encoded(pixels, "PNG")
    np.testing.assert_array_equal(read(data).pixels, pixels)
    np.testing.assert_array_equal(read(data[:-12]).pixels, pixels)


def test_checksums_of_png() -> None:
    """Pixels have two: a wrong one of the chunk alone leaves them right, a wrong bit of theirs does not."""
    pixels = noise(20, 30, 3)
    data = bytearray(encoded(pixels, "PNG"))
    start = data.index(b"IDAT")
    (length,) = struct.unpack(">I", data[start - 4 : start])
    wrong = data.copy()
    wrong[start + 4 + length] ^= 1
    np.testing.assert_array_equal(read(bytes(wrong)).pixels, pixels)
    broken = data.copy()
    broken[start + 4 + length // 2] ^= 16
    with pytest.raises(UserError, match="cannot be read"):
        read(bytes(broken))


@pytest.mark.parametrize("lossless", [False, True])
def test_webp_that_states_a_wrong_length(lossless: bool) -> None:
    data = encoded(noise(20, 30, 3), "WEBP", lossless=lossless, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0")
    expected = read(data).pixels
    for stated in (0, 100, len(data) + 1000, 2**32 - 2):
        np.testing.assert_array_equal(read(data[:4] + struct.pack("<I", stated) + data[8:]).pixels, expected)
    with pytest.raises(UserError, match="cannot be read"):
        read(data[: len(data) // 2])


def test_webp_with_chunks_of_unknown_names() -> None:
    """They may be anywhere: what lies behind them counts, such as how the picture is to be turned."""
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(noise(20, 30, 3), "WEBP", lossless=True, exif=exif, xmp=b"<x:xmpmeta/>")
    start = data.index(b"EXIF")
    more = data[:start] + b"XMP\0\3\0\0\0odd\0" + data[start:]
    unknown = more[:4] + struct.pack("<I", len(more) - 8) + more[8:]
    for file in (unknown, unknown + b"rubbish behind"):
        found = read(file)
        np.testing.assert_array_equal(found.pixels, read(data).pixels)
        assert found.pixels.shape == (30, 20, 3)
        assert found.xmp == b"<x:xmpmeta/>"


def test_gif_without_its_end() -> None:
    data = encoded(noise(20, 30, 3), "GIF", "P")
    np.testing.assert_array_equal(read(data[:-1]).pixels, read(data).pixels)
    with pytest.raises(UserError, match="cannot be read"):
        read(data[: len(data) * 2 // 3])


def test_bmp_that_states_a_wrong_length() -> None:
    pixels = noise(20, 30, 3)
    data = encoded(pixels, "BMP")
    np.testing.assert_array_equal(read(data[:2] + struct.pack("<I", 7) + data[6:]).pixels, pixels)
    with pytest.raises(UserError, match="cannot be read"):
        read(data[:-100])


def tiff_of(*pages: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as tiff:
        for page in pages:
            tiff.write(page, photometric="rgb")
    return stream.getvalue()


def pointer_behind_first(data: bytes) -> int:
    """Where the place of the second page stands."""
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        first = tiff.pages.first.offset
    (count,) = struct.unpack_from("<H", data, first)
    return first + 2 + 12 * count


@pytest.mark.parametrize("target", [12, 2**31, "itself"])
def test_tiff_whose_chain_of_pages_breaks(target: Any) -> None:
    """Behind the first page: to somewhere in it, beyond the file, and back to itself."""
    pixels = noise(20, 30, 3)
    data = bytearray(tiff_of(pixels))
    place = pointer_behind_first(bytes(data))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as tiff:
        offset = tiff.pages.first.offset if target == "itself" else target
    struct.pack_into("<I", data, place, offset)
    picture = read(bytes(data))
    np.testing.assert_array_equal(picture.pixels, pixels)
    assert any("leads to none" in note for note in picture.notes)


def test_a_single_small_page_is_a_thumbnail() -> None:
    pixels = noise(400, 300, 3)
    picture = read(tiff_of(pixels, noise(60, 80, 3)))
    np.testing.assert_array_equal(picture.pixels, pixels)
    assert picture.notes == ("its other page, of 80 x 60, is left as a thumbnail",)
    with pytest.raises(UserError, match="has 2 pages"):
        read(tiff_of(pixels, noise(300, 300, 3)))
    with pytest.raises(UserError, match="has 3 pages"):
        read(tiff_of(pixels, noise(60, 80, 3), noise(60, 80, 3)))
