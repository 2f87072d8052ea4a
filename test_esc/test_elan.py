"""ELAN: parameters, the layers against their definition, sizes, batches, copies, wrong arguments."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from conftest import relative_difference
from torch import nn

from esc_arch.archs.elan_arch import ELAN

TINY: dict[str, Any] = {"window_sizes": [2, 4, 8], "m_elan": 4, "c_elan": 12}


def randomise(net: ELAN, seed: int = 0) -> ELAN:
    """Draw at random what training changes, also the statistics of batch norm, which start at zero and one."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        if parameter.requires_grad:
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    for name, buffer in net.named_buffers():
        if "running" in name:
            buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
    return net


def attention_by_definition(
    x: torch.Tensor, window: int, shift: bool, maps: dict[tuple[int, int], torch.Tensor] | None
) -> tuple[torch.Tensor, dict[tuple[int, int], torch.Tensor]]:
    """Attend in one image (C, H, W), window by window; half of the channels are queries where there are no maps."""
    if shift:
        x = x.roll((-(window // 2), -(window // 2)), (1, 2))
    result = torch.zeros_like(x if maps is not None else x[: len(x) // 2])
    used = {}
    for top in range(0, x.shape[1], window):
        for left in range(0, x.shape[2], window):
            tokens = x[:, top : top + window, left : left + window].reshape(len(x), -1)  # (C, w * w)
            if maps is None:
                q, tokens = tokens[: len(x) // 2], tokens[len(x) // 2 :]
                used[top, left] = torch.softmax(torch.einsum("ci,cj->ij", q, q), dim=1)
            else:
                used[top, left] = maps[top, left]
            attended = torch.einsum("ij,cj->ci", used[top, left], tokens)
            result[:, top : top + window, left : left + window] = attended.reshape(-1, window, window)
    return (result.roll((window // 2, window // 2), (1, 2)) if shift else result), used


@pytest.mark.parametrize("block", [0, 1])
def test_attention_is_shared_as_defined(block: int) -> None:
    """The second layer of a block applies the maps of the first; every other block shifts its windows."""
    first, second = randomise(ELAN(**TINY)).eval().body[block].modules_gmsa.values()
    x, other = torch.rand(2, 12, 8, 16), torch.rand(2, 12, 8, 16)
    with torch.no_grad():
        attended, maps = first(x, [None] * 3)
        reused, _ = second(other, maps)
        for index in range(2):
            parts, wanted = first.project_inp(x)[index].chunk(3), []
            others, shared = second.project_inp(other)[index].chunk(3), []
            for window, part, other_part in zip([2, 4, 8], parts, others, strict=True):
                result, used = attention_by_definition(part, window, block == 1, None)
                wanted.append(result)
                shared.append(attention_by_definition(other_part, window, block == 1, used)[0])
            for got, layer, expected in ((attended, first, wanted), (reused, second, shared)):
                assert relative_difference(got[index], layer.project_out(torch.cat(expected)[None])[0]) <= 1e-5


def test_shift_convolution_moves_fifths() -> None:
    """Twelve channels make four groups of two, and the last of four, which stays where it is."""
    layer = randomise(ELAN(**TINY)).body[0].modules_lfe["lfe_0"].conv0
    x = torch.rand(1, 12, 5, 6)
    moved = torch.zeros_like(x)
    moved[:, 0:2, :, :-1] = x[:, 0:2, :, 1:]
    moved[:, 2:4, :, 1:] = x[:, 2:4, :, :-1]
    moved[:, 4:6, :-1] = x[:, 4:6, 1:]
    moved[:, 6:8, 1:] = x[:, 6:8, :-1]
    moved[:, 8:] = x[:, 8:]
    with torch.no_grad():
        assert relative_difference(layer(x), layer.shift_conv.conv1x1(moved)) <= 1e-6


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_parameter_counts(scale: int, official_counts: dict[str, Any]) -> None:
    parameters = list(ELAN(scale=scale).parameters())
    assert sum(p.numel() for p in parameters) == official_counts["params"]["ELAN-light"][f"x{scale}"]
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    assert trainable == official_counts["params_trainable"]["ELAN-light"][f"x{scale}"]


def test_names_and_shapes_of_the_state() -> None:
    net = ELAN(**{**TINY, "m_elan": 2}, norm=True)
    expected: dict[str, tuple[int, ...]] = {"head.0.weight": (12, 3, 3, 3), "head.0.bias": (12,)}
    for pair, inner in enumerate([24, 12]):
        for conv, (before, after) in {"conv0": (12, 24), "conv1": (24, 12)}.items():
            prefix = f"body.0.modules_lfe.lfe_{pair}.{conv}.shift_conv"
            expected[f"{prefix}.weight"] = (before, 1, 3, 3)
            expected |= {f"{prefix}.conv1x1.weight": (after, before, 1, 1), f"{prefix}.conv1x1.bias": (after,)}
        prefix = f"body.0.modules_gmsa.gmsa_{pair}"
        expected |= {f"{prefix}.project_inp.0.weight": (inner, 12, 1, 1), f"{prefix}.project_inp.0.bias": (inner,)}
        for name in ("weight", "bias", "running_mean", "running_var"):
            expected[f"{prefix}.project_inp.1.{name}"] = (inner,)
        expected[f"{prefix}.project_inp.1.num_batches_tracked"] = ()
        expected |= {f"{prefix}.project_out.weight": (12, 12, 1, 1), f"{prefix}.project_out.bias": (12,)}
    expected |= {"tail.0.weight": (12, 12, 3, 3), "tail.0.bias": (12,)}
    assert {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()} == expected


@pytest.mark.parametrize(("height", "width"), [(16, 8), (11, 18), (1, 1), (1, 7), (5, 2), (3, 20)])
def test_images_of_a_batch_are_independent(height: int, width: int) -> None:
    net, images = randomise(ELAN(**TINY, scale=3)).eval(), torch.rand(2, 3, height, width)
    untouched = images.clone()
    with torch.no_grad():
        together = net(images)
        alone = torch.cat([net(image) for image in images.split(1)])
    assert together.shape == (2, 3, 3 * height, 3 * width)
    assert relative_difference(together, alone) <= 1e-5
    assert torch.equal(images, untouched)


def test_images_are_padded_by_reflection_at_the_bottom_and_the_right() -> None:
    net, x = randomise(ELAN(**TINY)).eval(), torch.rand(1, 3, 11, 13)
    with torch.no_grad():
        padded = net(nn.functional.pad(x, (0, 3, 0, 5), mode="reflect"))
        assert relative_difference(net(x), padded[..., :22, :26]) <= 1e-6


def test_mean_colour() -> None:
    """With `norm` the network sees the image less the mean, and the mean is added to its output."""
    plain, normed = randomise(ELAN(**TINY)).eval(), ELAN(**TINY, norm=True, rgb_range=255).eval()
    normed.load_state_dict(plain.state_dict(), strict=True)
    mean = 255 * torch.tensor([0.4488, 0.4371, 0.4040]).reshape(3, 1, 1)
    x = 255 * torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        assert relative_difference(normed(x), plain(x - mean) + mean) <= 1e-5


def test_every_trainable_parameter_gets_a_gradient() -> None:
    net = randomise(ELAN(**TINY)).train()
    net(torch.rand(2, 3, 9, 18)).square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.requires_grad != name.endswith("shift_conv.weight"), name
        # batch norm removes a constant that is added before it
        if parameter.requires_grad and not name.endswith("project_inp.0.bias"):
            assert parameter.grad.abs().sum() > 0, name


def test_copies_follow_their_own_weights() -> None:
    net, x = randomise(ELAN(**TINY)).eval(), torch.rand(1, 3, 10, 9)
    expected = net(x)
    copies = [copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    randomise(net, seed=1)
    assert relative_difference(net(x), expected) > 1e-2
    for twin in copies:
        assert torch.equal(twin(x), expected)


def test_autocast() -> None:
    net, x = randomise(ELAN(**TINY)).eval(), torch.rand(2, 3, 12, 17)
    expected = net(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert relative_difference(net(x).float(), expected) < 0.05


def test_compile_whole_network() -> None:
    """`fullgraph` forbids falling back to eager; the second size makes the compiler treat sizes as unknown."""
    net = randomise(ELAN(**{**TINY, "m_elan": 2})).eval()
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    for shape in [(1, 3, 16, 16), (2, 3, 11, 20)]:
        x = torch.rand(shape)
        assert relative_difference(compiled(x), net(x)) <= 1e-5


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("scale", 0),
        ("scale", 2.5),
        ("colors", 0),
        ("rgb_range", 0),
        ("window_sizes", []),
        ("window_sizes", [4, 8, 0]),
        ("m_elan", 0),
        ("m_elan", 5),
        ("c_elan", 13),
        ("n_share", -1),
        ("r_expand", 0),
    ],
)
def test_wrong_arguments_are_named(argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=argument):
        ELAN(**{**TINY, argument: value})


def test_mean_colour_needs_three_channels() -> None:
    with pytest.raises(ValueError, match="norm"):
        ELAN(**TINY, colors=1, norm=True)
    assert ELAN(**TINY, colors=1)(torch.rand(1, 1, 9, 9)).shape == (1, 1, 18, 18)


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (1, 4, 8, 8), (3, 8, 8), (1, 3, 0, 8)])
def test_wrong_input_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        ELAN(**TINY)(torch.rand(shape))


def test_checkpoint_of_another_range() -> None:
    """What the docstring says of published checkpoints: the same network, on images in [0, 1]."""
    published, converted = (randomise(ELAN(**TINY, rgb_range=r, norm=True)).eval() for r in (255, 1))
    weights = published.state_dict()
    weights["head.0.weight"] = weights["head.0.weight"] * 255
    for name in ("tail.0.weight", "tail.0.bias"):
        weights[name] = weights[name] / 255
    converted.load_state_dict(weights)
    x = torch.rand(1, 3, 8, 16)
    with torch.no_grad():
        assert relative_difference(converted(x), published(255 * x) / 255) <= 1e-5
