"""Every form of the real-world networks that this and other trainers write loads as what it is, or is asked about."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import TINY, randomise, relative_difference

import esc_arch
from esc_arch.archs import ESC, ESCReal, ESCRealM
from esc_arch.common.errors import UserError
from esc_arch.layers import UPSAMPLERS, UpsampleHead
from esc_arch.layers.lda import LocalDeformableUpsampler
from esc_arch.weights import build, identify, read_weights, write_weights
from esc_arch.weights.infer_real import UnsupportedFormError
from esc_arch.weights.shapes import UndecidedError

Weights = dict[str, torch.Tensor]
MARK = "to_img.MetaUpsample"
NARROWING = ("pixelshuffle", "dysample", "lda", "pa_up")  # to mid_dim channels; with as many, some have a layer less
DOUBLING = ("pixelshuffle", "nearest+conv", "pa_up")
FORMS = [
    {"upsampler": upsampler, "upscaling_factor": scale, "unshuffle_mod": unshuffle, "mid_dim": mid_dim}
    for upsampler in UPSAMPLERS
    for scale in ((1,) if upsampler == "conv" else (1, 2, 3, 4, 8) if upsampler in DOUBLING else (1, 2, 3, 4))
    for unshuffle in ((True, False) if scale < 3 and upsampler != "conv" else (False,))
    for mid_dim in ((16, 24) if upsampler in NARROWING and scale == 3 else (24,))
]


def name_of(form: dict[str, Any]) -> str:
    return "{upsampler} x{upscaling_factor} {unshuffle_mod} {mid_dim}".format(**form)


def image() -> torch.Tensor:
    return torch.rand(1, 3, 11, 9)


def network_of(form: dict[str, Any]) -> ESCRealM:
    network = randomise(ESCRealM(**TINY, **form)).eval()
    assert isinstance(network, ESCRealM)
    return network


@pytest.mark.parametrize("form", FORMS, ids=name_of)
@torch.no_grad()
def test_every_form_comes_back_from_a_file(form: dict[str, Any], tmp_path: Path) -> None:
    source, x = network_of(form), image()
    file = tmp_path / ("w.pth" if form["unshuffle_mod"] else "w.safetensors")
    write_weights(str(file), source.state_dict())
    loaded = esc_arch.load(file)
    assert torch.equal(loaded(x), source(x))
    assert torch.equal(read_weights(str(file))[MARK], loaded.state_dict()[MARK])


@pytest.mark.parametrize("form", FORMS, ids=name_of)
@torch.no_grad()
def test_without_the_mark_it_is_the_same_or_asked_about(form: dict[str, Any]) -> None:
    source, x, scale = network_of(form), image(), form["upscaling_factor"]
    weights = {name: tensor for name, tensor in source.state_dict().items() if name != MARK}
    ambiguous = {"nearest+conv": (2, 3), "pa_up": (2, 3), "lda": (2, 3, 4)}.get(form["upsampler"], ())
    if scale in ambiguous and not form["unshuffle_mod"]:
        with pytest.raises(UndecidedError, match=r"upscaling_factor=.*--scale"):
            build(weights)
        assert torch.equal(build(weights, upscaling_factor=scale)(x), source(x))
    else:
        assert torch.equal(build(weights)(x), source(x))
    if form["upsampler"] != "lda" or form["unshuffle_mod"] or scale == 1:  # whose shapes tell nothing of the factor
        with pytest.raises(UserError):
            build(weights, upscaling_factor=5)


@pytest.mark.parametrize("form", FORMS, ids=name_of)
def test_a_given_scale_does_not_go_before_the_mark(form: dict[str, Any]) -> None:
    weights = network_of(form).state_dict()
    for scale in {1, 2, 3, 4} - {form["upscaling_factor"]}:
        with pytest.raises(UserError):
            identify(weights, upscaling_factor=scale)


@pytest.mark.parametrize("upsampler", UPSAMPLERS[1:])
def test_a_mark_that_contradicts_the_weights_is_refused(upsampler: str) -> None:
    with torch.device("meta"):
        weights = dict(ESCRealM(**TINY, upsampler=upsampler, upscaling_factor=3, mid_dim=24).state_dict())
    numbers = UpsampleHead(upsampler, 16, 3, 24).mark.numbers()
    harmless = {(0, 3)}  # the same upsampler, as traiNNer-redux marks it
    if upsampler not in NARROWING:
        harmless |= {(5, 23), (5, 25), (5, 29)}  # channels that play no part
    if upsampler == "lda":
        harmless |= {(2, 2), (2, 4), (2, 8)}  # a factor that nothing contradicts
    if upsampler == "nearest+conv":
        harmless |= {(2, 2)}
    for place in range(7):
        for wrong in {numbers[place] - 1, numbers[place] + 1, numbers[place] + 5, 0} - {-1}:
            weights[MARK] = torch.tensor([*numbers[:place], wrong, *numbers[place + 1 :]], dtype=torch.uint8)
            if (place, wrong) in harmless:
                identify(weights)
            else:
                with pytest.raises(UserError, match=r"to_img\.MetaUpsample"):
                    identify(weights)


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("wrong", [("conv", 1), ("pixelshuffledirect", 2), ("dysample", 4), ("nearest+conv", 8)])
def test_a_contradicting_mark_and_the_shapes_are_told(scale: int, wrong: tuple[str, int]) -> None:
    with torch.device("meta"):
        weights = dict(ESCRealM(**TINY, upsampler="pixelshuffle", upscaling_factor=scale).state_dict())
    weights[MARK] = torch.tensor(UpsampleHead(wrong[0], 16, wrong[1]).mark.numbers())
    told = f"{MARK} says '{wrong[0]}' x{wrong[1]} .* the shapes are those of 'pixelshuffle' x4"
    with pytest.raises(UserError, match=told.replace("+", r"\+")):
        identify(weights)


def test_damage_beside_a_mark_is_told_as_damage() -> None:
    weights = dict(ESCRealM(**TINY).state_dict())
    del weights["last.bias"]
    with pytest.raises(UserError, match=r"last\.bias is missing"):
        identify(weights)


@pytest.mark.parametrize("numbers", [[1, 3, 4, 16, 3, 64, 4], [2, 5, 4, 16, 3, 64, 4], [2, 4], [], [9] * 7])
def test_an_unknown_mark_is_refused_in_a_sentence(numbers: list[int]) -> None:
    weights = dict(ESCRealM(**TINY).state_dict())
    weights[MARK] = torch.tensor(numbers, dtype=torch.uint8)
    with pytest.raises(UserError, match=r"to_img\.MetaUpsample .* is of no known version"):
        identify(weights)


def test_loading_compares_the_mark_and_leaves_the_callers_weights_alone() -> None:
    weights = dict(ESCRealM(**TINY, upscaling_factor=3).state_dict())
    before = dict(weights)
    twice = ESCRealM(**TINY, upscaling_factor=2, unshuffle_mod=False)
    with pytest.raises(RuntimeError, match=r"enlarge by 'nearest\+conv' x3 .*, the network by 'nearest\+conv' x2"):
        twice.load_state_dict(weights)
    assert weights.keys() == before.keys()
    assert all(weights[name] is before[name] for name in before)
    del weights[MARK]
    twice.load_state_dict(weights, strict=True)  # as the caller says
    assert twice.state_dict()[MARK].tolist() == [2, 3, 2, 16, 3, 48, 4]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_a_mark_that_was_converted_with_the_weights_is_understood(dtype: torch.dtype, tmp_path: Path) -> None:
    source = network_of(FORMS[-1])
    weights = source.state_dict()
    torch.save({**weights, MARK: weights[MARK].to(dtype)}, tmp_path / "w.pth")
    loaded = esc_arch.load(tmp_path / "w.pth").state_dict()
    assert loaded[MARK].dtype == torch.uint8
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())


def test_the_mark_of_the_other_trainer_is_understood() -> None:
    source, x = network_of({"upscaling_factor": 3}), image()
    weights = dict(source.state_dict())
    weights[MARK] = torch.tensor([3, 3, 3, 16, 3, 64, 4], dtype=torch.uint8)
    assert torch.equal(build(weights)(x), source(x))


def test_channels_that_do_not_fit_into_the_mark_leave_it_out() -> None:
    with torch.device("meta"):
        wide = ESCRealM(**{**TINY, "dim": 300})
    assert MARK not in wide.state_dict()
    head = UpsampleHead("nearest+conv", 300, 2)
    head.load_state_dict(head.state_dict(), strict=True)


@pytest.mark.parametrize("scale", [1, 2])
def test_weights_that_this_package_wrote_formerly(scale: int) -> None:
    """Without the mark, and without a number for pixel-unshuffling in the names."""
    former = {"proj.1": "proj", "skip.1": "skip.0", "skip.2": "skip.1", "skip.4": "skip.3"}
    source, x = network_of({"upscaling_factor": scale}), image()
    weights: Weights = {}
    for name, tensor in source.state_dict().items():
        layer, _, kind = name.rpartition(".")
        weights[f"{former[layer]}.{kind}" if layer in former else name] = tensor
    del weights[MARK]
    assert "proj.weight" in weights
    assert torch.equal(build(weights)(x), source(x))
    twin = ESCRealM(**TINY, upscaling_factor=scale)
    twin.load_state_dict(weights, strict=True)
    assert torch.equal(twin.eval()(x), source(x))


def slow_head(upsampler: str, scale: int, w: Mapping[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Compute an upsampler out of its weights, by their published places."""

    def conv(place: object, x: torch.Tensor) -> torch.Tensor:
        weight = w[f"{place}.weight"]
        return F.conv2d(x, weight, w[f"{place}.bias"], padding=weight.shape[-1] // 2)

    def leaky(x: torch.Tensor, slope: float = 0.2) -> torch.Tensor:
        return torch.where(x > 0, x, slope * x)

    def larger(x: torch.Tensor, factor: int) -> torch.Tensor:
        return x.repeat_interleave(factor, 2).repeat_interleave(factor, 3)

    steps = [3] if scale == 3 else [2] * int(math.log2(scale))
    if scale == 1:
        return conv(0, x)
    if upsampler == "pixelshuffledirect":
        return F.pixel_shuffle(conv(0, x), scale)
    if upsampler == "pixelshuffle":
        x = leaky(conv(0, x), 0.01)
        for step, factor in enumerate(steps):
            x = F.pixel_shuffle(conv(2 + 2 * step, x), factor)
        return conv(2 + 2 * len(steps), x)
    if upsampler == "nearest+conv":
        for step, factor in enumerate(steps):
            x = leaky(larger(conv(3 * step, x), factor))
        return conv(3 * len(steps) + 2, leaky(conv(3 * len(steps), x)))
    if upsampler == "pa_up":
        for step, factor in enumerate(steps):
            x = conv(6 * step + 1, larger(x, factor))
            x = x * torch.sigmoid(conv(f"{6 * step + 2}.conv.0", x))
            x = leaky(conv(6 * step + 4, leaky(x)))
        return conv(6 * len(steps), x)
    assert upsampler == "transpose+conv"
    stride = {2: 2, 3: 3, 4: 2}[scale]
    padding = int(scale != 3)
    x = F.conv_transpose2d(x, w["0.weight"], w["0.bias"], stride, padding)
    if scale == 4:
        x = F.conv_transpose2d(F.gelu(x), w["2.weight"], w["2.bias"], stride, padding)
    return conv(3 if scale == 4 else 1, x)


@pytest.mark.parametrize("upsampler", [name for name in UPSAMPLERS if name not in ("conv", "dysample", "lda")])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_upsamplers_compute_what_is_published(upsampler: str, scale: int) -> None:
    head, x = randomise(UpsampleHead(upsampler, 8, scale, mid_dim=12)), torch.randn(2, 8, 5, 4)
    expected = slow_head(upsampler, scale, head.state_dict(), x)
    assert expected.shape == (2, 3, 5 * scale, 4 * scale)
    assert relative_difference(head(x), expected) <= 1e-5


@pytest.mark.parametrize(("scale", "size"), [(2, (4, 3)), (3, (2, 5)), (1, (1, 1))])
@torch.no_grad()
def test_local_attention_pixel_by_pixel(scale: int, size: tuple[int, int]) -> None:
    """LDA-AQU by its definition, in double precision."""
    module, (height, width) = randomise(LocalDeformableUpsampler(16, scale)).double(), size
    x = torch.randn(1, 16, height, width, dtype=torch.float64)
    tall, wide = scale * height, scale * width
    normalised = module.layer_norm(x)
    q = F.interpolate(module.proj_q(normalised), (tall, wide), mode="bilinear", align_corners=True)
    k, out = module.proj_k(normalised), torch.zeros(1, 16, tall, wide, dtype=torch.float64)
    moves = [11 * module.conv_offset(part).tanh()[0] for part in q.split(2, dim=1)]

    def read(source: torch.Tensor, row: float, column: float) -> torch.Tensor:
        """Between the pixels of `source` (C, H, W); zero outside."""
        total = torch.zeros(source.shape[0], dtype=torch.float64)
        for r, c in np.ndindex(2, 2):
            y, z = math.floor(row) + r, math.floor(column) + c
            if 0 <= y < height and 0 <= z < width:
                total += source[:, y, z] * (1 - abs(row - y)) * (1 - abs(column - z))
        return total

    for row, column in np.ndindex(tall, wide):
        scores, values = [], []
        for place in range(9):
            keys, parts = [], []
            for group in range(2):
                down, right = moves[group][2 * place : 2 * place + 2, row, column].tolist()
                y = (row + place // 3 - 1 + down) * (height - 1) / max(tall - 1, 1)
                z = (column + place % 3 - 1 + right) * (width - 1) / max(wide - 1, 1)
                if tall == wide == 1:  # normalised to -1 at the first pixel, wherever a single one is
                    y, z = place // 3 - 1 + down, place % 3 - 1 + right
                    y, z = y * 0, z * 0
                keys.append(read(k[0, 2 * group : 2 * group + 2], y, z))
                parts.append(read(x[0, 8 * group : 8 * group + 8], y, z))
            key = torch.cat(keys) + module.relative_position_bias_table[0, 0, 0, place]
            scores.append((q[0, :, row, column] * key).sum() / 2)  # the root of 4 channels
            values.append(torch.cat(parts))
        out[0, :, row, column] = (torch.stack(scores).softmax(0)[:, None] * torch.stack(values)).sum(0)
    assert relative_difference(module(x), out) <= 1e-9


def neosr_weights(scale: int) -> Weights:
    """Weights as neosr's `esc` writes them without DySample."""
    weights = {n: t for n, t in randomise(ESCReal(**TINY)).state_dict().items() if not n.startswith("to_img")}
    doublings = int(math.log2(scale))
    places = [5 * step + place for step in range(doublings) for place in (1, 3)]
    for place in [*places, 5 * doublings]:
        channels = 3 if place == 5 * doublings else 16
        weights[f"to_img.{place}.weight"] = 0.15 * torch.randn(channels, 16, 3, 3)
        weights[f"to_img.{place}.bias"] = 0.15 * torch.randn(channels)
    return weights


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@torch.no_grad()
def test_neosr_without_dysample(scale: int) -> None:
    """Its x3 is x2: so its weights say, and so they were trained."""
    weights, x = neosr_weights(scale), image()
    network = build(weights)
    real = 2 if scale == 3 else scale
    assert network.upscaling_factor == real
    head = {n.removeprefix("to_img."): t for n, t in weights.items() if n.startswith("to_img.")}
    expected = network.features(x)
    for step in range(int(math.log2(real))):
        expected = expected.repeat_interleave(2, 2).repeat_interleave(2, 3)
        for place in (5 * step + 1, 5 * step + 3):
            convolved = F.conv2d(expected, head[f"{place}.weight"], head[f"{place}.bias"], padding=1)
            expected = F.leaky_relu(convolved, 0.2)
    last = 5 * int(math.log2(real))
    expected = F.conv2d(expected, head[f"{last}.weight"], head[f"{last}.bias"], padding=1)
    assert network(x).shape == (1, 3, 11 * real, 9 * real)
    assert relative_difference(network(x), expected) <= 1e-5


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_neosr_with_dysample_and_without_init_pos(scale: int) -> None:
    source, x = randomise(ESCReal(**TINY, upscaling_factor=scale, use_dysample=True)).eval(), image()
    weights = dict(source.state_dict())
    assert torch.equal(build(weights)(x), source(x))
    del weights["to_img.init_pos"]
    assert torch.equal(build(weights)(x), source(x))


def test_neosr_for_bicubic_is_esc() -> None:
    source = randomise(ESC(**TINY))
    assert identify(source.state_dict()).network is ESC


def test_the_first_esc_real_is_named() -> None:
    weights = dict(ESCReal(**TINY).state_dict())
    for name in ("weight", "bias"):
        weights[f"to_img.6.{name}"] = weights.pop(f"to_img.8.{name}")
    with pytest.raises(UnsupportedFormError, match=r"first ESC-Real \(March 2025\)"):
        build(weights)


def test_commands_take_the_scale_that_weights_do_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from esc_arch.export import export
    from esc_arch.upscale.__main__ import main

    monkeypatch.chdir(tmp_path)
    source = network_of({"upscaling_factor": 3})
    weights = dict(source.state_dict())
    del weights[MARK]
    torch.save({"params": weights}, "w.pth")
    pixels = np.random.default_rng(0).integers(0, 256, (9, 10, 3), "uint8")
    with pytest.raises(UserError, match="do not tell whether they enlarge 2 or 3 times"):
        esc_arch.upscale_image(pixels, "w.pth")
    assert np.array_equal(esc_arch.upscale_image(pixels, "w.pth", scale=3), esc_arch.upscale_image(pixels, source))
    import cv2

    assert cv2.imwrite("a.png", pixels)
    with pytest.raises(SystemExit):
        main(["a.png", "-o", "out", "--weights", "w.pth"])
    main(["a.png", "-o", "out", "--weights", "w.pth", "--scale", "3"])
    assert cv2.imread("out/a_x3.png").shape == (27, 30, 3)
    with pytest.raises(UserError, match=r"w\.pth: .*--scale in commands"):
        export("w.pth", "pt2")
    assert export("w.pth", "pt2", scale=3).difference <= 1e-4
