"""The real-world networks: upsamplers, DySample, the image branch, scales through pixel-unshuffle, checkpoints."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, randomise, relative_difference
from torch import nn

from esc_arch.archs import ESCReal, ESCRealM
from esc_arch.common.torchvision_operators import define_torchvision_operators
from esc_arch.layers import UPSAMPLERS, DySample, UpsampleHead
from esc_arch.layers.reflect import ReflectConv2d
from esc_arch.layers.upsample_head import AUTHORS

ENLARGING = [name for name in UPSAMPLERS if name != "conv"]
CASES = [(name, scale) for name in ENLARGING for scale in (1, 2, 3, 4)] + [("conv", 1)]


def arguments_of(upsampler: str, scale: int, **others: Any) -> dict[str, Any]:
    """Arguments of a small network; "conv" needs the whole image."""
    chosen = {"upsampler": upsampler, "upscaling_factor": scale, "unshuffle_mod": upsampler != "conv"}
    return {**TINY, "mid_dim": 24, **chosen, **others}


def slow_dysample(module: DySample, x: torch.Tensor) -> torch.Tensor:
    """Compute DySample (Liu et al., 2023) pixel by pixel, in double precision."""
    x, s, groups = x.double(), module.scale, module.groups
    offset, scope = module.offset.double(), module.scope.double()
    moves = 0.5 * offset(x) * torch.sigmoid(scope(x))
    batch, channels, height, width = x.shape
    moves = moves.reshape(batch, 2, groups, s, s, height, width)
    out = torch.zeros(batch, channels, s * height, s * width, dtype=torch.float64)
    size = channels // groups
    for b, group, row, column in np.ndindex(batch, groups, s * height, s * width):
        i, j, u, v = row // s, column // s, row % s, column % s
        right = j + moves[b, 0, group, u, v, i, j] + (v - (s - 1) / 2) / s  # in input pixels, centres at integers
        down = i + moves[b, 1, group, u, v, i, j] + (u - (s - 1) / 2) / s
        right, down = right.clamp(0, width - 1).item(), down.clamp(0, height - 1).item()
        for r, q in np.ndindex(2, 2):
            y, z = int(down) + r, int(right) + q
            share = (1 - abs(down - y)) * (1 - abs(right - z))
            if share > 0:
                part = slice(group * size, (group + 1) * size)
                out[b, part, row, column] += share * x[b, part, y, z]
    return module.end_conv.double()(out)


@pytest.mark.parametrize(
    ("scale", "groups", "shape"), [(2, 4, (2, 8, 3, 5)), (3, 2, (1, 6, 4, 1)), (4, 1, (1, 3, 2, 3))]
)
def test_dysample_is_the_published_sampling(scale: int, groups: int, shape: tuple[int, ...]) -> None:
    module = DySample(shape[1], 3, scale, groups)
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(shape)
    out = module(x)
    assert out.shape == (shape[0], 3, scale * shape[2], scale * shape[3])
    assert relative_difference(out, slow_dysample(module, x).float()) <= 1e-5


def test_dysample_agrees_with_spandrel() -> None:
    define_torchvision_operators()  # spandrel imports torchvision
    peer = pytest.importorskip("spandrel.architectures.__arch_helpers.dysample").DySample(16, 3, 4)
    ours = randomise(DySample(16, 3, 4))
    peer.load_state_dict(ours.state_dict(), strict=True)
    x = torch.randn(2, 16, 7, 5)
    assert relative_difference(ours(x), peer(x)) <= 1e-5


def test_dysample_starts_as_bilinear_enlargement() -> None:
    module, x = DySample(8, 8, 2), torch.rand(1, 8, 6, 7)
    nn.init.dirac_(module.end_conv.weight)
    nn.init.zeros_(module.end_conv.bias)
    expected = nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    assert relative_difference(module(x), expected) < 0.01


def test_dysample_places_are_exact_in_half_precision() -> None:
    """Half precision cannot tell the columns of an image of 3000 pixels apart."""
    module, x = DySample(4, 4, 2), torch.zeros(1, 4, 1, 3000)
    x[..., 1::2] = 1
    nn.init.dirac_(module.end_conv.weight)
    nn.init.zeros_(module.end_conv.bias)
    nn.init.zeros_(module.offset.weight)
    expected = module(x)
    assert relative_difference(module.to(torch.bfloat16)(x.to(torch.bfloat16)).float(), expected) < 0.01


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 3), (3, 4), (4, 9)])
def test_image_branch_reflects_images_of_any_size(size: tuple[int, int]) -> None:
    module, x = ReflectConv2d(4, 4, 7, groups=4), torch.rand(2, 4, *size)
    padded = torch.from_numpy(np.pad(x.numpy(), [(0, 0), (0, 0), (3, 3), (3, 3)], mode="reflect"))
    expected = nn.functional.conv2d(padded, module.weight, module.bias, groups=4)
    assert relative_difference(module(x), expected) <= 1e-6


@pytest.mark.parametrize(("upsampler", "scale"), CASES)
def test_every_upsampler_at_every_scale(upsampler: str, scale: int) -> None:
    net = randomise(ESCRealM(**arguments_of(upsampler, scale)))
    x = torch.rand(2, 3, 9, 10)
    out = net(x)
    assert out.shape == (2, 3, 9 * scale, 10 * scale)
    assert relative_difference(net(x[1:]), out[1:]) <= 1e-5
    assert net(torch.rand(1, 3, 1, 2)).shape == (1, 3, scale, 2 * scale)
    out.square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(("upsampler", "scale"), CASES)
def test_export_of_every_upsampler(upsampler: str, scale: int) -> None:
    net = randomise(ESCRealM(**arguments_of(upsampler, scale))).eval()
    x = torch.rand(1, 3, 12, 17)
    program = torch.export.export(net, (x,))
    assert relative_difference(program.module()(x), net(x)) <= 1e-5


@pytest.mark.parametrize(("upsampler", "scale"), [("dysample", 4), ("dysample", 1), ("nearest+conv", 2)])
@pytest.mark.skipif(
    not hasattr(torch.fx.experimental._config, "backed_size_oblivious"), reason="this torch cannot export such sizes"
)
def test_export_of_dynamic_sizes(upsampler: str, scale: int) -> None:
    net = randomise(ESCRealM(**arguments_of(upsampler, scale))).eval()
    dynamic = torch.export.Dim.DYNAMIC
    with torch.fx.experimental._config.patch(backed_size_oblivious=True):
        program = torch.export.export(
            net, (torch.rand(2, 3, 20, 24),), dynamic_shapes=[{0: dynamic, 2: dynamic, 3: dynamic}]
        )
    for shape in [(2, 3, 16, 16), (5, 3, 37, 33)]:
        x = torch.rand(shape)
        assert relative_difference(program.module()(x), net(x)) <= 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("upsampler", "scale"), [("dysample", 2), ("pixelshuffle", 3)])
def test_half_precision_of_upsamplers(upsampler: str, scale: int, dtype: torch.dtype) -> None:
    net, x = randomise(ESCRealM(**arguments_of(upsampler, scale))), torch.rand(1, 3, 12, 17)
    expected = net(x)
    with torch.autocast("cpu", dtype):
        assert relative_difference(net(x).float(), expected) < 0.05
    half = net.to(dtype)(x.to(dtype))
    assert half.dtype == dtype
    assert relative_difference(half.float(), expected) < 0.05


@pytest.mark.parametrize("form", ["x1 unshuffled", "x2 unshuffled", "x1 plain", "x2 plain", "x3", "x4"])
@pytest.mark.parametrize("upsampler", AUTHORS)
def test_published_counts(form: str, upsampler: str, family_counts: dict[str, Any]) -> None:
    scale, plain = int(form[1]), "unshuffled" not in form
    if upsampler == "conv" and form != "x1 plain":
        return  # which would give images of another size, and is refused
    with torch.device("meta"):
        net = ESCRealM(upsampler=upsampler, upscaling_factor=scale, unshuffle_mod=not plain)
    count = sum(parameter.numel() for parameter in net.parameters())
    assert count == family_counts["params"]["ESC-Real-M"][form][upsampler]


@pytest.mark.parametrize("scale", [1, 2])
def test_small_scales_see_the_unshuffled_image(scale: int) -> None:
    side = 4 // scale
    net, x = randomise(ESCRealM(**TINY, upscaling_factor=scale)), torch.rand(1, 3, 11, 14)
    assert net.channels == 3 * side**2
    padded = torch.nn.functional.pad(x, (0, -14 % side, 0, -11 % side), mode="reflect")
    rows, columns = range(side), range(side)
    parts = [padded[:, c, i::side, j::side] for c in range(3) for i in rows for j in columns]
    expected = net.to_img(net.features(torch.stack(parts, dim=1)))[..., : 11 * scale, : 14 * scale]
    assert relative_difference(net(x), expected) <= 1e-6


def test_checkpoints_of_other_projects_load_strictly() -> None:
    """They may hold a mark of the upsampler, and DySample's constant or not."""
    net = randomise(ESCRealM(**TINY, upsampler="dysample", mid_dim=16))
    state: dict[str, Any] = dict(net.state_dict())
    state["to_img.MetaUpsample"] = torch.tensor([3, 4, 4, 16, 3, 16, 4], dtype=torch.uint8)
    del state["to_img.0.init_pos"]
    twin = ESCRealM(**TINY, upsampler="dysample", mid_dim=16)
    twin.load_state_dict(state, strict=True)
    assert "to_img.MetaUpsample" in state
    x = torch.rand(1, 3, 8, 8)
    assert torch.equal(twin(x), net(x))


@pytest.mark.parametrize(
    ("upsampler", "scale", "layers"),
    [
        ("conv", 1, {"0": 3}),
        ("pixelshuffledirect", 3, {"0": 27}),
        ("pixelshuffle", 4, {"0": 20, "2": 80, "4": 80, "6": 3}),
        ("pixelshuffle", 3, {"0": 20, "2": 180, "4": 3}),
        ("nearest+conv", 4, {"0": 16, "3": 16, "6": 16, "8": 3}),
        ("nearest+conv", 3, {"0": 16, "3": 16, "5": 3}),
        ("nearest+conv", 8, {"0": 16, "3": 16, "6": 16, "9": 16, "11": 3}),
        ("dysample", 2, {"0": 20, "2.end_conv": 3, "2.offset": 32, "2.scope": 32}),
        ("pa_up", 2, {"1": 20, "2.conv.0": 20, "4": 20, "6": 3}),
        ("transpose+conv", 4, {"3": 3}),
    ],
)
def test_names_of_parameters(upsampler: str, scale: int, layers: dict[str, int]) -> None:
    """As in the published checkpoints: index of the layer, and its output channels."""
    head = UpsampleHead(upsampler, 16, scale, mid_dim=20)
    assert {name: m.out_channels for name, m in head.named_modules() if isinstance(m, nn.Conv2d)} == layers


@pytest.mark.parametrize(
    ("network", "arguments", "message"),
    [
        (ESCReal, {"upscaling_factor": 2}, "upscaling_factor of ESCReal must be 4, got 2"),
        (ESCReal, {"dim": 18, "use_dysample": True}, "dim must be divisible by the 4 groups of DySample, got 18"),
        (ESCReal, {"upscaling_factor": 3, "neosr_head": True}, "must be a power of two with neosr_head, got 3"),
        (ESCReal, {"use_dysample": True, "neosr_head": True}, "exclude each other"),
        (ESCRealM, {"upscaling_factor": 5}, "'nearest.conv' enlarges by 3 and by powers of two, not x5"),
        (ESCRealM, {"upscaling_factor": 8, "upsampler": "transpose+conv"}, "enlarges by 2, 3 and 4, not x8"),
        (ESCRealM, {"upscaling_factor": 1, "upsampler": "conv"}, "set unshuffle_mod to false"),
        (ESCRealM, {"upsampler": "dysample", "mid_dim": 18}, "mid_dim must be divisible by the 4 groups"),
        (ESCRealM, {"upsampler": "lda", "mid_dim": 20}, "must be a multiple of 8, got 20"),
        (ESCRealM, {"upsampler": "bilinear"}, "upsampler must be one of conv, .* got 'bilinear'"),
        (ESCRealM, {"upsampler": "conv"}, "upsampler 'conv' does not enlarge: it needs upscaling_factor 1, got 4"),
        (ESCRealM, {"upsampler": "pixelshuffle", "mid_dim": 0}, "mid_dim must be positive, got 0"),
    ],
)
def test_wrong_arguments_are_named(network: type[nn.Module], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        network(**{**TINY, **arguments})
