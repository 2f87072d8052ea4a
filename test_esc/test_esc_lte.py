"""Arbitrary scale: the function of the Local Texture Estimator, sizes, chunks, names of parameters."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import TINY, randomise, relative_difference

import esc_arch
from esc_arch.archs import ESC, ESCLTE, esc_lte_arch
from esc_arch.upscale.array import upscale_image

SMALL: dict[str, Any] = {**TINY, "hidden_dim": 12, "hidden_list": (10, 8)}


def network(**arguments: Any) -> ESCLTE:
    net = ESCLTE(**{**SMALL, **arguments}).eval()
    randomise(net)
    return net


def centre_of(index: int, count: int) -> np.float32:
    """The centre of a pixel, -1 + (2 * index + 1) / count, rounded as the published code does."""
    return np.float32(1 / count - 1) + np.float32(2 / count) * np.float32(index)


def slow_query(net: ESCLTE, x: torch.Tensor, coord: torch.Tensor, cell: torch.Tensor) -> torch.Tensor:
    """Compute the published function for each query apart, with the coefficient maps as the only shared part."""
    state = {name: tensor.double().numpy() for name, tensor in net.state_dict().items() if "encoder" not in name}
    layers = [int(name.split(".")[2]) for name in state if name.startswith("imnet") and name.endswith("weight")]
    with torch.no_grad():
        features = net.encoder(x)
        coefficients, frequencies = (m(features).double().numpy() for m in (net.coef, net.freq))
    height, width = x.shape[2:]
    sides, out = np.array([height, width]), np.zeros((*coord.shape[:2], 3))
    for b, q in np.ndindex(*coord.shape[:2]):
        place, step = coord[b, q].double().numpy(), cell[b, q].double().numpy()
        colours, areas = [], []
        for corner in [(-1, -1), (-1, 1), (1, -1), (1, 1)]:
            moved = np.clip(place + np.array(corner) / sides + 1e-6, -1 + 1e-6, 1 - 1e-6)
            i, j = (int(np.floor((m + 1) / 2 * n)) for m, n in zip(moved, sides, strict=True))
            centre = np.array([centre_of(i, height), centre_of(j, width)], dtype=np.float64)
            rel = (place - centre) * sides
            frequency = frequencies[b, :, i, j].reshape(-1, 2)
            angle = math.pi * (frequency @ rel + state["phase.weight"] @ (step * sides))
            value = coefficients[b, :, i, j] * np.concatenate([np.cos(angle), np.sin(angle)])
            for layer in layers:
                value = state[f"imnet.layers.{layer}.weight"] @ value + state[f"imnet.layers.{layer}.bias"]
                value = np.maximum(value, 0) if layer != layers[-1] else value
            colours.append(value)
            areas.append(abs(rel[0] * rel[1]) + 1e-9)
        for colour, opposite in zip(colours, [3, 2, 1, 0], strict=True):
            out[b, q] += colour * areas[opposite] / sum(areas)
        grid = torch.tensor([[[place[1], place[0]]]], dtype=torch.float64).unsqueeze(0)
        base = F.grid_sample(x[b : b + 1].double(), grid[0].unsqueeze(0), padding_mode="border", align_corners=False)
        out[b, q] += base.reshape(3).numpy()
    return torch.from_numpy(out)


def pixel_grid(batch: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Coordinates and cells of all pixels of an image, row by row."""
    places = [[centre_of(i, height), centre_of(j, width)] for i in range(height) for j in range(width)]
    coord = torch.tensor(np.array(places)).expand(batch, -1, -1)
    return coord, torch.tensor([2 / height, 2 / width]).expand_as(coord)


@pytest.mark.parametrize("size", [(5, 7), (8, 16), (1, 3), (1, 1)])
def test_random_queries(size: tuple[int, int]) -> None:
    net, x = network(), 2 * torch.rand(2, 3, *size) - 1
    coord, cell = 2 * torch.rand(2, 40, 2) - 1, torch.rand(2, 40, 2)
    out = net.query(x, coord, cell)
    assert out.shape == (2, 40, 3)
    assert relative_difference(out.double(), slow_query(net, x, coord, cell)) <= 1e-5


@pytest.mark.parametrize(("height", "width"), [(6, 7), (12, 14), (13, 22), (24, 7), (18, 21), (24, 28)])
def test_every_pixel_of_an_enlarged_image(height: int, width: int) -> None:
    """At odd scales queries fall on centres of pixels, and shifted ones between pixels."""
    net, image = network(), torch.rand(2, 3, 6, 7)
    x = 2 * image - 1
    coord, cell = pixel_grid(2, height, width)
    expected = slow_query(net, x, coord, cell)
    assert relative_difference(net.query(x, coord, cell).double(), expected) <= 1e-5
    enlarged = (expected.transpose(1, 2).reshape(2, 3, height, width) + 1) / 2
    assert relative_difference(net(image, size=(height, width)).double(), enlarged) <= 1e-5
    assert (
        relative_difference(net(image, coord=coord, cell=cell).flatten(), (expected + 1).flatten().float() / 2) < 1e-5
    )


@pytest.mark.parametrize("at_once", [1, 7, 64, 10**6])
def test_parts_do_not_change_the_result(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = network(), torch.rand(2, 3, 5, 6)
    expected = net(x, size=(11, 13))
    most: list[int] = []
    decode = net.decode
    monkeypatch.setattr(net, "decode", lambda *args: (most.append(args[2][..., 0].numel()), decode(*args))[1])
    monkeypatch.setattr(esc_lte_arch, "QUERIES_AT_ONCE", at_once)
    assert relative_difference(net(x, size=(11, 13)), expected) <= 1e-6
    assert max(most) <= max(at_once, 2)
    assert sum(most) == 2 * 11 * 13


def test_images_of_a_batch_are_independent() -> None:
    net, x = network(), torch.rand(3, 3, 9, 5)
    together = net(x, size=(20, 17))
    alone = torch.cat([net(image, size=(20, 17)) for image in x.split(1)])
    assert relative_difference(together, alone) <= 1e-5
    assert relative_difference(net.train()(x, size=(20, 17)), together) <= 1e-6


@pytest.mark.parametrize(("factor", "size"), [(4, (28, 36)), (2.7, (19, 24)), (1, (7, 9)), (1.0, (7, 9))])
def test_scale_without_a_size(factor: float, size: tuple[int, int]) -> None:
    net, x = network(upscaling_factor=factor), torch.rand(1, 3, 7, 9)
    assert net(x).shape[2:] == size
    assert torch.equal(net(x), net(x, size=size))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    """With small frequencies; the error of a large one is an error of the phase of its wave."""
    net, x = network(), torch.rand(2, 3, 12, 17)
    net.freq.weight.data *= 0.01
    expected = net(x, size=(25, 40))
    with torch.autocast("cpu", dtype):
        assert relative_difference(net(x, size=(25, 40)).float(), expected) < 0.05
    half = net.to(dtype)(x.to(dtype), size=(25, 40))
    assert half.dtype == dtype
    assert relative_difference(half.float(), expected) < 0.05


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_finds_the_right_pixels(dtype: torch.dtype) -> None:
    """In half precision the coordinates of neighbours are the same number in an image this wide."""
    net = network()
    for parameter in net.imnet.layers[-1].parameters():
        parameter.data.zero_()  # leaves the bilinear part
    x = torch.zeros(1, 3, 1, 3000)
    x[..., 1::2] = 1
    expected = net(x, size=(1, 6000))
    out = net.to(dtype)(x.to(dtype), size=(1, 6000))
    assert out.dtype == dtype
    assert relative_difference(out.float(), expected) < 0.02


def test_double_precision() -> None:
    net, x = network(), torch.rand(1, 3, 5, 6)
    single = net(x, size=(9, 9))
    double = net.double()(x.double(), size=(9, 9))
    assert double.dtype == torch.float64
    assert relative_difference(single.double(), double) <= 1e-5


def test_export_at_a_size_and_of_queries() -> None:
    net, x = network(), torch.rand(1, 3, 12, 17)
    program = torch.export.export(net, (x,), {"size": (31, 40)})
    assert relative_difference(program.module()(x, size=(31, 40)), net(x, size=(31, 40))) <= 1e-5
    coord, cell = pixel_grid(1, 9, 9)
    program = torch.export.export(net, (x,), {"coord": coord, "cell": cell})
    assert relative_difference(program.module()(x, coord=coord, cell=cell), net(x, coord=coord, cell=cell)) <= 1e-5


def test_names_and_shapes_of_parameters() -> None:
    """As in the published checkpoints: the encoder is the ESC without its upsampler."""
    net = ESCLTE()
    shapes = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    encoder = {name.removeprefix("encoder."): shape for name, shape in shapes.items() if name.startswith("encoder.")}
    esc = {name: tuple(t.shape) for name, t in ESC().state_dict().items() if not name.startswith("to_img")}
    assert encoder == esc
    assert {name: shape for name, shape in shapes.items() if not name.startswith("encoder.")} == {
        "coef.weight": (256, 64, 3, 3),
        "coef.bias": (256,),
        "freq.weight": (256, 64, 3, 3),
        "freq.bias": (256,),
        "phase.weight": (128, 2),
        "imnet.layers.0.weight": (256, 256),
        "imnet.layers.0.bias": (256,),
        "imnet.layers.2.weight": (256, 256),
        "imnet.layers.2.bias": (256,),
        "imnet.layers.4.weight": (256, 256),
        "imnet.layers.4.bias": (256,),
        "imnet.layers.6.weight": (3, 256),
        "imnet.layers.6.bias": (3,),
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden_dim": 7}, "hidden_dim must be positive and even, got 7"),
        ({"hidden_list": [8, 0]}, r"hidden_list must hold positive numbers, got \[8, 0\]"),
        ({"upscaling_factor": 0.5}, "upscaling_factor must be at least 1, got 0.5"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ESCLTE(**{**SMALL, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": (4, 20)}, "size must not be smaller than the image, got 4 x 20 for 5 x 6"),
        ({"coord": torch.zeros(1, 4, 2)}, "coord and cell must be given together"),
        ({"coord": torch.zeros(1, 4, 3), "cell": torch.zeros(1, 4, 2)}, r"coord must have shape \(B, Q, 2\)"),
        ({"coord": torch.zeros(2, 4, 2), "cell": torch.zeros(2, 4, 2)}, r"with B = 1, got \(2, 4, 2\)"),
        ({"coord": torch.zeros(1, 4, 2), "cell": torch.zeros(1, 3, 2)}, "cell must have the shape of coord"),
        ({"coord": torch.zeros(1, 4, 2), "cell": torch.zeros(1, 4, 2), "size": (9, 9)}, "size cannot be given"),
    ],
)
def test_wrong_queries_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        network()(torch.rand(1, 3, 5, 6), **arguments)


@pytest.mark.parametrize("size", [(30, 60), (18, 33), (24, 24), (48, 90)])
@torch.no_grad()
def test_beyond_the_largest_trained_scale_cells_stay_as_they_are(size: tuple[int, int]) -> None:
    """The authors' test multiplies the cell by max(s / 4, 1), s being the scale; here that of each axis."""
    net, x = randomise(ESCLTE(**TINY)).eval(), torch.rand(1, 3, 6, 12)
    coord, cell = pixel_grid(1, *size)
    factors = torch.tensor([max(size[0] / 6 / 4, 1), max(size[1] / 12 / 4, 1)])
    expected = net(x, coord=coord, cell=cell * factors).transpose(1, 2).reshape(1, 3, *size)
    assert relative_difference(net(x, size=size), expected) <= 1e-5
    if size[1] > 48:
        unchanged = net(x, coord=coord, cell=cell).transpose(1, 2).reshape(1, 3, *size)
        assert relative_difference(unchanged, expected) > 1e-3


@pytest.mark.parametrize(("scale", "factor"), [(6, 1.5), (8, 2.0), (5, 1.25), (4, 1.0), (3, 1.0)])
def test_published_function_beyond_the_largest_trained_scale(scale: int, factor: float) -> None:
    """Each pixel by itself, in double precision, its cell being the published one times max(s / 4, 1)."""
    net, image = network(), torch.rand(1, 3, 4, 5)
    height, width = 4 * scale, 5 * scale
    coord, cell = pixel_grid(1, height, width)
    expected = slow_query(net, 2 * image - 1, coord, cell * factor).transpose(1, 2).reshape(1, 3, height, width)
    assert relative_difference(net(image, size=(height, width)).double(), (expected + 1) / 2) <= 1e-5
    if factor > 1:
        other = slow_query(net, 2 * image - 1, coord, cell).transpose(1, 2).reshape(1, 3, height, width)
        assert relative_difference(other, expected) > 1e-3


@pytest.mark.parametrize("scale", [2, 6, 8])
def test_the_authors_file_enlarges_by_the_published_function(tmp_path: Path, scale: int) -> None:
    net = network()
    file = tmp_path / "epoch-best.pth"
    spec = {"name": "lte", "args": {"encoder_spec": {"name": "esc", "args": {"no_upsampling": True}}, "hidden_dim": 12}}
    optimizer = {"name": "adam", "args": {"lr": 2e-4}, "sd": torch.optim.Adam(net.parameters()).state_dict()}
    torch.save({"model": {**spec, "sd": net.state_dict()}, "optimizer": optimizer, "epoch": 1000}, file)
    pixels = np.random.default_rng(scale).random((5, 4, 3), "float32")
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    coord, cell = pixel_grid(1, 5 * scale, 4 * scale)
    colours = (slow_query(net, 2 * x - 1, coord, cell * max(scale / 4, 1)) + 1) / 2
    expected = colours.reshape(5 * scale, 4 * scale, 3).clamp(0, 1).numpy()
    for weights in (file, esc_arch.load(file)):
        np.testing.assert_allclose(upscale_image(pixels, weights, scale=scale), expected, atol=1e-4)


def test_pictures_are_enlarged_by_the_same_function_beyond_it() -> None:
    net, pixels = randomise(ESCLTE(**TINY)).eval(), torch.rand(7, 9, 3)
    image = pixels.permute(2, 0, 1)[None]
    for scale in (2, 6, 8):  # with odd ones, rounding decides between pixels
        expected = net(image, size=(7 * scale, 9 * scale))[0].permute(1, 2, 0).clamp(0, 1)
        found = upscale_image(pixels.numpy(), net, scale=scale)
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=0, atol=1e-3)
