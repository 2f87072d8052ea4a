"""HiT-SIR, HiT-SNG and HiT-SRF: the numbers of the authors' implementation, sizes, batches, copies, wrong arguments."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import pytest
import torch
from conftest import GOLDEN, randomise, relative_difference
from torch import nn

from esc_arch.archs.hit_sr_arch import HiT_SIR, HiT_SNG, HiT_SRF

TINY: dict[str, Any] = {
    "base_win_size": [4, 4],
    "depths": [4, 1],
    "embed_dim": 24,
    "num_heads": [3, 2],
    "hier_win_ratios": [0.5, 1, 2, 4],
}
NETWORKS = [HiT_SIR, HiT_SNG, HiT_SRF]
VARIANTS = {"HiT-SIR": HiT_SIR, "HiT-SNG": HiT_SNG, "HiT-SRF": HiT_SRF}


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return torch.load(GOLDEN / "hit_srf_x2.pt", weights_only=True)


@pytest.mark.parametrize("network", [HiT_SNG, HiT_SRF])
def test_golden_cases(network: type[nn.Module]) -> None:
    golden = torch.load(GOLDEN / f"{network.__name__.lower()}_x2.pt", weights_only=True)
    net = network(**golden["kwargs"])
    net.load_state_dict(golden["state_dict"], strict=True)
    for case in golden["cases"]:
        image = case["input"].clone()
        with torch.no_grad():
            output, other_mode = net.train()(image), net.eval()(image)
        assert output.shape == case["output"].shape
        assert relative_difference(output, case["output"]) <= 1e-5, case["note"]
        assert torch.equal(other_mode, output)
        assert torch.equal(image, case["input"]), "the input was modified"


def test_sir_is_srf_without_the_convolution(golden: dict[str, Any]) -> None:
    """gelu(0) = 0, so a convolution of zeros leaves the hidden features as they are."""
    srf, sir = HiT_SRF(**golden["kwargs"]), HiT_SIR(**golden["kwargs"])
    weights = {k: torch.zeros_like(v) if "dwconv" in k else v for k, v in golden["state_dict"].items()}
    srf.load_state_dict(weights)
    sir.load_state_dict({k: v for k, v in weights.items() if "dwconv" not in k}, strict=True)
    x = golden["cases"][1]["input"]
    with torch.no_grad():
        assert relative_difference(sir(x), srf(x)) <= 1e-6
        srf.load_state_dict(golden["state_dict"])
        assert relative_difference(sir(x), srf(x)) > 1e-2


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("variant", VARIANTS)
def test_parameter_counts(variant: str, scale: int, official_counts: dict[str, Any]) -> None:
    count = sum(p.numel() for p in VARIANTS[variant](upscale=scale).parameters())
    assert count == official_counts["params"][variant][f"x{scale}"]


@pytest.mark.parametrize("network", NETWORKS)
def test_state_holds_parameters_only(network: type[nn.Module]) -> None:
    """But for the index of pairs of neighbours, which published checkpoints of HiT-SNG hold."""
    net = network(**TINY)
    names = [name for name in net.state_dict() if not name.endswith("ngram_attn.relative_position_index")]
    assert sorted(names) == sorted(name for name, _ in net.named_parameters())


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(("height", "width"), [(16, 32), (11, 18), (1, 1), (1, 7), (5, 2), (3, 40)])
def test_images_of_a_batch_are_independent(network: type[nn.Module], height: int, width: int) -> None:
    net, images = randomise(network(**TINY, upscale=3)), torch.rand(2, 3, height, width)
    untouched = images.clone()
    with torch.no_grad():
        together = net(images)
        alone = torch.cat([net(image) for image in images.split(1)])
    assert together.shape == (2, 3, 3 * height, 3 * width)
    assert together.isfinite().all()
    assert relative_difference(together, alone) <= 1e-5
    assert torch.equal(images, untouched)


@pytest.mark.parametrize("base", [(4, 2), (2, 4), (6, 4)])
def test_windows_need_not_be_square(base: tuple[int, int]) -> None:
    """A network on transposed images is the network with transposed windows, kernels and offsets."""
    net = randomise(HiT_SRF(**{**TINY, "base_win_size": base})).eval()
    twin = HiT_SRF(**{**TINY, "base_win_size": base[::-1]}).eval()
    weights = {}
    for name, tensor in net.state_dict().items():
        if name.endswith("pos_proj.weight"):
            tensor = tensor.flip(1)  # (down, right)
        elif tensor.dim() == 4:
            tensor = tensor.transpose(2, 3)
        elif name.endswith("spatial_linear.weight") and tensor.numel() > 1:
            side = round(tensor.numel() ** 0.5)  # both axes grow by the same ratio
            tensor = tensor.reshape(side, side).t().reshape(1, -1)
        weights[name] = tensor
    head = weights["upsample.0.weight"], weights["upsample.0.bias"]
    order = torch.arange(12).reshape(3, 2, 2).transpose(1, 2).flatten()  # of the sub-pixels
    weights["upsample.0.weight"], weights["upsample.0.bias"] = (tensor[order] for tensor in head)
    twin.load_state_dict(weights)
    x = torch.rand(1, 3, 13, 21)
    with torch.no_grad():
        assert relative_difference(twin(x.transpose(2, 3)).transpose(2, 3), net(x)) <= 1e-5


@pytest.mark.parametrize("network", NETWORKS)
def test_every_parameter_gets_a_gradient(network: type[nn.Module]) -> None:
    net = randomise(network(**{**TINY, "embed_dim": 48}))
    for name, parameter in net.named_parameters():
        if ".pos." in name and parameter.dim() == 1:  # where all of so few channels fell below the ReLU, none would
            parameter.data += 1
    net(torch.rand(2, 3, 9, 18)).square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("network", NETWORKS)
def test_copies_follow_their_own_weights(network: type[nn.Module]) -> None:
    net, x = randomise(network(**TINY)), torch.rand(1, 3, 10, 9)
    expected = net(x)
    copies = [copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    randomise(net, seed=1)
    assert relative_difference(net(x), expected) > 1e-2
    for twin in copies:
        assert torch.equal(twin(x), expected)


@pytest.mark.parametrize("network", NETWORKS)
def test_autocast(network: type[nn.Module]) -> None:
    net, x = randomise(network(**TINY)), torch.rand(2, 3, 12, 17)
    expected = net(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert relative_difference(net(x).float(), expected) < 0.05


@pytest.mark.parametrize("network", NETWORKS)
def test_compile_whole_network(network: type[nn.Module]) -> None:
    """`fullgraph` forbids falling back to eager; the second size makes the compiler treat sizes as unknown."""
    net = randomise(network(**{**TINY, "depths": [2], "num_heads": [3], "hier_win_ratios": [1, 2]}))
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    for shape in [(1, 3, 16, 16), (2, 3, 11, 20)]:
        x = torch.rand(shape)
        assert relative_difference(compiled(x), net(x)) <= 1e-5


def test_range_of_images() -> None:
    """With a range of 2, the network sees twice the image around the mean; its output is halved."""
    net, twice = HiT_SRF(**TINY), HiT_SRF(**TINY, img_range=2.0)
    twice.load_state_dict(randomise(net).state_dict())
    x = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        seen = 2 * (x - net.mean) + net.mean
        assert relative_difference(twice(x), (net(seen) - net.mean) / 2 + net.mean) <= 1e-5


def test_grey_images() -> None:
    assert HiT_SRF(**TINY, in_chans=1)(torch.rand(1, 1, 9, 9)).shape == (1, 1, 18, 18)


def test_arguments_without_effect() -> None:
    """Published option files hold an argument that the published networks ignore."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net = HiT_SRF(**TINY, expansion_factor=4)
    assert net.layers[0].residual_group.blocks[0].mlp.fc1.out_features == 2 * TINY["embed_dim"]
    with pytest.warns(UserWarning, match="emded_dim"):
        HiT_SRF(**TINY, emded_dim=60)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("upscale", 0),
        ("upscale", 2.5),
        ("in_chans", 0),
        ("base_win_size", [8]),
        ("base_win_size", [8, 0]),
        ("img_range", 0),
        ("depths", []),
        ("depths", [4, 0]),
        ("embed_dim", 12),
        ("embed_dim", 26),
        ("num_heads", [3]),
        ("num_heads", [3, 0]),
        ("num_heads", [3, 5]),
        ("mlp_ratio", 0),
        ("resi_connection", "3conv"),
        ("hier_win_ratios", [0.5, 1, 2]),
        ("hier_win_ratios", [0.5, 1, 1.5, 2]),
        ("hier_win_ratios", [0.1, 1, 2, 4]),
        ("upsampler", "pixelshuffle"),
    ],
)
def test_wrong_arguments_are_named(network: type[nn.Module], argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=argument):
        network(**{**TINY, argument: value})


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (1, 4, 8, 8), (3, 8, 8), (1, 3, 0, 8)])
def test_wrong_input_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        HiT_SRF(**TINY)(torch.rand(shape))
