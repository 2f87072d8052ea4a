"""The channels of a JPEG 2000 picture are what its boxes say: their order, alpha, space of colours, and samples."""

from __future__ import annotations

import importlib.util
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, features
from test_jpeg2000 import box

from esc_arch.common.errors import UserError
from esc_arch.pictures.reading import read_picture_in_memory
from esc_arch.pictures.ycbcr import rgb_of_ycbcr

if not features.check("jpg_2000"):
    pytest.skip("this Pillow has no JPEG 2000", allow_module_level=True)

Array = np.ndarray[Any, Any]
SEEN: Array = np.random.default_rng(1).integers(0, 256, (32, 40, 4), np.uint8)
SEEN[..., 3] |= 128  # so that what alpha is multiplied into says enough
# 4:2:0 of 5 x 5 pixels, brightness and colour differences as in `shared_by_pixels`, by ffmpeg's `jpeg2000`
SHARED = bytes.fromhex(
    "ff4fff51002f000000000005000000050000000000000000000001000000010000000000000000000003070101070202070202ff52000c000000"
    "01000602020001ff5c00162040484850484850484850484850484850484850ff90000a0000000000820001ff93c04203c0e82007c0e820070000"
    "00000000000000c1f20183e40300e8200404010000c3e70707c8080bb2bf004fc3e70307c80a0f9c0804057f06c02143ea020706dfc3e10e0e87"
    "03e40614b4b404c87f06615fc3e7071f501c3ea0200041bf03011f01c3c1f2028fa01c1f3820056109cb5f017fffd9"
)


def code_stream(pixels: Array) -> bytes:
    """Lossless, of 8 or 16 bits, the channels as they are given."""
    import cv2

    ordered = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]  # OpenCV has blue first
    done, data = cv2.imencode(".jp2", np.ascontiguousarray(ordered), [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])
    assert done
    return bytes(data)[bytes(data).index(b"\xff\x4f\xff\x51") :]


def jp2(code: bytes, colours: bytes, definitions: list[tuple[int, int, int]] | None = None) -> bytes:
    width, height = struct.unpack_from(">II", code, 8)
    header = box(b"ihdr", struct.pack(">IIHBBBB", height, width, code[41], code[42], 7, 0, 0)) + box(b"colr", colours)
    if definitions:
        parts = b"".join(struct.pack(">3H", *definition) for definition in definitions)
        header += box(b"cdef", struct.pack(">H", len(definitions)) + parts)
    kind = box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
    return box(b"jP  ", b"\r\n\x87\n") + kind + box(b"jp2h", header) + box(b"jp2c", code)


def enumerated(space: int) -> bytes:
    return struct.pack(">BBBI", 1, 0, 0, space)


def read(data: bytes) -> Array:
    return read_picture_in_memory("a.jp2", data, 10**6).pixels


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize(
    ("stored", "kind"), [("RGBA", 1), ("BGRA", 1), ("ARGB", 1), ("GABR", 1), ("RGBA", 2), ("BGRA", 2), ("BGRA", 65535)]
)
def test_channels_are_in_the_order_that_is_said(stored: str, kind: int, dtype: str) -> None:
    whole = np.iinfo(dtype).max
    seen = SEEN.astype(dtype) * (whole // 255)
    pixels = seen.copy()
    if kind == 2:
        alpha = seen[..., 3:].astype(np.int64)
        pixels[..., :3] = (seen[..., :3] * alpha + whole // 2) // whole
    of = {"R": 1, "G": 2, "B": 3, "A": 65535 if kind == 65535 else 0}
    definitions = [(index, kind if name == "A" else 0, of[name]) for index, name in enumerate(stored)]
    code = code_stream(pixels[..., ["RGBA".index(name) for name in stored]])
    found = read(jp2(code, enumerated(16), definitions))
    assert found.dtype == dtype
    expected = seen[..., :3] if kind == 65535 else seen
    np.testing.assert_allclose(found.astype(int), expected.astype(int), atol=1 if kind == 2 else 0)


@pytest.mark.parametrize(
    "definitions",
    [
        [(0, 0, 1), (1, 0, 1), (2, 0, 3), (3, 1, 0)],  # two channels for one colour
        [(0, 0, 1), (1, 0, 2), (2, 0, 3)],  # one is not defined
        [(0, 0, 1), (0, 0, 2), (7, 0, 3), (3, 1, 0)],
        [(0, 1, 0)] * 4,
    ],
)
def test_definitions_that_cannot_be_are_left(definitions: list[tuple[int, int, int]]) -> None:
    np.testing.assert_array_equal(read(jp2(code_stream(SEEN), enumerated(16), definitions)), SEEN)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_brightness_and_colour_differences(dtype: str) -> None:
    whole = np.iinfo(dtype).max
    rgb = SEEN[..., :3].astype(float) / 255
    to_ycc = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    ycc = (rgb @ to_ycc.T * whole).round() + np.array([0, (whole + 1) // 2, (whole + 1) // 2])
    found = read(jp2(code_stream(ycc.clip(0, whole).astype(dtype)), enumerated(18)))
    np.testing.assert_allclose(found / whole, rgb, atol=2.5 / 255 if dtype == "u1" else 1e-4)


@pytest.mark.parametrize(("space", "name"), [(14, r"CIE L\*a\*b\*"), (21, "ROMM RGB"), (3, "colours of the kind 3")])
def test_colours_that_are_not_known_are_told(space: int, name: str) -> None:
    with pytest.raises(UserError, match=f"JPEG 2000 of {name}, which is not read; convert"):
        read(jp2(code_stream(SEEN[..., :3]), enumerated(space)))


def test_colours_of_profiles() -> None:
    """A profile says what four channels are: CMYK is no RGB with alpha; what is damaged says nothing."""
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    with pytest.raises(UserError, match="JPEG 2000 of Lab"):
        read(jp2(code_stream(SEEN[..., :3]), b"\2\0\0" + lab))
    damaged = lab[:36] + b"????" + lab[40:]
    np.testing.assert_array_equal(read(jp2(code_stream(SEEN), b"\2\0\0" + damaged)), SEEN)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    cmyk = srgb[:16] + b"CMYK" + srgb[20:]  # whose tables are none, so that the inks are taken as they are
    expected = np.asarray(Image.frombytes("CMYK", SEEN.shape[1::-1], SEEN.tobytes()).convert("RGB"))
    for pixels in (SEEN, SEEN.astype("u2") * 257):
        np.testing.assert_array_equal(read(jp2(code_stream(pixels), b"\2\0\0" + cmyk)), expected)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("signed", [(0, 1, 2), (1, 2)])
def test_samples_with_a_sign(dtype: str, signed: tuple[int, ...]) -> None:
    """Zero is the middle of the range: the same stream with signs stands for numbers that are less by half of it."""
    whole = np.iinfo(dtype).max
    pixels = SEEN[..., :3].astype(dtype) * (whole // 255)
    code = bytearray(code_stream(pixels))
    for index in signed:
        code[42 + 3 * index] |= 0x80
    np.testing.assert_array_equal(read(bytes(code)), pixels)
    np.testing.assert_array_equal(read(jp2(bytes(code), enumerated(16))), pixels)


def shared_by_pixels() -> Array:
    y = np.full((5, 5), 128, np.uint8)
    y[0, 0], y[4, 4] = 90, 170
    blue = np.array([[100, 128, 150], [120, 140, 110], [128, 90, 160]], np.uint8)
    red = np.array([[150, 110, 128], [100, 128, 140], [160, 120, 99]], np.uint8)
    larger = [np.repeat(np.repeat(part, 2, axis=0), 2, axis=1)[:5, :5] for part in (blue, red)]
    return rgb_of_ycbcr("", np.stack([y, *larger], axis=2))


def test_colours_of_fewer_pixels_and_an_odd_side() -> None:
    """Pillow takes the rows of colour differences for shorter than they are, which shears the picture."""
    if importlib.util.find_spec("imagecodecs") is None:
        with pytest.raises(UserError, match=r"colours of fewer pixels.*esc_arch\[tiff\]"):
            read(SHARED)
        return
    np.testing.assert_allclose(read(SHARED).astype(int), shared_by_pixels(), atol=4)  # its wavelet is not exact


def test_samples_of_more_than_a_pixel_are_told() -> None:
    code = bytearray(code_stream(SEEN[..., :3]))
    code[43:45] = b"\2\2"  # steps of the first component
    with pytest.raises(UserError, match="samples of more than a pixel"):
        read(bytes(code))
