"""Reading and writing pictures: every sort of pixel, what belongs to them, and files that are broken."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps, features

from esc_arch.common.errors import UserError
from esc_arch.pictures.picture import Picture
from esc_arch.pictures.profiles import fit_profile
from esc_arch.pictures.reading import read_picture, read_picture_in_memory
from esc_arch.pictures.writing import LARGEST_SIDE, check_format, check_target, write_picture

LIMIT = 10**6
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY_PROFILE = fit_profile(np.zeros((1, 1, 1), np.uint8), PROFILE)[1]
RNG = np.random.default_rng(0)
OF_ONE_SIZE = {"sizes": [(16, 16)]}  # of an icon; other formats do not heed it


def pixels(channels: int, dtype: str = "uint8", height: int = 12, width: int = 9) -> np.ndarray[Any, Any]:
    return RNG.integers(0, np.iinfo(dtype).max + 1, (height, width, channels), dtype)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_lossless_formats_keep_every_pixel_and_profile(tmp_path: Path, suffix: str, dtype: str, channels: int) -> None:
    file = str(tmp_path / f"deeper/a{suffix}")
    profile = PROFILE if channels > 2 else GREY_PROFILE
    picture = Picture(pixels(channels, dtype), profile)
    check_target(file, picture, 1)
    write_picture(file, picture)
    found = read_picture(file, LIMIT)
    np.testing.assert_array_equal(found.pixels, picture.pixels)
    assert found.pixels.dtype == dtype
    assert found.profile == profile
    assert [path.name for path in (tmp_path / "deeper").iterdir()] == [f"a{suffix}"]


@pytest.mark.parametrize(
    ("suffix", "channels"),
    [(".jpg", 1), (".jpeg", 3), (".webp", 3), (".webp", 4), (".bmp", 1), (".bmp", 3)],
)
def test_other_formats_come_close(tmp_path: Path, suffix: str, channels: int) -> None:
    smooth = np.linspace(0, 255, 12 * 9 * channels).reshape(12, 9, channels).astype("uint8")
    file = str(tmp_path / f"a{suffix}")
    profile = PROFILE if channels > 2 else GREY_PROFILE
    write_picture(file, Picture(smooth, profile))
    found = read_picture(file, LIMIT)
    assert np.abs(found.pixels.astype(int) - smooth).mean() < 6
    assert found.profile == (None if suffix == ".bmp" else profile)


def save(file: Path, image: Image.Image, **options: Any) -> str:
    image.save(file, **options)
    return str(file)


def test_unusual_modes_become_usual_ones(tmp_path: Path) -> None:
    photograph = Image.fromarray(pixels(3))
    palette = photograph.quantize(16)
    found = read_picture(save(tmp_path / "p.png", palette), LIMIT)
    np.testing.assert_array_equal(found.pixels, np.asarray(palette.convert("RGB")))
    transparent = read_picture(save(tmp_path / "pt.png", palette, transparency=3), LIMIT)
    assert transparent.pixels.shape[2] == 4
    assert set(np.unique(transparent.pixels[..., 3])) == {0, 255}
    bilevel = photograph.convert("1")
    found = read_picture(save(tmp_path / "1.png", bilevel), LIMIT)
    np.testing.assert_array_equal(found.pixels[..., 0], np.asarray(bilevel) * 255)
    keyed = read_picture(save(tmp_path / "l.png", photograph.convert("L"), transparency=7), LIMIT)
    assert keyed.pixels.shape[2] == 2


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    red = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    for options in ({}, {"icc_profile": b"not a profile"}):
        found = read_picture(save(tmp_path / "a.tif", red, **options), LIMIT)
        assert found.pixels[0, 0].tolist() == [255, 0, 0]
        assert found.profile is None


def test_sixteen_bits_of_other_writers(tmp_path: Path) -> None:
    deep = pixels(3, "uint16")
    cv2.imwrite(str(tmp_path / "a.png"), deep[..., ::-1])
    tifffile.imwrite(tmp_path / "b.tif", deep, photometric="rgb", byteorder=">")
    tifffile.imwrite(tmp_path / "c.tif", deep[..., 0], byteorder=">")
    for name, expected in {"a.png": deep, "b.tif": deep, "c.tif": deep[..., :1]}.items():
        found = read_picture(str(tmp_path / name), LIMIT)
        assert found.pixels.dtype == np.uint16
        np.testing.assert_array_equal(found.pixels, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_orientation_is_honoured_once(tmp_path: Path, orientation: int, dtype: str) -> None:
    stored = pixels(3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "a camera"
    exif.get_ifd(0x8769)[0xA002] = 9
    shown = np.asarray(ImageOps.exif_transpose(Image.open(save_oriented(tmp_path / "8.png", stored, exif))))
    file = str(tmp_path / "a.png")
    write_picture(file, Picture(stored.astype(dtype), exif=exif.tobytes()))
    found = read_picture(file, LIMIT)
    np.testing.assert_array_equal(found.pixels, shown)
    write_picture(str(tmp_path / "b.png"), found)
    again = read_picture(str(tmp_path / "b.png"), LIMIT)
    np.testing.assert_array_equal(again.pixels, shown)
    with Image.open(tmp_path / "b.png") as image:
        tags = image.getexif()
        assert tags[0x010F] == "a camera"
        assert 0x0112 not in tags
        assert 0xA002 not in tags.get_ifd(0x8769)


def save_oriented(file: Path, stored: np.ndarray[Any, Any], exif: Image.Exif) -> str:
    return save(file, Image.fromarray(stored), exif=exif)


def test_orientation_of_jpeg(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGB", (30, 20))
    assert read_picture(save(tmp_path / "a.jpg", image, exif=exif), LIMIT).pixels.shape == (30, 20, 3)


def huge_png() -> bytes:
    """A small file that claims 60 000 x 60 000 pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def truncated(image_format: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels(3, height=64, width=64)).save(stream, image_format)
    return stream.getvalue()[: len(stream.getvalue()) // 2]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.png", b"", "is empty"),
        ("text.jpg", b"this is no picture", "is none of AVIF, BMP, DDS, GIF, HEIF, ICO, JPEG"),
        (
            "script.png",
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
            "is a PostScript document, which is",
        ),
        ("bomb.png", huge_png(), "60000 x 60000 pixels, more than the limit of 1000000; raise it by --max-pixels"),
        ("half.png", truncated("PNG"), "cannot be read"),
        ("half.jpg", truncated("JPEG"), "cannot be read"),
        ("half.webp", truncated("WEBP"), "cannot be read"),
        ("half.tif", truncated("TIFF"), "cannot be read"),
        ("half.bmp", truncated("BMP"), "cannot be read"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_picture(str(file), LIMIT)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".ico", ".tif", ".jpg", ".bmp"])
def test_the_limit_is_the_one_that_was_given(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow has one of its own, of 179 million pixels, which some of its formats heed while they are opened."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    file = save(
        tmp_path / f"a{suffix}",
        Image.new("RGB", (16, 16), "red"),
        **OF_ONE_SIZE,
    )
    assert read_picture(file, 256).pixels.shape[:2] == (16, 16)
    assert Image.MAX_IMAGE_PIXELS == 10
    with pytest.raises(UserError, match=r"more (pixels )?than the limit of 255; raise it by --max-pixels"):
        read_picture(file, 255)
    assert Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.parametrize("suffix", [".gif", ".ico"])
def test_parts_that_are_larger_than_the_file_says(tmp_path: Path, suffix: str) -> None:
    image = Image.new("RGB", (16, 16), "red")
    data = bytearray(Path(save(tmp_path / f"a{suffix}", image, **OF_ONE_SIZE)).read_bytes())
    if suffix == ".gif":
        data[6:10] = struct.pack("<HH", 4, 4)
    else:
        data[6:8] = b"\4\4"
    (tmp_path / f"a{suffix}").write_bytes(data)
    with pytest.raises(UserError, match=r"more (pixels )?than the limit of 100; raise it by --max-pixels"):
        read_picture(str(tmp_path / f"a{suffix}"), 100)


def test_cmyk_of_jpeg_without_a_mark(tmp_path: Path) -> None:
    """Nothing says that 0 is full ink, as Adobe's mark does; other programs take it so, and one that is not is told."""
    data = Path(save(tmp_path / "a.jpg", Image.new("CMYK", (16, 16), (0, 255, 255, 0)))).read_bytes()
    assert not read_picture(str(tmp_path / "a.jpg"), LIMIT).notes
    place = data.index(b"Adobe") - 4
    length = int.from_bytes(data[place + 2 : place + 4], "big")
    (tmp_path / "b.jpg").write_bytes(data[:place] + data[place + 2 + length :])
    found = read_picture(str(tmp_path / "b.jpg"), LIMIT)
    assert found.pixels[0, 0].tolist() == [255, 0, 0]
    assert "its CMYK is taken as stored with 0 for full ink" in found.notes[0]


def test_first_picture_of_a_camera_that_stores_several(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (9, 7), "red"), Image.new("RGB", (3, 3), "blue")
    file = save(tmp_path / "a.jpg", first, format="MPO", save_all=True, append_images=[second])
    with Image.open(file) as image:
        assert image.format == "MPO"
    found = read_picture(file, LIMIT)
    assert found.pixels.shape == (7, 9, 3)
    assert found.pixels[0, 0, 0] > 250


def test_what_would_lose_something_is_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(pixels(3)) for _ in range(2)]
    with pytest.raises(UserError, match="has 2 pages"):
        read_picture(save(tmp_path / "a.tif", frames[0], save_all=True, append_images=frames[1:]), LIMIT)
    with pytest.raises(UserError, match="floating point samples from 3 to 3 and does not state what is black"):
        read_picture(save(tmp_path / "b.tif", Image.new("F", (4, 4), 3)), LIMIT)
    with pytest.raises(UserError, match="cannot be read"):
        read_picture(str(tmp_path / "nowhere.png"), LIMIT)


@pytest.mark.parametrize(
    ("name", "channels", "dtype", "scale", "message"),
    [
        ("a.jpg", 4, "uint8", 1, "cannot hold transparency"),
        ("a.jpg", 2, "uint8", 1, "cannot hold transparency"),
        ("a.webp", 3, "uint16", 1, "cannot hold 16 bits"),
        ("a.webp", 3, "uint8", 2000, "cannot be 24000 pixels"),
        ("a.jpg", 3, "uint8", 65_501 / 12, "cannot be 65501 pixels"),
        ("a.avif", 3, "uint8", 32_769 / 12, "an AVIF cannot be 32769 pixels"),
        ("a.gif", 3, "uint8", 1, "the suffix must be one of"),
    ],
)
def test_targets_that_cannot_hold_a_picture(name: str, channels: int, dtype: str, scale: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_target(name, Picture(pixels(channels, dtype)), scale)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_the_largest_avif_is_read(tmp_path: Path) -> None:
    """Decoders refuse larger ones by default, so that a result would be there that nothing opens."""
    Image.new("L", (32_768, 1)).save(tmp_path / "a.avif", speed=10)
    assert read_picture(str(tmp_path / "a.avif"), LIMIT).pixels.shape[:2] == (1, 32_768)
    check_format("a.avif", "AVIF", Picture(pixels(3)), (16_384, 16_384))
    with pytest.raises(UserError, match="an AVIF of 16385 x 16384 pixels is not opened"):
        check_format("a.avif", "AVIF", Picture(pixels(3)), (16_384, 16_385))


def test_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(UserError, match="No space left"):
        write_picture(str(tmp_path / "a.png"), Picture(pixels(3)))
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        write_picture(str(tmp_path / "file" / "a.png"), Picture(pixels(3)))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_others_read_the_pixels_that_were_written(tmp_path: Path, channels: int, dtype: str) -> None:
    picture = Picture(pixels(channels, dtype))
    expected = picture.pixels[..., 0] if channels == 1 else picture.pixels
    write_picture(str(tmp_path / "a.tif"), picture)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), expected)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.pages.first.extrasamples == ((2,) if channels in (2, 4) else ())
    opaque = picture.pixels[..., [0, 0, 0, 1]] if channels == 2 else picture.pixels
    for suffix in (".png", ".bmp") if dtype == "uint8" else (".png",):
        write_picture(str(tmp_path / f"a{suffix}"), picture)
        found = cv2.imread(str(tmp_path / f"a{suffix}"), cv2.IMREAD_UNCHANGED)
        found = found[..., None] if found.ndim == 2 else found[..., [2, 1, 0, 3][: found.shape[2]]]
        np.testing.assert_array_equal(found, opaque)
        if dtype == "uint8" and channels != 2:
            with Image.open(tmp_path / f"a{suffix}") as image:
                np.testing.assert_array_equal(np.asarray(image), expected)


def test_alpha_that_is_opaque_everywhere_is_none(tmp_path: Path) -> None:
    for channels in (2, 4):
        opaque = np.full((8, 8, channels), 90, np.uint8)
        opaque[..., -1] = 255
        file = str(tmp_path / f"{channels}.jpg")
        check_target(file, Picture(opaque), 2)
        write_picture(file, Picture(opaque))
        found = read_picture(file, LIMIT).pixels
        assert found.shape == (8, 8, channels - 1)
        assert np.abs(found.astype(int) - 90).max() < 3
        opaque[3, 3, -1] = 254
        with pytest.raises(UserError, match=r"cannot hold transparency; name the result \(-o\) with another suffix"):
            check_target(file, Picture(opaque), 2)


def test_the_largest_jpeg_is_written(tmp_path: Path) -> None:
    """LARGEST_SIDE is what libjpeg takes, not what the format could say."""
    widest = Picture(np.zeros((1, LARGEST_SIDE["JPEG"], 1), np.uint8))
    check_target("a.jpg", widest, 1)
    write_picture(str(tmp_path / "a.jpg"), widest)
    assert read_picture(str(tmp_path / "a.jpg"), LIMIT).pixels.shape == widest.pixels.shape


def test_pictures_that_are_no_files_are_read_as_files_are(tmp_path: Path) -> None:
    Image.new("RGB", (5, 4), "red").save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    found, expected = (
        read_picture_in_memory("standard input", data, LIMIT),
        read_picture(str(tmp_path / "a.png"), LIMIT),
    )
    np.testing.assert_array_equal(found.pixels, expected.pixels)
    for broken in (b"", data[:40], b"text"):
        with pytest.raises(UserError, match=r"^standard input "):
            read_picture_in_memory("standard input", broken, LIMIT)
