"""What optional libraries read: HEIC, JPEG XL, TIFFs compressed in rare ways."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from odd_pictures import saved
from PIL import Image

from esc_arch.common.errors import UserError
from esc_arch.pictures.formats import result_suffix
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


def test_without_imagecodecs_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    stream = io.BytesIO()
    tifffile.imwrite(stream, BLOCKS[..., 0], metadata=None)
    data = stream.getvalue().replace(b"\x03\x01\3\0\1\0\0\0\1\0", b"\x03\x01\3\0\1\0\0\0\x98\x85")  # JPEG 2000
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(UserError, match=r"compressed by .*esc_arch\[tiff\]"):
        read_picture(str(tmp_path / "a.tif"), LIMIT)
