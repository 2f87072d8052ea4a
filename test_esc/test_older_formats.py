"""Older formats are read as they were meant, also where Pillow has it otherwise."""

from __future__ import annotations

import io
import re
import struct
from typing import Any

import numpy as np
import pytest
from odd_pictures import saved
from PIL import Image
from test_endings import encoded, noise, read

from esc_arch.common.errors import UserError
from esc_arch.pictures.reading import read_picture_in_memory


@pytest.mark.parametrize(
    ("image_format", "name", "modes"),
    [
        ("TGA", "a.tga", ("L", "RGB", "RGBA")),
        ("PCX", "a.pcx", ("L", "RGB")),
        ("SGI", "a.sgi", ("L", "RGB", "RGBA")),
        ("DDS", "a.dds", ("RGB", "RGBA")),
        ("QOI", "a.qoi", ("RGB", "RGBA")),
        ("ICO", "a.ico", ("RGBA",)),
    ],
)
def test_older_formats(image_format: str, name: str, modes: tuple[str, ...]) -> None:
    for mode in modes:
        options = {"sizes": [(32, 32)]} if image_format == "ICO" else {}
        image = Image.fromarray(noise(32, 32, 4 if mode == "RGBA" else 3)).convert(mode)
        stream = io.BytesIO()
        image.save(stream, image_format, **options)
        expected = np.asarray(image)
        found = read(stream.getvalue(), name).pixels
        np.testing.assert_array_equal(found[..., 0] if expected.ndim == 2 else found, expected)


def test_fourth_byte_of_tga() -> None:
    """It is alpha, unless all would be transparent, as some programs leave it zero."""
    pixels = noise(20, 30, 4)
    pixels[..., 3] = 0
    data = bytearray(encoded(pixels, "TGA", "RGBA"))
    data[17] &= 0xF0
    np.testing.assert_array_equal(read(bytes(data), "a.tga").pixels, pixels[..., :3])


@pytest.mark.parametrize("declared", [0, 1])
@pytest.mark.parametrize("opaque", ["all", "some"])
def test_sixteenth_bit_of_tga(declared: int, opaque: str) -> None:
    """It says where the picture is opaque, if it is said to say anything."""
    colours, seen = noise(5, 6, 3) >> 3, noise(5, 6) > (127 if opaque == "some" else -1)
    packed = colours.astype("<u2") @ np.array([1 << 10, 1 << 5, 1], "<u2") | seen.astype("<u2") << 15
    head = struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 6, 5, 16, 0x20 | declared)
    found = read(head + packed.astype("<u2").tobytes(), "a.tga").pixels
    assert found.shape[2] == (4 if declared else 3)
    assert np.abs(found[..., :3] / 255 - colours / 31).max() <= 0.01
    if declared:
        np.testing.assert_array_equal(found[..., 3], np.where(seen, 255, 0))


@pytest.mark.parametrize("bits", [15, 16])
@pytest.mark.parametrize("mapped", [False, True])
def test_fifteen_bits_of_tga(bits: int, mapped: bool) -> None:
    colours = noise(5, 6, 3) >> 3
    packed = colours.astype("<u2") @ np.array([1 << 10, 1 << 5, 1], "<u2") | noise(5, 6).astype("<u2") << 15
    if mapped:
        head = struct.pack("<BBBHHBHHHHBB", 0, 1, 1, 0, 30, bits, 0, 0, 6, 5, 8, 0x20)
        stored = packed.astype("<u2").tobytes() + bytes(range(30))
    else:
        head = struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 6, 5, bits, 0x20)
        stored = packed.astype("<u2").tobytes()
    found = read(head + stored, "a.tga").pixels
    assert found.shape == (5, 6, 3)
    assert np.abs(found / 255 - colours / 31).max() <= 0.01


@pytest.mark.parametrize("kind", [2, 3])
@pytest.mark.parametrize("bits", [16, 24])
@pytest.mark.parametrize("words", [b"", b"made by hand"])
def test_colour_map_of_tga_that_is_not_needed(kind: int, bits: int, words: bytes) -> None:
    pixels = noise(5, 7, 3 if kind == 2 else 1)
    head = struct.pack("<BBBHHBHHHHBB", len(words), 1, kind, 3, 20, bits, 0, 0, 7, 5, 8 * pixels.shape[2], 0x20)
    data = head + words + noise(20, bits // 8).tobytes() + pixels[..., ::-1].tobytes()
    np.testing.assert_array_equal(read(data, "a.tga").pixels, pixels)


def runs(row: Any, ended: bool) -> bytes:
    """A row of SGI in runs and in parts as they are, with an end mark or without."""
    parts: list[Any] = []
    for start in range(0, len(row), 4):
        part = row[start : start + 4]
        same = (part == part[0]).all()
        parts += [len(part), part[0]] if same else [0x80 | len(part), *part]
    return np.array([*parts, *([0] if ended else [])], row.dtype).tobytes()


@pytest.mark.parametrize("kind", ["u1", ">u2"])
@pytest.mark.parametrize("planes", [1, 3, 4])
@pytest.mark.parametrize("packed", ["no", "ended", "open"])
def test_sgi(kind: str, planes: int, packed: str) -> None:
    """Two bytes a channel are kept; a row of runs needs no end mark, and may have one."""
    pixels = np.random.default_rng(0).integers(0, np.iinfo(kind).max + 1, (6, 11, planes)).astype(kind)
    pixels[2:4, 4:8] = 9
    rows = np.moveaxis(pixels[::-1], 2, 0).reshape(-1, 11)
    size = pixels.dtype.itemsize
    dimensions = 3 if planes > 1 or packed == "open" else 2  # some writers have three of grey, too
    head = struct.pack(">HBBHHHHII", 0x01DA, packed != "no", size, dimensions, 11, 6, planes, 0, 255).ljust(512, b"\0")
    if packed == "no":
        data = head[:4] + struct.pack(">H", 3 if planes > 1 else 2) + head[6:] + rows.tobytes()
    else:
        stored = [runs(row, packed == "ended") for row in rows]
        starts = np.cumsum([len(head) + 8 * len(rows), *map(len, stored)])[:-1]
        data = head + struct.pack(f">{len(rows)}I", *starts) + struct.pack(f">{len(rows)}I", *map(len, stored))
        data += b"".join(stored)
        with pytest.raises(UserError, match="a part of the picture is missing"):
            read(data[: -size * 2])
        with pytest.raises(UserError, match="more than the limit"):  # whose rows may all be the same few bytes
            read_picture_in_memory("a", data[:6] + struct.pack(">HH", 60_000, 60_000) + data[10:], 10**6)
    found = read(data)
    assert found.pixels.dtype == pixels.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found.pixels, pixels)
    assert not found.notes


@pytest.mark.parametrize(("bits", "planes"), [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (4, 1)])
@pytest.mark.parametrize("width", [8, 13])
def test_sixteen_colours_of_pcx(bits: int, planes: int, width: int) -> None:
    palette, places = noise(16, 3), noise(7, width) % 2 ** (bits * planes)
    np.testing.assert_array_equal(read(small_pcx(palette, places, bits, planes)).pixels, palette[places])


@pytest.mark.parametrize("colours", [((0, 0, 0), (255, 255, 255)), ((0, 0, 0), (0, 0, 0)), ((9, 9, 9), (9, 9, 9))])
def test_pcx_of_black_and_white(colours: Any) -> None:
    """Of no palette, or one that tells nothing apart, a bit that is set is white."""
    places = noise(7, 13) % 2
    found = read(small_pcx(np.pad(np.array(colours, np.uint8), ((0, 14), (0, 0))), places, 1, 1)).pixels
    np.testing.assert_array_equal(found[..., 0], places * 255)


def small_pcx(palette: Any, places: Any, bits: int, planes: int) -> bytes:
    width = places.shape[1]
    digits = (places[:, None] >> np.arange(4)[:, None]) & 1
    if planes == 1:
        lines = np.packbits(digits[:, :bits][:, ::-1].transpose(0, 2, 1).reshape(7, 1, -1), axis=2)
    else:
        lines = np.packbits(digits[:, :planes], axis=2)
    lines = np.pad(lines, ((0, 0), (0, 0), (0, lines.shape[2] % 2)))
    stored = re.sub(rb"(.)\1{0,62}", lambda run: bytes([0xC0 | len(run[0])]) + run[1], lines.tobytes(), flags=re.DOTALL)
    head = struct.pack("<BBBBHHHHHH", 10, 5, 1, bits, 0, 0, width - 1, 6, 72, 72) + palette.tobytes()
    head += struct.pack("<BBHH", 0, planes, lines.shape[2], 1).ljust(64, b"\0")
    return head + stored


def test_sixteenth_bit_of_a_colour_map() -> None:
    colours, places = noise(4, 3) >> 3, noise(5, 6) & 3
    packed = (colours.astype("<u2") @ np.array([1 << 10, 1 << 5, 1], "<u2") | 0x8000).astype("<u2")
    head = struct.pack("<BBBHHBHHHHBB", 0, 1, 1, 0, 4, 16, 0, 0, 6, 5, 8, 0x20)
    found = read(head + packed.tobytes() + places.tobytes(), "a.tga").pixels
    assert found.shape == (5, 6, 3)
    assert np.abs(found / 255 - colours[places] / 31).max() <= 0.01


def test_ink_of_xbm() -> None:
    """A bit that is set is black, the lowest bit of a byte is the leftmost pixel."""
    bits = noise(5, 11) > 127
    rows = "".join(f"0x{byte:02x}, " for byte in np.packbits(bits, axis=1, bitorder="little").ravel())
    data = f"#define a_width 11\n#define a_height 5\nstatic char a_bits[] = {{\n{rows}}};\n".encode()
    np.testing.assert_array_equal(read(data).pixels[..., 0], np.where(bits, 0, 255))


def packed_sun(stored: bytes) -> bytes:
    """Run lengths of rasterfile(5)."""
    return re.sub(
        rb"(.)\1{0,255}",
        lambda run: (
            b"\x80" + bytes([len(run[0]) - 1]) + run[1] if len(run[0]) > 1 else run[0].replace(b"\x80", b"\x80\0")
        ),
        stored,
        flags=re.DOTALL,
    )


@pytest.mark.parametrize(("kind", "even"), [(0, True), (1, True), (2, True), (2, False)])
@pytest.mark.parametrize(("depth", "mapped"), [(1, False), (8, False), (8, True), (24, False)])
@pytest.mark.parametrize("width", [8, 9, 11, 16])
def test_sun_raster(kind: int, even: bool, depth: int, mapped: bool, width: int) -> None:
    """A row has an even number of bytes; runs go over the byte that is added, where a program has not left it out."""
    pixels = np.repeat(noise(5, (width + 1) // 2, {1: 1, 8: 1, 24: 3}[depth]), 2, axis=1)[:, :width]
    pixels[0, 0] = 128  # which begins a run
    table = noise(256, 1, 3)[:, 0]
    if depth == 1:
        rows, seen = np.packbits(pixels[..., 0] < 128, axis=1), np.where(pixels < 128, 0, 255)
    else:
        rows, seen = pixels[..., ::-1].reshape(5, -1), table[pixels[..., 0]] if mapped else pixels
    if even and rows.shape[1] % 2:
        rows = np.pad(rows, ((0, 0), (0, 1)))
    stored = packed_sun(rows.tobytes()) if kind == 2 else rows.tobytes()
    colours = table.T.tobytes() if mapped else b""
    head = struct.pack(">8I", 0x59A66A95, width, 5, depth, len(stored), kind, mapped, len(colours))
    found = read(head + colours + stored).pixels
    np.testing.assert_array_equal(found, seen)
    if kind == 2:
        with pytest.raises(UserError, match="missing"):
            read(head + colours + stored[:-4])


@pytest.mark.parametrize("kind", [0, 1, 2, 3])
@pytest.mark.parametrize("first", ["nothing", "something"])
def test_sun_raster_of_32_bits(kind: int, first: str) -> None:
    """The first byte of a pixel is nothing; types 0 and 1 are as they are, 2 packed, 3 in the order of RGB."""
    pixels = np.repeat(noise(5, 4, 3), 2, axis=1)
    pixels[0, 0] = 128  # which begins a run
    padding = noise(5, 8, 1) if first == "something" else np.full((5, 8, 1), 7, np.uint8)
    stored = np.concatenate([padding, pixels if kind == 3 else pixels[..., ::-1]], axis=2).tobytes()
    if kind == 2:
        stored = packed_sun(stored)
    data = struct.pack(">8I", 0x59A66A95, 8, 5, 32, len(stored), kind, 0, 0) + stored
    found = read(data)
    np.testing.assert_array_equal(found.pixels, pixels)
    assert any("fourth byte" in note for note in found.notes) == (first == "something")


@pytest.mark.parametrize("transparent", [False, True])
def test_frame_of_gif_that_does_not_fill_its_screen(transparent: bool) -> None:
    """What it leaves free is transparent, as browsers show it."""
    image = Image.fromarray(noise(6, 8, 3)).quantize(9)
    options: dict[str, Any] = {"transparency": 3} if transparent else {}
    data = bytearray(saved(image, "GIF", comment=b"said", **options))
    alone = read(bytes(data)).pixels
    struct.pack_into("<HH", data, 6, 20, 15)
    frame = data.index(b"," + bytes(4) + struct.pack("<HH", 8, 6))
    struct.pack_into("<HH", data, frame + 1, 4, 3)
    found = read(bytes(data)).pixels
    assert found.shape == (15, 20, 4)
    np.testing.assert_array_equal(found[3:9, 4:12, : alone.shape[2]], alone)
    found[3:9, 4:12, 3] = 0
    assert not found[..., 3].any()
