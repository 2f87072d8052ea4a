"""What optional libraries read: HEIC, JPEG XL, TIFFs compressed in rare ways."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from odd_pictures import box, saved
from PIL import Image

from esc_arch.common.errors import UserError
from esc_arch.pictures.formats import result_suffix
from esc_arch.pictures.jpeg2000 import Belongings, boxes
from esc_arch.pictures.jpegxl import Header, read_belongings, read_header
from esc_arch.pictures.reading import read_picture

LIMIT = 10**6
RNG = np.random.default_rng(0)
BLOCKS = np.kron(RNG.integers(0, 256, (4, 3, 3)), np.ones((16, 16, 1))).astype(np.uint8)


def exif() -> Image.Exif:
    tags = Image.Exif()
    tags[0x010F] = "a camera"
    return tags


def test_heic(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    (tmp_path / "a.heic").write_bytes(saved(Image.fromarray(BLOCKS), "HEIF", quality=100, chroma=444, exif=exif()))
    found = read_picture(str(tmp_path / "a.heic"), LIMIT)
    assert found.pixels.shape == BLOCKS.shape
    assert np.abs(found.pixels.astype(int) - BLOCKS).mean() < 4
    assert b"a camera" in found.exif
    assert result_suffix(".heic") == ".png"


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_jpeg_xl(mode: str, tmp_path: Path) -> None:
    pytest.importorskip("pillow_jxl")
    image = Image.fromarray(BLOCKS).convert(mode)
    (tmp_path / "a.jxl").write_bytes(saved(image, "JXL", lossless=True, exif=exif().tobytes()))
    found = read_picture(str(tmp_path / "a.jxl"), LIMIT)
    np.testing.assert_array_equal(found.pixels, np.asarray(image).reshape(found.pixels.shape))
    assert b"a camera" in found.exif


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpeg_xl_that_was_a_jpeg(orientation: int, tmp_path: Path) -> None:
    """Its plugin decodes the JPEG again, not turned, though the stream says how."""
    pytest.importorskip("pillow_jxl")
    tags = exif()
    tags[0x0112] = orientation
    Image.fromarray(BLOCKS).save(tmp_path / "a.jpg", quality=98, subsampling=0, exif=tags, dpi=(300, 240))
    with Image.open(tmp_path / "a.jpg") as image:
        image.save(tmp_path / "a.jxl", lossless_jpeg=True)
    expected, found = (read_picture(str(tmp_path / name), LIMIT) for name in ("a.jpg", "a.jxl"))
    np.testing.assert_array_equal(found.pixels, expected.pixels)
    assert found.exif == expected.exif
    assert found.resolution == expected.resolution


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpeg_xl_that_its_decoder_turns(orientation: int, tmp_path: Path) -> None:
    """Without what makes a JPEG of it again, its pixels come turned, and what EXIF says of them is turned with them."""
    pytest.importorskip("pillow_jxl")
    tags = exif()
    tags[0x0112], tags[0x011A], tags[0x011B], tags[0x0128] = orientation, 300, 240, 2
    Image.fromarray(BLOCKS).save(tmp_path / "a.jpg", quality=98, subsampling=0, exif=tags)
    with Image.open(tmp_path / "a.jpg") as image:
        whole = saved(image, "JXL", lossless_jpeg=True)
    kept = [(name, content) for name, content in boxes(whole) if name != b"jbrd"]
    (tmp_path / "a.jxl").write_bytes(b"".join(box(name, content) for name, content in kept))
    expected, found = (read_picture(str(tmp_path / name), LIMIT) for name in ("a.jpg", "a.jxl"))
    assert np.abs(found.pixels.astype(int) - expected.pixels).max() <= 4
    assert found.resolution == expected.resolution
    assert found.exif == expected.exif


def bits_of(*numbers: tuple[int, int]) -> bytes:
    """Numbers of so many bits, the lowest first."""
    digits = "".join(f"{number:0{count}b}"[::-1] for number, count in numbers)
    return int(digits[::-1], 2).to_bytes((len(digits) + 7) // 8 + 1, "little")


SMALL = ((1, 1), (0, 5), (1, 3))  # 8 x 8 pixels
LARGE = ((0, 1), (2, 2), (5000, 18), (0, 3), (1, 2), (900, 13))


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("container", [b"", b"jxlc", b"jxlp"])
def test_header_of_jpeg_xl(size: tuple[tuple[int, int], ...], container: bytes) -> None:
    usual, special, plain = ((1, 1),), ((0, 1), (1, 1)), ((0, 1), (0, 1))
    cases: list[tuple[tuple[tuple[int, int], ...], Header]] = [
        (usual, Header()),
        ((*plain, (0, 1), (1, 2)), Header(10)),
        ((*plain, (0, 1), (3, 2), (15, 6)), Header(16)),
        ((*plain, (1, 1), (0, 2)), Header(32)),
        ((*special, (5, 3), (0, 3), (0, 1), (2, 2)), Header(12, 6)),
        ((*special, (7, 3), (1, 1), *LARGE, (0, 2), (0, 1), (2, 2)), Header(12, 8)),
        ((*special, (0, 3), (0, 2), (1, 1)), Header(8, 1, is_animation=True)),
    ]
    for fields, expected in cases:
        stream = b"\xff\x0a" + bits_of(*size, *fields)
        if container == b"jxlp":
            stream = box(b"jxlp", bytes(4) + stream[:5]) + box(b"jxlp", b"\x80\0\0\1" + stream[5:])
        elif container:
            stream = box(container, stream)
        assert read_header(box(b"JXL ", b"\r\n\x87\n") * bool(container) + stream) == expected


def test_boxes_of_jpeg_xl() -> None:
    stored = exif().tobytes().removeprefix(b"Exif\0\0")
    head = box(b"JXL ", b"\r\n\x87\n")
    found = read_belongings(head + box(b"Exif", bytes(4) + stored) + box(b"xml ", b"<x/>"))
    assert (found.exif, found.xmp) == (stored, b"<x/>")
    assert read_belongings(head + box(b"Exif", b"\0\0\0\2ab" + stored)).exif == stored
    assert read_belongings(head + box(b"Exif", b"\xff") + box(b"brob", b"xml damaged")) == Belongings()
    brotli = pytest.importorskip("brotli")
    packed = box(b"brob", b"Exif" + brotli.compress(bytes(4) + stored)) + box(
        b"brob", b"xml " + brotli.compress(b"<x/>")
    )
    found = read_belongings(head + packed)
    assert (found.exif, found.xmp) == (stored, b"<x/>")


def test_animation_of_jpeg_xl(tmp_path: Path) -> None:
    pytest.importorskip("pillow_jxl")
    file = tmp_path / "a.jxl"
    file.write_bytes(saved(Image.fromarray(BLOCKS), "JXL", lossless=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("esc_arch.pictures.jpegxl.read_header", lambda data: Header(is_animation=True))
        with pytest.raises(UserError, match="is an animation"):
            read_picture(str(file), LIMIT)


@pytest.mark.parametrize("compression", ["jpeg2000", "jpegxl", "zstd", "lzw", "lerc"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_tiff_of_imagecodecs(compression: str, dtype: str, orientation: int, tmp_path: Path) -> None:
    pytest.importorskip("imagecodecs")
    pixels = (BLOCKS.astype(dtype) * (257 if dtype == "uint16" else 1)).astype(dtype)
    options = {"level": 100} if compression == "jpegxl" else {}
    tags = [(274, "H", 1, orientation, True)]
    with io.BytesIO() as stream:
        arguments = {"reversible": True, "level": 0} if compression == "jpeg2000" else options
        tifffile.imwrite(
            stream, pixels, photometric="rgb", compression=compression, compressionargs=arguments, extratags=tags
        )
        (tmp_path / "a.tif").write_bytes(stream.getvalue())
    found = read_picture(str(tmp_path / "a.tif"), LIMIT)
    expected = pixels if orientation == 1 else np.rot90(pixels, -1)
    assert found.pixels.dtype == dtype
    assert np.abs(found.pixels.astype(int) - expected).max() <= (257 if dtype == "uint16" else 1)


@pytest.mark.parametrize(("code", "photometric"), [(33003, 2), (33004, 2), (34712, 6)])
def test_ycbcr_that_no_decoder_converts(code: int, photometric: int, tmp_path: Path) -> None:
    """Slides of Aperio and TIFFs of libvips in JPEG 2000, which at times say that they are RGB."""
    pytest.importorskip("imagecodecs")
    stored = np.asarray(Image.fromarray(BLOCKS).convert("YCbCr"))
    arguments = {"reversible": True, "level": 0, "mct": False}
    stream = io.BytesIO()
    tags = [(530, "H", 2, (1, 1), True)]  # nothing is sampled coarsely
    tifffile.imwrite(
        stream, stored, photometric="rgb", compression="jpeg2000", compressionargs=arguments, extratags=tags
    )
    data = stream.getvalue()
    for tag, before, after in ((259, 34712, code), (262, 2, photometric)):
        entry, changed = (struct.pack("<HHIHH", tag, 3, 1, value, 0) for value in (before, after))
        assert data.count(entry) == 1
        data = data.replace(entry, changed)
    (tmp_path / "a.tif").write_bytes(data)
    found = read_picture(str(tmp_path / "a.tif"), LIMIT).pixels
    assert np.abs(found.astype(int) - BLOCKS).max() <= 2


def test_strips_without_content(tmp_path: Path) -> None:
    pytest.importorskip("imagecodecs")
    tifffile.imwrite(tmp_path / "a.tif", BLOCKS, photometric="rgb", compression="jpeg2000", metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        place = tiff.pages.first.tags[279].offset + 8
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[place : place + 4] = bytes(4)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(UserError, match="a part of the picture is missing"):
        read_picture(str(tmp_path / "a.tif"), LIMIT)


def test_without_imagecodecs_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    stream = io.BytesIO()
    tifffile.imwrite(stream, BLOCKS[..., 0], metadata=None)
    data = stream.getvalue().replace(b"\x03\x01\3\0\1\0\0\0\1\0", b"\x03\x01\3\0\1\0\0\0\x98\x85")  # JPEG 2000
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(UserError, match=r"compressed by .*esc_arch\[tiff\]"):
        read_picture(str(tmp_path / "a.tif"), LIMIT)
