"""What is not read is refused for the reason that is true of that file, and the sentence says what to do."""

from __future__ import annotations

import io
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from odd_pictures import saved
from PIL import Image, ImageCms

from esc_arch.common.errors import UserError
from esc_arch.pictures.formats import EXTRAS
from esc_arch.pictures.reading import read_picture, read_picture_in_memory

LIMIT = 10**6
RNG = np.random.default_rng(0)
IMAGE = Image.fromarray(RNG.integers(0, 256, (16, 12, 3), np.uint8))
ANIMATION: dict[str, Any] = {"save_all": True, "append_images": [IMAGE.rotate(90)]}


def tiff(pixels: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **options)
    return stream.getvalue()


def pages(*sizes: tuple[int, int, int], numbered: bool = False) -> bytes:
    """Pages of grey: height, width, and the kind of subfile."""
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        for index, (height, width, kind) in enumerate(sizes):
            tags = [(297, "H", 2, (index, len(sizes)), True)] if numbered else []
            pixels = np.full((height, width), height, np.uint8)
            writer.write(pixels, subfiletype=kind, metadata=None, extratags=tags)
    return stream.getvalue()


def jpeg_of_12_bits() -> bytes:
    data = bytearray(saved(IMAGE, "JPEG"))
    data[data.index(b"\xff\xc0") + 4] = 12
    return bytes(data)


def jpeg_coded_by(marker: int) -> bytes:
    return saved(IMAGE, "JPEG", comment=b"said").replace(b"\xff\xc0", bytes((0xFF, marker)))


def dds(kinds: int = 0, depth: int = 0, ten: tuple[int, int, int] | None = None) -> bytes:
    """A DDS of 4 x 4 pixels, of which dwCaps2, the depth and the fields of the header of version 10 say more."""
    data = bytearray(saved(IMAGE.resize((4, 4)), "DDS"))
    struct.pack_into("<I", data, 24, depth)
    struct.pack_into("<I", data, 112, kinds)
    if ten is None:
        return bytes(data)
    struct.pack_into("<I4s", data, 80, 4, b"DX10")
    return bytes(data[:128]) + struct.pack("<5I", 28, *ten, 0) + bytes(4 * 4 * 4)


REFUSED = {
    "gif animation": (saved(IMAGE, "GIF", **ANIMATION), "is an animation of 2 frames"),
    "png animation": (saved(IMAGE, "PNG", **ANIMATION), "is an animation of 2 frames"),
    "webp animation": (saved(IMAGE, "WEBP", **ANIMATION), "is an animation of 2 frames"),
    "pages": (pages((9, 9, 0), (8, 8, 0)), "has 2 pages; split it"),
    "pages among thumbnails": (pages((9, 9, 0), (4, 4, 1), (7, 9, 0)), "has 2 pages; split it"),
    "pages of half the size": (pages((20, 20, 0), (10, 10, 0), (10, 10, 0)), "has 3 pages; split it"),
    "pages of half the size in front": (pages((10, 10, 0), (10, 10, 0), (20, 20, 0)), "has 3 pages; split it"),
    "one of half the size in front": (pages((10, 10, 0), (20, 20, 0)), "has 2 pages; split it"),
    "numbered pages": (pages((32, 24, 0), (16, 12, 0), numbered=True), "has 2 pages; split it"),
    "ImageJ": (tiff(np.zeros((3, 8, 8), np.uint8), imagej=True), "has 3 pages"),
    "volume": (
        tiff(np.zeros((4, 8, 8), np.uint8), volumetric=True, tile=(16, 16, 16), photometric=1),
        "a volume of 4 pictures",
    ),
    "signed": (tiff(np.full((8, 8), -3, np.int16)), "signed samples from -3 to -3 and does not state what is black"),
    "float": (tiff(np.full((8, 8), 2.5, "f4")), "floating point samples from 2.5 to 2.5 and does not state"),
    "nan": (tiff(np.full((8, 8), np.nan, "f4")), "no numbers"),
    "complex": (tiff(np.zeros((8, 8), "c8")), "samples of 64 bits of format 6"),
    "bands": (tiff(np.zeros((8, 8, 5), np.uint8), photometric="minisblack", planarconfig="contig"), "has 5 channels"),
    "sensor": (tiff(np.zeros((8, 8), np.uint16), photometric=32803), "the raw data of a camera's sensor"),
    "12 bits": (jpeg_of_12_bits(), "is a JPEG of 12 bits"),
    "lossless JPEG": (jpeg_coded_by(0xC3), "is a lossless JPEG"),
    "hierarchical JPEG": (jpeg_coded_by(0xC5), "is a hierarchical JPEG"),
    "JPEG-LS": (jpeg_coded_by(0xF7), "is a JPEG-LS picture"),
    "OpenEXR": (b"v/1\x01" + bytes(60), "is OpenEXR, light without a stated range"),
    "HDR": (b"#?RADIANCE\n" + bytes(60), "is Radiance HDR, light without a stated range"),
    "drawing": (b'  <svg xmlns="http://www.w3.org/2000/svg"/>', "is an SVG drawing"),
    "page": (b"\n<!doctype html><html>", "is a page of the web"),
    "film": (b"\0\0\0\x20ftypisom" + bytes(60), "is a film"),
    "RAR": (b"Rar!\x1a\7\1\0" + bytes(60), "is a RAR archive"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(60), "is a 7z archive"),
    "tar": (bytes(257) + b"ustar\x0000" + bytes(248), "is a tar archive"),
    "DPX": (b"SDPX" + bytes(60), "is a DPX picture"),
    "FITS": (b"SIMPLE  =                    T" + bytes(60), "is a FITS file"),
    "NumPy": (b"\x93NUMPY\1\0" + bytes(60), "is an array of NumPy"),
    "CR2": (b"II*\0\x10\0\0\0CR\2\0" + bytes(60), "is a raw picture of a camera"),
    "AVI": (b"RIFF\x40\0\0\0AVI LIST" + bytes(60), "is a film"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
    "faces of a cube": (dds(0xFE00), "holds 6 pictures"),
    "volume of DDS": (dds(0x200000, depth=3), "holds 3 pictures"),
    "list of DDS": (dds(ten=(3, 0, 5)), "holds 5 pictures"),
    "cube of DDS": (dds(ten=(3, 4, 1)), "holds 6 pictures"),
    "pictures of PGM": (b"P5\n2 1\n255\n\1\2" * 2, "holds several pictures; split it"),
    "pictures of PBM": (b"P4 9 1\n\1\2" * 3, "holds several pictures; split it"),
    "pictures of PAM": (
        b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 2\nMAXVAL 255\nTUPLTYPE GRAYSCALE_ALPHA\nENDHDR\n\1\2" * 2,
        "holds several pictures; split it",
    ),
    "PFM": (b"Pf\n2 1\n-1.0\n" + np.array([0.5, 3], "<f4").tobytes(), "floating point samples from 0.5 to 3"),
}


@pytest.mark.parametrize("behind", [b"P5", b"P5 of something", b"\n", b"PK\3\4", bytes(9)])
def test_what_lies_behind_a_pnm_is_left(behind: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5\n2 1\n255\n\1\2" + behind)
    assert read_picture(str(tmp_path / "a.pgm"), LIMIT).pixels.ravel().tolist() == [1, 2]


def test_one_picture_in_a_dds() -> None:
    for data in (dds(), dds(ten=(3, 0, 1)), dds(depth=1)):
        assert read_picture_in_memory("a.dds", data, LIMIT).pixels.shape[:2] == (4, 4)


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("suffix", [".png", ".tif"])  # what is stored decides, not the name
def test_the_reason_is_true(name: str, suffix: str, tmp_path: Path) -> None:
    data, reason = REFUSED[name]
    file = tmp_path / f"a{suffix}"
    file.write_bytes(data)
    with pytest.raises(UserError) as caught:
        read_picture(str(file), LIMIT)
    assert reason in str(caught.value)
    assert str(caught.value).startswith(str(file))


@pytest.mark.parametrize(
    ("name", "head"),
    [("HEIF", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"), ("JXL", b"\xff\x0a"), ("JXL", b"\0\0\0\x0cJXL \r\n\x87\n")],
)
def test_missing_libraries_are_named(name: str, head: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, extra = EXTRAS[name]
    monkeypatch.setitem(sys.modules, module, None)
    Image.init()
    monkeypatch.delitem(Image.OPEN, name, raising=False)
    (tmp_path / "a.jpg").write_bytes(head + bytes(99))
    with pytest.raises(UserError, match=rf"esc_arch\[{extra}\]"):
        read_picture(str(tmp_path / "a.jpg"), LIMIT)


@pytest.mark.parametrize(
    "sizes",
    [
        [(32, 24, 0), (8, 6, 1)],
        [(8, 6, 1), (32, 24, 0)],
        [(32, 24, 0), (16, 12, 1), (8, 6, 1)],
        [(32, 24, 0), (16, 12, 0), (8, 6, 0)],  # a pyramid that is not marked
        [(32, 24, 1), (16, 12, 1)],  # nothing but thumbnails: the largest
    ],
)
def test_thumbnails_and_overviews_are_left(sizes: list[tuple[int, int, int]], tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(pages(*sizes))
    found = read_picture(str(tmp_path / "a.tif"), LIMIT)
    assert found.pixels.shape == (32, 24, 1)
    assert (found.pixels == 32).all()
    unmarked = [f"{width} x {height}" for height, width, kind in sizes[1:] if kind == 0 and sizes[0][2] == 0]
    told = (f"its further pages, of {', '.join(unmarked)}, are left as overviews",) if unmarked else ()
    assert found.notes == told


def test_the_picture_below_a_thumbnail(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(np.zeros((8, 6), np.uint8), subfiletype=1, subifds=1, metadata=None)
        writer.write(np.full((32, 24), 7, np.uint16), subfiletype=0, metadata=None)
    found = read_picture(str(tmp_path / "a.tif"), LIMIT)
    assert (found.pixels == 7).all()
    assert found.pixels.shape == (32, 24, 1)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_lab_and_ycbcr(compression: str | None, tmp_path: Path) -> None:
    blocks = np.kron(RNG.integers(20, 236, (4, 3, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    image = Image.fromarray(blocks)
    lab = ImageCms.profileToProfile(
        image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    for stored in (lab, image.convert("YCbCr")):
        stored.save(tmp_path / "a.tif", compression=compression)
        found = read_picture(str(tmp_path / "a.tif"), LIMIT)
        assert np.abs(found.pixels.astype(int) - blocks).max() <= 4
    deep = np.asarray(lab).astype(np.uint16)
    deep[..., 0] *= 257
    deep[..., 1:] = (np.asarray(lab)[..., 1:].view(np.int8).astype(np.int16) * 256).view(np.uint16)
    for photometric in (8, 9):
        values = deep if photometric == 8 else deep ^ np.array([0, 1 << 15, 1 << 15], np.uint16)
        (tmp_path / "b.tif").write_bytes(tiff(values, photometric=photometric, metadata=None))
        found = read_picture(str(tmp_path / "b.tif"), LIMIT)
        assert found.pixels.dtype == np.uint16
        assert np.abs(found.pixels / 257 - blocks).max() <= 4
