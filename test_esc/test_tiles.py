"""Tiling as a pure function of tensors."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from conftest import TINY, randomise
from hypothesis import given, settings
from hypothesis import strategies as st

from esc_arch.archs import ESC
from esc_arch.upscale.tiles import Place, count_tiles, enlarge_in_tiles, spans


def join(rows: object) -> torch.Tensor:
    return torch.cat(list(rows), dim=2)  # type: ignore[call-overload]


@given(length=st.integers(1, 300), tile=st.integers(2, 80), part=st.floats(0, 0.5))
def test_tiles_cover_a_side_and_no_pixel_is_in_three(length: int, tile: int, part: float) -> None:
    overlap = int(tile * part)
    found = spans(length, tile, overlap)
    assert found[0][0] == 0
    assert found[-1][1] == length
    assert all(0 < last - first <= tile for first, last in found)
    for (_, last), (first, _) in itertools.pairwise(found):
        assert last - first == overlap
    for (_, last), (first, _) in zip(found, found[2:], strict=False):
        assert first >= last
    assert all(first % (tile - overlap) == 0 for first, _ in found)


@settings(deadline=None, max_examples=50)
@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    scale=st.integers(1, 4),
    tile=st.integers(8, 40),
    overlap=st.integers(0, 4),
)
def test_what_sees_single_pixels_gives_the_same_in_tiles(
    height: int, width: int, scale: int, tile: int, overlap: int
) -> None:
    image = torch.rand(1, 2, height, width)

    def enlarge(x: torch.Tensor, place: Place | None = None) -> torch.Tensor:
        return F.interpolate(x, scale_factor=scale, mode="nearest")

    enlarged = scale * height, scale * width
    torch.testing.assert_close(join(enlarge_in_tiles(image, enlarge, enlarged, tile, overlap)), enlarge(image))


@settings(deadline=None, max_examples=50)
@given(
    sides=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    scales=st.tuples(st.floats(1, 4), st.floats(1, 4)),
    tile=st.integers(8, 40),
    overlap=st.integers(0, 4),
)
def test_places_of_parts_are_those_of_the_whole(
    sides: tuple[int, int], scales: tuple[float, float], tile: int, overlap: int
) -> None:
    """An image of coordinates, read at the centres of the pixels of the result, gives these centres."""
    enlarged = round(sides[0] * scales[0]), round(sides[1] * scales[1])
    rows, columns = (torch.arange(side, dtype=torch.float64) for side in sides)
    image = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))[None]

    def enlarge(part: torch.Tensor, place: Place) -> torch.Tensor:
        assert place.steps == (sides[0] / enlarged[0], sides[1] / enlarged[1])
        first = part[0, :, 0, 0]
        return torch.stack(torch.meshgrid(first[0] + place.rows, first[1] + place.columns, indexing="ij"))[None]

    whole = Place.of_whole(sides, enlarged)
    assert (len(whole.rows), len(whole.columns)) == enlarged
    expected = torch.stack(torch.meshgrid(whole.rows, whole.columns, indexing="ij"))[None]
    tiled = join(enlarge_in_tiles(image, enlarge, enlarged, tile, overlap))
    torch.testing.assert_close(tiled, expected, rtol=1e-6, atol=1e-6)


def test_a_network_that_sees_little_gives_the_same_in_tiles() -> None:
    """Up to a quarter of the overlap, what a tile lacks of its surroundings is not seen."""
    kernel = torch.rand(3, 3, 9, 9) / 243
    image = torch.rand(1, 3, 70, 53)

    def enlarge(x: torch.Tensor, place: Place | None = None) -> torch.Tensor:
        return F.conv2d(x, kernel, padding=4)

    tiled = join(enlarge_in_tiles(image, enlarge, (70, 53), 32, 16))
    torch.testing.assert_close(tiled, enlarge(image))
    cut = join(enlarge_in_tiles(image, enlarge, (70, 53), 32, 0))
    assert (cut - enlarge(image)).abs().max() > 0.01


def test_windows_of_tiles_are_those_of_the_image() -> None:
    """Without the dynamic kernel, whose statistics are those of a tile, ESC away from the seams is exact."""
    net = randomise(ESC(**TINY)).eval()
    for block in net.blocks:
        for convolution in block.pconvs:
            torch.nn.init.zeros_(convolution.plk.dwc_proj[-1].weight)
    image = torch.rand(1, 3, 128, 40)
    with torch.no_grad():
        whole = net(image)
        tiled = join(enlarge_in_tiles(image, lambda part, place: net(part), (256, 80), 80, 16))
    difference = (tiled - whole).abs().amax(dim=(0, 1, 3)) / whole.abs().max()
    assert difference[: 2 * 24].max() < 1e-5, "far above the seam at row 64 to 80"
    assert difference[2 * 120 :].max() < 1e-5, "far below it"


def test_seams_are_gradual() -> None:
    """Tiles that differ by a constant are joined by a ramp, not by a step."""
    offsets = iter([0.0, 1.0])
    image = torch.zeros(1, 1, 8, 48)
    result = join(enlarge_in_tiles(image, lambda x, place: x + next(offsets), (8, 48), 32, 16))[0, 0, 0]
    assert result[:20].max() == 0
    assert result[28:].min() == 1
    assert (result[1:] - result[:-1]).max() < 0.13
    assert (result[1:] >= result[:-1]).all()


def test_rows_are_handed_over_early() -> None:
    calls: list[tuple[int, int]] = []

    def enlarge(x: torch.Tensor, place: Place) -> torch.Tensor:
        calls.append((x.shape[2], x.shape[3]))
        return x

    rows = enlarge_in_tiles(torch.zeros(1, 3, 100, 30), enlarge, (100, 30), 20, 4)
    assert next(rows).shape == (1, 3, 16, 30)
    assert len(calls) == 2
    list(rows)
    assert len(calls) == count_tiles(100, 30, 20, 4)


@pytest.mark.parametrize("overlap", [-1, 11])
def test_impossible_overlap(overlap: int) -> None:
    with pytest.raises(ValueError, match="overlap"):
        spans(100, 20, overlap)
