"""What the boxes of an AVIF or HEIC say of how its pixels are to be shown: crops, turns, shapes of pixels, alpha."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from odd_pictures import box, saved, turned
from PIL import Image, features

from esc_arch.pictures.items import main_properties
from esc_arch.pictures.metadata import load_exif
from esc_arch.pictures.picture import Resolution
from esc_arch.pictures.reading import read_picture_in_memory
from esc_arch.pictures.writing import write_picture

LIMIT = 10**6
HEIGHT, WIDTH = 32, 48
# blocks of a size that no subsampling and hardly any loss touches
BLOCKS = np.kron(np.random.default_rng(3).integers(0, 2, (4, 6, 3)) * 200 + 20, np.ones((8, 8, 1))).astype(np.uint8)
FORMATS = {"AVIF": {"quality": 95, "subsampling": "4:4:4"}, "HEIF": {"quality": 95, "chroma": 444}}
Property = tuple[bytes, bytes]


@pytest.fixture(params=FORMATS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    elif not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    return name


def boxes(data: bytes) -> Iterator[Property]:
    position = 0
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], "big") or len(data) - position
        yield data[position + 4 : position + 8], data[position + 8 : position + length]
        position += length


def with_properties(data: bytes, added: Sequence[Property], prem: bool = False, wide: bool = False) -> bytes:
    """Give the main picture of a file more properties, in this order; or say that its alpha is multiplied in.

    Args:
        data: as Pillow writes it.
        added: properties, all of them essential.
        prem: whether to add the reference to alpha that says so.
        wide: whether to use 32 bits for items and 16 for properties, as large files do.
    """
    meta = dict(boxes(data))[b"meta"]
    inner = dict(boxes(meta[4:]))
    main = int.from_bytes(inner[b"pitm"][4:], "big")
    (_, stored), (_, owned) = boxes(inner[b"iprp"])
    count = len(list(boxes(stored)))
    stored += b"".join(box(*one) for one in added)
    table, position = b"", 8
    for _ in range(int.from_bytes(owned[4:8], "big")):
        item, length = struct.unpack_from(">HB", owned, position)
        indices = list(owned[position + 3 : position + 3 + length])
        position += 3 + length
        if item == main:
            indices += [0x80 | (count + 1 + number) for number in range(len(added))]
        if wide:
            indices = [(index & 0x80) << 8 | index & 0x7F for index in indices]
        table += struct.pack(
            f">{'I' if wide else 'H'}B{len(indices)}{'H' if wide else 'B'}", item, len(indices), *indices
        )
    owned = (b"\1\0\0\1" if wide else bytes(4)) + owned[4:8] + table
    inner[b"iprp"] = box(b"ipco", stored) + box(b"ipma", owned)
    if prem:
        (alpha,) = (struct.unpack(">HHH", found) for name, found in boxes(inner[b"iref"][4:]) if name == b"auxl")
        inner[b"iref"] += box(b"prem", struct.pack(">HHH", main, 1, alpha[0]))
    grown = sum(8 + len(content) for content in inner.values()) + 4 - len(meta)
    inner[b"iloc"] = moved(inner[b"iloc"], grown)
    content = meta[:4] + b"".join(box(*one) for one in inner.items())
    return b"".join(box(name, content if name == b"meta" else other) for name, other in boxes(data))


def moved(places: bytes, by: int) -> bytes:
    """The places of the items of a file in which something before them has grown."""
    assert places[4] == 0x44  # bytes of a place and of a length
    done, position = bytearray(places), 8
    for _ in range(int.from_bytes(places[6:8], "big")):
        in_file = places[0] == 0 or not places[position + 3] & 15
        position += 4 + 2 * (places[0] > 0) + (places[5] >> 4)
        for _ in range(int.from_bytes(places[position : position + 2], "big")):
            (place,) = struct.unpack_from(">I", places, position + 2)
            struct.pack_into(">I", done, position + 2, place + by * in_file)
            position += 8
        position += 2
    return bytes(done)


def clap(left: int, top: int, width: int, height: int, sides: tuple[int, int] = (WIDTH, HEIGHT)) -> Property:
    right, down = 2 * left + width - sides[0], 2 * top + height - sides[1]
    return b"clap", struct.pack(">IIIIiIiI", width, 1, height, 1, right, 2, down, 2)


def irot(quarters: int) -> Property:
    return b"irot", bytes([quarters])


def imir(axis: int) -> Property:
    return b"imir", bytes([axis])


def pasp(width: int, height: int) -> Property:
    return b"pasp", struct.pack(">II", width, height)


CROPS: list[tuple[int, int, int, int]] = [(0, 0, 24, 16), (8, 8, 32, 16), (16, 24, 32, 8), (9, 3, 25, 21)]
TURNS: dict[int, list[Property]] = {
    1: [],
    2: [imir(1)],
    3: [irot(2)],
    4: [imir(0)],
    5: [irot(1), imir(0)],
    6: [irot(3)],
    7: [irot(1), imir(1)],
    8: [irot(1)],
}


def stored(kind: str, pixels: Any = BLOCKS, resolution: tuple[int, int] | None = (300, 150)) -> bytes:
    tags = Image.Exif()
    if resolution:
        tags[0x011A], tags[0x011B], tags[0x0128] = *resolution, 2
    return saved(Image.fromarray(pixels), kind, exif=tags.tobytes(), **FORMATS[kind])


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("orientation", TURNS)
def test_crops_and_turns(kind: str, orientation: int, wide: bool) -> None:
    data = stored(kind)
    plain = read_picture_in_memory("a", data, LIMIT).pixels
    assert np.abs(plain.astype(int) - BLOCKS).max() < 30
    for crop in [None, *CROPS]:
        steps = [clap(*crop)] if crop else []
        found = read_picture_in_memory("a", with_properties(data, [*steps, *TURNS[orientation]], wide=wide), LIMIT)
        left, top, width, height = crop or (0, 0, WIDTH, HEIGHT)
        expected = turned(plain[top : top + height, left : left + width], orientation)
        np.testing.assert_array_equal(found.pixels, expected)
        across, down = (150, 300) if orientation >= 5 else (300, 150)
        assert found.resolution == Resolution(across, down)
        tags = load_exif(found.exif)
        assert (tags[0x011A], tags[0x011B]) == (across, down)
        assert not found.notes


def test_steps_count_in_their_order(kind: str) -> None:
    data = stored(kind)
    plain = read_picture_in_memory("a", data, LIMIT).pixels
    found = read_picture_in_memory("a", with_properties(data, [imir(0), irot(1)]), LIMIT)
    np.testing.assert_array_equal(found.pixels, turned(turned(plain, 4), 8))
    found = read_picture_in_memory("a", with_properties(data, [irot(1), clap(8, 0, 16, 24, (HEIGHT, WIDTH))]), LIMIT)
    np.testing.assert_array_equal(found.pixels, turned(plain, 8)[:24, 8:24])


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")  # of HEIC, its library decides
@pytest.mark.parametrize("crop", [(-8, 0, 24, 16), (0, 0, 0, 16), (0, 0, 24, 33), None])
def test_crops_that_are_none(crop: tuple[int, int, int, int] | None) -> None:
    data = with_properties(stored("AVIF"), [clap(*crop) if crop else (b"clap", bytes(32))])
    found = read_picture_in_memory("a", data, LIMIT)
    assert found.pixels.shape == BLOCKS.shape
    assert "clean aperture (clap) does not lie within it" in found.notes[0]


@pytest.mark.parametrize("orientation", [1, 6])
def test_shapes_of_pixels(kind: str, orientation: int, tmp_path: Path) -> None:
    for resolution, shape, expected in (
        (None, pasp(4, 3), Resolution(3, 4, "")),
        ((300, 300), pasp(4, 3), Resolution(300, 400)),
        ((300, 150), pasp(1, 1), Resolution(300, 150)),
        (None, pasp(0, 0), None),
    ):
        data = with_properties(stored(kind, resolution=resolution), [shape, *TURNS[orientation]])
        found = read_picture_in_memory("a", data, LIMIT)
        if expected and orientation == 6:
            expected = Resolution(expected.y, expected.x, expected.unit)
        assert found.resolution == expected
        for suffix in (".png", ".avif", ".webp", ".tif", ".jpg") if features.check("avif") else (".png",):
            write_picture(str(tmp_path / f"a{suffix}"), found)
            again = read_picture_in_memory("a", (tmp_path / f"a{suffix}").read_bytes(), LIMIT).resolution
            ratios = [one.x / one.y if one else None for one in (again, expected)]
            assert ratios[0] == (pytest.approx(ratios[1], rel=1e-3) if expected else None)


def test_alpha_that_is_multiplied_in(kind: str) -> None:
    rgba = np.dstack([BLOCKS // 2, np.full((HEIGHT, WIDTH), 128, np.uint8)])
    straight, divided = (
        read_picture_in_memory("a", with_properties(stored(kind, rgba), [clap(8, 8, 32, 16)], prem), LIMIT).pixels
        for prem in (False, True)
    )
    np.testing.assert_array_equal(straight[..., 3], divided[..., 3])
    assert np.abs(straight[..., :3] * (255 / 128) - divided[..., :3]).max() <= 2


def test_alpha_that_is_multiplied_into_deep_colours() -> None:
    heif = pytest.importorskip("pillow_heif")
    rgba = np.dstack([np.full((HEIGHT, WIDTH, 3), (100, 50, 20)) * 257, np.full((HEIGHT, WIDTH), 32768)])
    image = heif.from_bytes("RGBA;16", (WIDTH, HEIGHT), rgba.astype(np.uint16).tobytes())
    image.save(stream := io.BytesIO(), quality=-1, chroma=444)
    straight, divided = (
        read_picture_in_memory("a", with_properties(stream.getvalue(), [], prem), LIMIT).pixels.astype(int)
        for prem in (False, True)
    )
    assert np.abs(straight[..., :3] - rgba[..., :3]).max() < 700
    assert np.abs(divided[..., :3] - 2 * straight[..., :3]).max() < 200


def test_what_is_said_of_another_picture_in_the_file_does_not_count() -> None:
    """A gain map or a thumbnail may have its own depth, colours, turns; the parts of a grid have them for it."""
    colours = b"nclx" + struct.pack(">HHHB", 9, 16, 9, 128)
    shown = [(b"colr", colours), irot(1)]
    stored = b"".join(box(*one) for one in [*shown, (b"ispe", bytes(12))])
    table = struct.pack(">IHBBB", 2, 2, 2, 1, 0x82) + struct.pack(">HBB", 7, 1, 3)
    for references, below in ((b"", []), (box(b"dimg", struct.pack(">HHHH", 7, 2, 2, 3)), shown)):
        meta = box(b"pitm", bytes(4) + struct.pack(">H", 7)) + box(b"iref", bytes(4) + references)
        meta += box(b"iprp", box(b"ipco", stored) + box(b"ipma", bytes(4) + table))
        data = box(b"ftyp", b"avif") + box(b"meta", bytes(4) + meta)
        assert main_properties(data) == ([(b"ispe", bytes(12))], below)
        for end in range(len(data)):  # what is cut off says nothing, and raises nothing
            main_properties(data[:end])


def test_a_grid_of_tiles() -> None:
    """Cells of 64 x 64 pixels, of which the last ones lie outside in part; a crop counts for the whole."""
    pytest.importorskip("pillow_heif").register_heif_opener()
    large = np.kron(BLOCKS, np.ones((3, 3, 1))).astype(np.uint8)
    data = saved(Image.fromarray(large), "HEIF", tile_size=64, **FORMATS["HEIF"])
    assert main_properties(data)[1]
    plain = read_picture_in_memory("a", data, LIMIT).pixels
    assert np.abs(plain.astype(int) - large).max() < 30
    crop = clap(50, 60, 70, 20, (144, 96))
    found = read_picture_in_memory("a", with_properties(data, [crop, irot(1)]), LIMIT)
    np.testing.assert_array_equal(found.pixels, turned(plain[60:80, 50:120], 8))
