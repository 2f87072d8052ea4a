"""Results of the size that was asked for."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from esc_arch.common.errors import UserError
from esc_arch.upscale import upscale_image, work
from esc_arch.upscale.__main__ import main
from esc_arch.upscale.network import Enlarger, bundled_of_scale
from esc_arch.upscale.reaching import bytes_needed, stages
from esc_arch.upscale.resizing import resize
from esc_arch.upscale.sizes import Size, box
from esc_arch.weights import loading

Pixels = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)


class Repeat(nn.Module):
    """Repeats pixels."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.upscaling_factor = scale
        self.weight = nn.Parameter(torch.ones(1))
        self.calls: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.append(tuple(x.shape))
        return x.repeat_interleave(self.upscaling_factor, -1).repeat_interleave(self.upscaling_factor, -2)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Repeat:
    """What the command takes for its weights."""
    network = Repeat(2)
    load = lambda weights, **options: Enlarger(network, 2)  # noqa: E731
    monkeypatch.setattr("esc_arch.upscale.__main__.load_enlarger", load)
    return network


def smooth(height: int, width: int, channels: int = 3, whole: int = 255) -> Pixels:
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / 9 + phase) * np.cos(columns / 7 - phase) for phase in range(channels)]
    return np.asarray((0.5 + 0.4 * np.stack(waves, -1)) * whole).round().astype("u1" if whole == 255 else "u2")


@pytest.mark.parametrize(
    ("size", "sides", "expected"),
    [
        (box("3840x2160"), (540, 960), (2160, 3840)),
        (box("3840x2160"), (600, 600), (2160, 2160)),
        (box("3840x2160"), (101, 1000), (388, 3840)),  # 387.84
        (box("x2160"), (600, 1000), (2160, 3600)),
        (box("3840X"), (600, 1000), (2304, 3840)),
        (Size(longest=4096), (3000, 2000), (4096, 2731)),  # 2730.67
        (Size(longest=4096), (3, 9000), (1, 4096)),
        (Size(longest=10), (1, 100000), (1, 10)),
        (Size(scale=2.7), (10, 7), (27, 19)),
        (Size(scale=1), (10, 7), (10, 7)),
    ],
)
def test_sides(size: Size, sides: tuple[int, int], expected: tuple[int, int]) -> None:
    assert size.of(*sides) == expected


def test_sides_fit_whatever_they_are() -> None:
    for height, width, rows, columns in RNG.integers(1, 5000, (2000, 4)).tolist():
        found = Size(width=columns, height=rows).of(height, width)
        assert found[0] <= rows
        assert found[1] <= columns
        assert found[0] == rows or found[1] == columns
        factor = min(rows / height, columns / width)
        assert all(
            abs(side - max(factor * was, 1)) <= 0.5 + 1e-9 for side, was in zip(found, (height, width), strict=True)
        )


@pytest.mark.parametrize("text", ["x", "3840", "0x5", "-3x4", "3840x2160x2", "a x b", ""])
def test_no_sizes(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        box(text)


@pytest.mark.parametrize(
    ("scale", "target", "expected"),
    [
        (2, (20, 14), [(20, 14)]),
        (2, (19, 13), [(20, 14)]),
        (2, (21, 14), [(20, 14), (40, 28)]),
        (3, (270, 189), [(30, 21), (90, 63), (270, 189)]),
        (4, (10, 7), []),
        (4, (5, 3), []),
        (1, (5, 3), [(10, 7)]),
        (1, (10, 7), [(10, 7)]),
    ],
)
def test_the_network_goes_as_far_as_needed(scale: int, target: tuple[int, int], expected: list[Any]) -> None:
    assert stages(Enlarger(Repeat(scale), scale), (10, 7), target) == expected


def test_a_network_that_does_not_enlarge_is_told() -> None:
    with pytest.raises(UserError, match="enlarges 1 times"):
        upscale_image(np.zeros((4, 4, 3), np.uint8), Repeat(1), scale=2)


@pytest.mark.parametrize("whole", [255, 65535])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_arrays_of_every_size(channels: int, whole: int) -> None:
    image = smooth(40, 30, channels, whole)
    for options, sides in (
        ({"scale": 2}, (80, 60)),
        ({"scale": 2.7}, (108, 81)),
        ({"scale": 4}, (160, 120)),
        ({"size": (100, 100)}, (100, 75)),
        ({"size": (None, 33)}, (33, 25)),
        ({"longest": 40}, (40, 30)),
        ({"longest": 20}, (20, 15)),
    ):
        network = Repeat(2)
        found = upscale_image(image, network, **options)  # type: ignore[arg-type]
        assert found.shape == (*sides, channels)
        assert found.dtype == image.dtype
        planes = [Image.fromarray(image[..., index].astype(np.float32)) for index in range(channels)]
        expected = np.stack([np.asarray(plane.resize(sides[::-1], Image.Resampling.BICUBIC)) for plane in planes], -1)
        assert np.abs(found - expected).max() < 0.05 * whole
        assert bool(network.calls) == (sides > (40, 30))
    np.testing.assert_array_equal(upscale_image(image, Repeat(2), longest=40), image)
    np.testing.assert_array_equal(upscale_image(image, Repeat(2), scale=4), image.repeat(4, 0).repeat(4, 1))


@pytest.mark.parametrize(
    "options", [{"size": (0, 4)}, {"size": (None, None)}, {"longest": 2.5}, {"scale": 2, "longest": 4}]
)
def test_impossible_sizes_of_arrays(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"whole numbers|one of scale"):
        upscale_image(np.zeros((4, 4), np.uint8), Repeat(2), **options)


def test_resizing_does_not_alias() -> None:
    """Stripes of one pixel become grey, where picking pixels would leave stripes."""
    stripes = np.zeros((64, 64, 1), np.uint8)
    stripes[:, ::2] = 255
    found = resize(stripes, (20, 20))[:, 2:-2]
    assert np.abs(found.astype(int) - 128).max() < 12


def test_colours_under_transparent_pixels_stay_there() -> None:
    image = np.zeros((40, 40, 4), np.uint8)
    image[:, :20] = (250, 10, 20, 255)
    image[:, 20:] = (0, 255, 0, 0)
    found = resize(image, (13, 13)).astype(int)
    visible = found[..., 3] > 2
    assert np.abs(found[visible][:, :3] - (250, 10, 20)).max() <= 2
    assert (found[:, -3:] == (0, 255, 0, 0)).all()


def save(file: Path, pixels: Pixels, **options: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, **options)


def opened(file: Path) -> tuple[int, int]:
    with Image.open(file) as image:
        return image.size


def test_the_command(tmp_path: Path, network: Repeat, capsys: pytest.CaptureFixture[str]) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    save(tmp_path / "in/turned.jpg", smooth(20, 40), exif=turned)  # people see 20 x 40 pixels
    save(tmp_path / "in/wide.png", smooth(10, 40))
    save(tmp_path / "in/large.png", smooth(200, 100))
    main([str(tmp_path / "in"), "-o", str(tmp_path / "box"), "--size", "90x100", "--weights", "w"])
    sizes = {file.name: opened(file) for file in (tmp_path / "box").iterdir()}
    assert sizes == {"turned_90x100.jpg": (50, 100), "wide_90x100.png": (90, 23), "large_90x100.png": (50, 100)}
    assert capsys.readouterr().out.startswith("2 enlarged, 1 only resized (no larger than they were); ")
    for options, name, size in (
        (["--longest", "99"], "wide_99.png", (99, 25)),
        (["--scale", "2.7"], "wide_x2.7.png", (108, 27)),
        (["--scale", "9"], "wide_x9.png", (360, 90)),
        (["--size", "x30"], "wide_x30.png", (120, 30)),
        ([], "wide_x2.png", (80, 20)),
    ):
        main([str(tmp_path / "in/wide.png"), "-o", str(tmp_path / "out"), "--weights", "w", *options])
        assert opened(tmp_path / "out" / name) == size


def test_the_command_and_the_function_agree(tmp_path: Path, network: Repeat) -> None:
    pixels = smooth(23, 17, 4)
    pixels[5:9, 3:8, 3] = 0
    save(tmp_path / "a.png", pixels)
    main([str(tmp_path / "a.png"), "-o", str(tmp_path / "b.png"), "--longest", "61", "--weights", "w"])
    found = np.asarray(Image.open(tmp_path / "b.png"))
    np.testing.assert_array_equal(found, upscale_image(pixels, Repeat(2), longest=61))


def test_only_one_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["a.png", "-o", str(tmp_path), "--size", "9x9", "--scale", "2"])
    assert "not allowed with argument" in capsys.readouterr().err


def test_what_a_format_cannot_hold_is_told_before(
    tmp_path: Path, network: Repeat, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "in/a.webp", smooth(8, 8))
    save(tmp_path / "in/b.jpg", smooth(8, 8))
    for kind, longest in (("webp", 16_384), ("jpg", 65_501)):
        with pytest.raises(SystemExit):
            main([str(tmp_path / "in"), "-o", str(tmp_path / "o"), "--longest", str(longest), "--weights", "w",
                  "--format", kind])  # fmt: skip
        assert capsys.readouterr().err.count(f"cannot be {longest} pixels wide or high; ") == 2
    assert not network.calls


def test_memory_of_what_lies_between(tmp_path: Path, network: Repeat, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network goes to 64 x 64, though the result has 33 x 33 pixels."""
    image = np.zeros((8, 8, 3), np.uint8)
    enlarger = Enlarger(network, 2)
    needed = bytes_needed(enlarger, image, (33, 33), 3)
    assert needed > 64 * 64 * 3 + 4 * 64 * 64
    save(tmp_path / "a.png", image)
    monkeypatch.setattr(work, "free_memory", lambda: needed - 1)
    command = [str(tmp_path / "a.png"), "-o", str(tmp_path / "o"), "--longest", "33", "--weights", "w"]
    with pytest.raises(SystemExit):
        main(command)
    monkeypatch.setattr(work, "free_memory", lambda: needed)
    main(command)


@pytest.mark.parametrize(
    ("scale", "expected"),
    [(1, "N_x2"), (2, "N_x2"), (2.1, "N_x3"), (3.5, "N_x4"), (8, "N_x3"), (9, "N_x3"), (9.5, "N_x4"), (64, "N_x4")],
)
def test_weights_that_reach_a_scale_in_the_fewest_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scale: float, expected: str
) -> None:
    monkeypatch.setattr(loading, "BUNDLED", tmp_path)
    for number in (2, 3, 4):
        (tmp_path / f"N_x{number}.safetensors").write_bytes(b"weights")
        (tmp_path / f"N_x{number}_photo.safetensors").write_bytes(b"weights of a larger network")
    assert bundled_of_scale(scale) == expected


def test_lines_about_pictures(tmp_path: Path, network: Repeat, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        save(tmp_path / f"in/{name}.png", smooth(10, 20))
    main([str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--stats", "--weights", "w"])
    *lines, last = capsys.readouterr().out.splitlines()
    line = r"in/{}.png: 20 x 10 to 40 x 20 in [\d.]+ s, [\d.e-]+ megapixels a second"
    assert all(re.search(line.format(name), text) for name, text in zip("ab", lines, strict=True))
    assert re.fullmatch(rf"2 enlarged; {tmp_path}/out, [\d.]+ s", last)
