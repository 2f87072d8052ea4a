"""Frames as RGB and back, against the formulas of ITU-T H.273."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from esc_arch.common.errors import UserError

av = pytest.importorskip("av")

from esc_arch.upscale.video.colours import (  # noqa: E402
    FULL,
    LAYOUTS,
    LIMITED,
    RGB,
    Colours,
    depth_of,
    layout_of,
    step_of,
    to_frame,
    to_pixels,
)

SIDES = 16, 24
KR_KB = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
RNG = np.random.default_rng(0)


def filled(layout: str, values: list[Any], sides: tuple[int, int] = SIDES) -> Any:
    frame = av.VideoFrame(sides[1], sides[0], layout)
    deep = depth_of(frame.format) > 8
    for plane, value in zip(frame.planes, values, strict=True):
        rows = np.zeros((plane.height, plane.line_size // (2 if deep else 1)), "<u2" if deep else np.uint8)
        rows[:, : plane.width] = value
        plane.update(rows.tobytes())
    return frame


def numbers(frame: Any) -> list[Any]:
    kind = "<u2" if depth_of(frame.format) > 8 else np.uint8
    return [
        np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : plane.width].astype(int) for plane in frame.planes
    ]


def reference(y: Any, u: Any, v: Any, matrix: int, full: bool, depth: int) -> Any:
    """Equations 20 to 31 and 38 to 40, solved for R, G and B."""
    kr, kb = KR_KB[matrix]
    unit = 2 ** (depth - 8)
    if full:
        y, u, v = y / (2**depth - 1), (u - 2 ** (depth - 1)) / (2**depth - 1), (v - 2 ** (depth - 1)) / (2**depth - 1)
    else:
        y, u, v = (y / unit - 16) / 219, (u / unit - 128) / 224, (v / unit - 128) / 224
    red, blue = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    return np.clip(np.stack([red, (y - kr * red - kb * blue) / (1 - kr - kb), blue], -1), 0, 1)


@pytest.mark.parametrize("layout", ["yuv444p", "yuv444p10le", "yuv444p12le"])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", KR_KB)
def test_rgb_is_that_of_the_stated_matrix_and_range(layout: str, full: bool, matrix: int) -> None:
    depth = depth_of(av.VideoFormat(layout))
    planes = [RNG.integers(0, 2**depth, SIDES) for _ in range(3)]
    pixels = to_pixels(filled(layout, planes), Colours(matrix, full))
    assert np.abs(pixels - reference(*planes, matrix, full, depth)).max() < 1e-5
    assert np.abs(pixels - reference(*planes, 1 if matrix == 9 else 9, full, depth)).max() > 0.01


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("full", [False, True])
def test_there_and_back(layout: str, full: bool) -> None:
    """Colours that RGB holds come back to the number, whatever shares them."""
    if layout not in {name for name in LAYOUTS if _is_there(name)}:
        pytest.skip("not in this build")
    unit = 2.0 ** (depth_of(av.VideoFormat(layout)) - 8)
    values = [int(value * unit) for value in ((110, 140, 120) if layout.startswith("yuv") else (90, 150, 200))]
    colours = Colours(RGB if layout.startswith("gbrp") else 1, full)
    frame = filled(layout, values[: 1 if layout.startswith("gray") else 3])
    result = to_frame(to_pixels(frame, colours), layout, colours)
    for before, after in zip(numbers(frame), numbers(result), strict=True):
        assert np.array_equal(before, after)
    assert int(result.color_range) == (FULL if full else LIMITED)


def _is_there(name: str) -> bool:
    try:
        av.VideoFormat(name)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(("centred", "offset"), [(False, 0.0), (True, 0.5)])
def test_chroma_lies_on_the_left_or_between(centred: bool, offset: float) -> None:
    """A ramp stays a ramp, and does not move."""
    ramp = np.arange(12) * 4 + 100
    frame = filled("yuv420p", [128, np.tile(ramp, (8, 1)), 128])
    colours = Colours(1, True, centred)
    pixels = to_pixels(frame, colours)
    blueness = (pixels[..., 2] - 128 / 255) / (2 * (1 - 0.0722)) * 255 + 128
    expected = 100 + 2 * (np.arange(24) - offset)
    np.testing.assert_allclose(blueness[4, 2:-2], expected[2:-2], atol=0.02)
    assert np.array_equal(numbers(to_frame(pixels, "yuv420p", colours))[1][:, 1:-1], np.tile(ramp, (8, 1))[:, 1:-1])


def test_what_is_stated_is_read() -> None:
    frame = filled("yuv420p", [1, 1, 1])
    frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc = 9, LIMITED, 9, 16
    assert Colours.of(frame, "hevc") == Colours(9, False, False, 9, 16)
    frame.colorspace = 2
    assert Colours.of(frame, "hevc").matrix == 6
    assert Colours.of(filled("yuv420p", [1, 1, 1], (720, 1280)), "h264").matrix == 1
    assert Colours.of(filled("yuvj420p", [1, 1, 1]), "mjpeg") == Colours(6, True, True)
    assert Colours.of(av.VideoFrame(8, 8, "rgb24"), "png").matrix == RGB
    frame.colorspace = 14  # ICtCp
    with pytest.raises(UserError, match="matrix 14"):
        Colours.of(frame, "hevc")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nv12", "yuv420p"),
        ("p010le", "yuv420p10le"),
        ("yuyv422", "yuv422p"),
        ("yuvj422p", "yuv422p"),
        ("rgb24", "gbrp"),
        ("bgra", "gbrp"),
        ("pal8", "gbrp"),
        ("rgb48le", "gbrp16le"),
        ("yuva444p10le", "yuv444p10le"),
        ("gray10le", "gray10le"),
    ],
)
def test_formats_are_read_in_the_nearest_layout(name: str, expected: str) -> None:
    assert layout_of(name) == expected
    frame = av.VideoFrame(24, 16, name)
    assert to_pixels(frame, Colours.of(frame, "")).shape == (16, 24, 1 if expected.startswith("gray") else 3)


def test_numbers_of_other_orders_are_the_same() -> None:
    planes = [RNG.integers(0, 256, SIDES), RNG.integers(0, 256, (8, 12)), RNG.integers(0, 256, (8, 12))]
    frame = filled("yuv420p", planes)
    colours = Colours(1, False)
    np.testing.assert_array_equal(to_pixels(frame.reformat(format="nv12"), colours), to_pixels(frame, colours))


def test_sharing_of_chroma() -> None:
    assert [step_of(av.VideoFormat(name)) for name in ("yuv444p", "yuv422p", "yuv420p", "yuv410p", "gray")] == [
        (1, 1),
        (1, 2),
        (2, 2),
        (4, 4),
        (1, 1),
    ]
