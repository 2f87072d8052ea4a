"""BMP and the icons of Windows, which hold some, are read as they were meant."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from test_endings import noise, read

from esc_arch.common.errors import UserError


@pytest.mark.parametrize("fields", [(10, 10, 10, 2), (10, 10, 10, 0), (8, 8, 8, 8), (11, 11, 10, 0), (4, 4, 4, 4)])
@pytest.mark.parametrize("order", ["RGBA", "BGRA", "GRBA"])
@pytest.mark.parametrize("upwards", [True, False])
def test_fields_of_bmp(fields: tuple[int, ...], order: str, upwards: bool) -> None:
    """Fields of any width in any order: each is stretched to 8 bits, and a loss is told."""
    bits = 16 if sum(fields) == 16 else 32
    values = np.stack([np.random.default_rng(n).integers(0, 2**wide, (5, 7)) for n, wide in enumerate(fields)], axis=2)
    masks, packed, shift = [0, 0, 0, 0], np.zeros((5, 7), np.int64), 0
    for name in order:
        index = "RGBA".index(name)
        masks[index] = (2 ** fields[index] - 1) << shift
        packed |= values[..., index] << shift
        shift += fields[index]
    rows = packed[::-1] if upwards else packed
    stored = b"".join((line := row.astype(f"<u{bits // 8}").tobytes()) + bytes(-len(line) % 4) for row in rows)
    head = struct.pack("<IiiHHIIiiII", 108, 7, 5 if upwards else -5, 1, bits, 3, len(stored), 3780, 1890, 0, 0)
    head += struct.pack("<4I", *masks).ljust(68, b"\0")
    data = b"BM" + struct.pack("<IHHI", 14 + len(head) + len(stored), 0, 0, 14 + len(head)) + head + stored
    found = read(data)
    kept = 4 if fields[3] else 3
    assert found.pixels.shape == (5, 7, kept)
    most = np.array([2**wide - 1 for wide in fields[:kept]])
    assert np.abs(found.pixels / 255 - values[..., :kept] / most).max() <= 0.5 / 255 + 1e-9
    assert bool(found.notes) == (max(fields) > 8)
    assert found.resolution is not None
    assert found.resolution.x == pytest.approx(2 * found.resolution.y)
    with pytest.raises(UserError, match="a part of the picture is missing"):
        read(data[:-4])


def indexed_bmp(places: Any, colours: Any, bits: int, used: int, size: int = 40, packed: bool = False) -> bytes:
    """A BMP of places in a list of colours, which says how many of them it uses."""
    height, width = places.shape
    digits = np.unpackbits(places.astype(np.uint8)[..., None], axis=2)[..., 8 - bits :].reshape(height, -1)
    rows = np.packbits(digits, axis=1)
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4)))[::-1]
    stored = rows.tobytes()
    if packed:  # runs of one pixel, ends of lines and of the picture
        stored = b"".join(b"".join(bytes((1, place)) for place in row) + b"\0\0" for row in places[::-1].tolist())
        stored += b"\0\1"
    table = np.concatenate([colours[:, ::-1], np.zeros((len(colours), 1))], axis=1).astype(np.uint8).tobytes()
    head = struct.pack("<IiiHHIIiiII", size, width, height, 1, bits, int(packed), len(stored), 0, 0, used, 0)
    head = head[:size].ljust(size, b"\0")
    first = 14 + len(head) + len(table)
    return b"BM" + struct.pack("<IHHI", first + len(stored), 0, 0, first) + head + table + stored


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("colours", ["black and white", "white and black", "black", "two colours", "all"])
@pytest.mark.parametrize("size", [16, 40, 64, 108])
def test_few_colours_of_bmp(bits: int, colours: str, size: int) -> None:
    """Two colours are not one bit: a picture of them may have 2, 4 and 8."""
    table = {
        "black and white": np.array([(0, 0, 0), (255, 255, 255)]),
        "white and black": np.array([(255, 255, 255), (0, 0, 0)]),
        "black": np.zeros((1, 3), int),
        "two colours": np.array([(200, 10, 30), (5, 90, 250)]),
        "all": np.random.default_rng(3).integers(0, 256, (2**bits, 3)),
    }[colours]
    if size == 16 and len(table) < 2**bits:  # such a header does not say how many there are
        table = np.pad(table, ((0, 2**bits - len(table)), (0, 0)))
    places = np.random.default_rng(bits).integers(0, min(len(table), 2**bits), (5, 13))
    found = read(indexed_bmp(places, table, bits, len(table), size)).pixels
    np.testing.assert_array_equal(np.broadcast_to(found, (5, 13, 3)), table[places])


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_bmp_without_the_header_of_its_file(bits: int) -> None:
    """It is read as one with it."""
    table = np.array([(0, 0, 0), (255, 255, 255)])
    places = np.random.default_rng(bits).integers(0, 2, (5, 13))
    found = read(indexed_bmp(places, table, bits, 2)[14:]).pixels
    np.testing.assert_array_equal(np.broadcast_to(found, (5, 13, 3)), table[places])
    pixels = noise(4, 6, 4)
    for order, masks in ((3, (0xFF, 0xFF00, 0xFF0000)), (6, (0xFF, 0xFF00, 0xFF0000, 0xFF000000))):
        head = struct.pack("<IiiHHIIiiII", 40, 6, -4, 1, 32, order, pixels.nbytes, 0, 0, 0, 0)
        found = read(head + struct.pack(f"<{len(masks)}I", *masks) + pixels.tobytes()).pixels
        np.testing.assert_array_equal(found, pixels[..., : len(masks)])


def fields_bmp(places: Any) -> bytes:
    """A BMP of 5, 6 and 5 bits, each of which holds the place of a pixel."""
    height, width = places.shape
    values = (places << 11 | places << 5 | places).astype("<u2")[::-1]
    stored = np.pad(values, ((0, 0), (0, width % 2))).tobytes()
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 16, 3, len(stored), 0, 0, 0, 0)
    head += struct.pack("<3I", 0xF800, 0x7E0, 0x1F)
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(stored), 0, 0, 14 + len(head)) + head + stored


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
@pytest.mark.parametrize("size", [40, 64])
def test_bmp_that_says_less(bits: int, size: int) -> None:
    """Where pixels begin may be left out, and so may what fills up the last row; a pixel may not."""
    places = np.random.default_rng(bits).integers(0, 2, (5, 7))
    table = np.array([(200, 10, 30), (5, 90, 250)])
    data = indexed_bmp(places, table, bits, 2, size) if bits < 16 else fields_bmp(places)
    expected = read(data).pixels
    assert len(np.unique(expected)) > 1
    np.testing.assert_array_equal(read(data[:10] + bytes(4) + data[14:]).pixels, expected)
    fill = -(-7 * bits // 8) % -4
    assert fill < 0 or bits == 4  # of which seven pixels fill four bytes
    np.testing.assert_array_equal(read(data[: len(data) + fill]).pixels, expected)
    with pytest.raises(UserError, match="a part of the picture is missing"):
        read(data[: len(data) + fill - 1])


def test_packed_bmp_of_black_and_white() -> None:
    table = np.array([(0, 0, 0), (255, 255, 255)])
    places = np.random.default_rng(0).integers(0, 2, (5, 13))
    found = read(indexed_bmp(places, table, 8, 2, packed=True)).pixels
    np.testing.assert_array_equal(np.broadcast_to(found, (5, 13, 3)), table[places])


def test_more_colours_than_a_bmp_can_use() -> None:
    table = np.random.default_rng(3).integers(0, 256, (300, 3))
    places = np.random.default_rng(0).integers(0, 256, (5, 13))
    np.testing.assert_array_equal(read(indexed_bmp(places, table, 8, 300)).pixels, table[places])


def test_bmp_of_windows_ce() -> None:
    """Four masks behind the shortest header, of which the last is of alpha; and two bits that are cut off."""
    pixels = noise(4, 6, 4)
    masks = struct.pack("<4I", 0xFF, 0xFF00, 0xFF0000, 0xFF000000)
    head = struct.pack("<IiiHHIIiiII", 40, 6, -4, 1, 32, 6, pixels.nbytes, 0, 0, 0, 0)
    data = b"BM" + struct.pack("<IHHI", 70 + pixels.nbytes, 0, 0, 70) + head + masks + pixels.tobytes()
    np.testing.assert_array_equal(read(data).pixels, pixels)
    cut = indexed_bmp(np.zeros((5, 13), int), np.zeros((4, 3), int), 2, 4)[:-4]
    with pytest.raises(UserError, match="a part of the picture is missing"):
        read(cut)


@pytest.mark.parametrize("bits", [1, 4, 8, 24, 32])
@pytest.mark.parametrize("masked", [True, False])
def test_icon_that_counts_the_rows_of_its_picture_alone(bits: int, masked: bool) -> None:
    """And not those of its mask with them: no half of it is taken for all."""
    if bits <= 8:
        places, table = np.random.default_rng(bits).integers(0, 2, (16, 16)), noise(2**bits, 1, 3)[:, 0]
        expected, content = table[places], indexed_bmp(places, table, bits, len(table))[14:]
    else:
        expected = noise(16, 16, bits // 8)
        stored = expected[::-1, :, [2, 1, 0, 3][: bits // 8]].tobytes()
        content = struct.pack("<IiiHHIIiiII", 40, 16, 16, 1, bits, 0, 0, 0, 0, 0, 0) + stored
    content += bytes(4 * 16 if masked else 0)
    for height in (16, 32) if masked else (16,):
        content = content[:8] + struct.pack("<i", height) + content[12:]
        icon = struct.pack("<3H4B2H2I", 0, 1, 1, 16, 16, 0, 0, 1, bits, len(content), 22) + content
        found = read(icon).pixels
        assert found.shape[:2] == (16, 16)
        np.testing.assert_array_equal(found[..., : expected.shape[2]], expected)


def test_icon_without_alpha() -> None:
    """Its fourth byte is nothing but zero, as programs wrote it before there was alpha."""
    pixels = noise(16, 16, 4)
    pixels[..., 3] = 0
    image = struct.pack("<IiiHHIIiiII", 40, 16, 32, 1, 32, 0, 0, 0, 0, 0, 0)
    image += pixels[::-1][..., [2, 1, 0, 3]].tobytes() + bytes(64)
    head = struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(image), 22)
    np.testing.assert_array_equal(read(head + image).pixels, pixels[..., :3])


def icon(*pictures: tuple[int, bytes]) -> bytes:
    """An icon of pictures, each with the bits that its entry states."""
    entries, content = b"", b""
    for bits, picture in pictures:
        width, height = struct.unpack_from("<ii", picture, 4)
        start = 6 + 16 * len(pictures) + len(content)
        entries += struct.pack("<BBBBHHII", width, height // 2, 0, 0, 1, bits, len(picture), start)
        content += picture
    return struct.pack("<HHH", 0, 1, len(pictures)) + entries + content


def masked(bmp: bytes, hidden: Any) -> bytes:
    """A picture of an icon: a BMP without the header of its file, twice as high, with a mask behind."""
    rows = np.packbits(hidden, axis=1)[::-1]
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4)))
    return bmp[14:22] + struct.pack("<i", 2 * len(hidden)) + bmp[26:] + rows.tobytes()


def deep_bmp(pixels: Any) -> bytes:
    height, width, _ = pixels.shape
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 32, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 54) + head + pixels[::-1][..., [2, 1, 0, 3]].tobytes()


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("colours", [((0, 0, 0), (255, 255, 255)), ((9, 90, 200), (255, 0, 7))])
def test_icon_of_two_colours(bits: int, colours: Any) -> None:
    table = np.array(colours)
    places, hidden = noise(12, 16) % 2, noise(12, 16) > 99
    found = read(icon((bits, masked(indexed_bmp(places, table, bits, 2), hidden)))).pixels
    np.testing.assert_array_equal(found[..., 3], np.where(hidden, 0, 255))
    np.testing.assert_array_equal(found[..., :3][~hidden], table[places][~hidden])


def test_the_best_of_an_icon() -> None:
    """The largest one, and of those as large the one of most bits, whatever the entries say of these."""
    pixels, small, places = noise(12, 16, 4), noise(8, 8, 4), noise(12, 16) % 2
    pixels[..., 3] |= 1
    few = masked(indexed_bmp(places, np.array([(9, 90, 200), (255, 0, 7)]), 4, 2), np.zeros((12, 16), bool))
    deep = masked(deep_bmp(pixels), np.zeros((12, 16), bool))
    less = masked(deep_bmp(small), np.zeros((8, 8), bool))
    for pictures in ([(4, few), (32, deep), (32, less)], [(32, less), (0, deep), (0, few)], [(32, deep), (4, few)]):
        np.testing.assert_array_equal(read(icon(*pictures)).pixels, pixels)
    np.testing.assert_array_equal(read(icon((32, less))).pixels, small)
    with pytest.raises(UserError, match="it holds no picture"):
        read(icon((32, deep))[:30])


def test_mask_of_an_icon_without_alpha() -> None:
    pixels, hidden = noise(12, 16, 4), noise(12, 16) > 99
    pixels[..., 3] = 0
    found = read(icon((32, masked(deep_bmp(pixels), hidden)))).pixels
    np.testing.assert_array_equal(found[..., 3], np.where(hidden, 0, 255))
    np.testing.assert_array_equal(found[..., :3], pixels[..., :3])
