"""MambaIR, MambaIRv2, ASID and CATANet: the numbers of their authors' implementations, sizes, batches, arguments."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from conftest import GOLDEN, randomise, relative_difference
from torch import nn

from esc_arch.archs import ASID, ASIDd8, CATANet, MambaIR, MambaIRv2Light
from esc_arch.common.errors import UserError
from esc_arch.weights import identify

TINY: dict[type[nn.Module], dict[str, Any]] = {
    MambaIR: {"embed_dim": 30, "depths": [1, 1], "d_state": 3},
    MambaIRv2Light: {"embed_dim": 12, "depths": [2], "num_heads": [2], "window_size": 4, "num_tokens": 5},
    ASID: {"num_feat": 16},
    CATANet: {
        "dim": 8,
        "block_num": 2,
        "n_iters": [2, 2],
        "num_tokens": [3, 4],
        "group_size": [8, 6],
        "qk_dim": 8,
        "mlp_dim": 12,
        "heads": 2,
        "patch_size": [5, 6],
    },
}
NETWORKS = list(TINY)
GOLDEN_CASES = {"mambair_x2": MambaIR, "mambairv2_x2": MambaIRv2Light, "asid_x2": ASIDd8, "catanet_x2": CATANet}
PUBLISHED = {"MambaIR-light": MambaIR, "MambaIRv2-light": MambaIRv2Light, "ASID-D8": ASIDd8, "CATANet": CATANet}


def scaled(network: type[nn.Module], scale: int, **arguments: Any) -> nn.Module:
    return network(**arguments, **{"upsampling" if issubclass(network, ASID) else "upscale": scale})


@pytest.mark.parametrize("name", GOLDEN_CASES)
def test_golden_cases(name: str) -> None:
    """In their order: a case of CATANet in training mode changes the centres that the next one uses."""
    golden = torch.load(GOLDEN / f"{name}.pt", weights_only=True)
    net = GOLDEN_CASES[name](**golden["kwargs"])
    net.load_state_dict(golden["state_dict"], strict=True)
    for case in golden["cases"]:
        net.train(case["mode"] == "train")
        image = case["input"].clone()
        with torch.no_grad():
            output = net(image)
        assert output.shape == case["output"].shape
        assert relative_difference(output, case["output"]) <= 1e-5, case["note"]
        assert torch.equal(image, case["input"]), "the input was modified"


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts(name: str, scale: int, official_counts: dict[str, Any]) -> None:
    count = sum(p.numel() for p in scaled(PUBLISHED[name], scale).parameters())
    assert count == official_counts["params"][name][f"x{scale}"]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(("height", "width"), [(16, 32), (11, 18), (1, 1), (1, 7), (5, 2)])
def test_any_size(network: type[nn.Module], height: int, width: int) -> None:
    net, image = randomise(scaled(network, 3, **TINY[network])).eval(), torch.rand(1, 3, height, width)
    with torch.no_grad():
        output = net(image)
    assert output.shape == (1, 3, 3 * height, 3 * width)
    assert output.isfinite().all()


@pytest.mark.parametrize("network", NETWORKS)
def test_images_of_a_batch_are_independent_in_evaluation(network: type[nn.Module]) -> None:
    net, images = randomise(network(**TINY[network])), torch.rand(2, 3, 13, 18)
    with torch.no_grad():
        net.train()(images)  # a network with centres of its own
        together = net.eval()(images)
        alone = torch.cat([net(image) for image in images.split(1)])
    assert relative_difference(together, alone) <= 1e-5


@pytest.mark.parametrize("network", NETWORKS)
def test_every_parameter_gets_a_gradient(network: type[nn.Module]) -> None:
    net = randomise(network(**TINY[network])).train()
    for module in net.modules():
        if hasattr(module, "rate"):
            module.rate = 0  # or a block might be dropped
    for name, parameter in net.named_parameters():
        if name.endswith("attention.1.bias"):
            parameter.data += 1  # the only channel there must not fall below the ReLU
    net(torch.rand(2, 3, 20, 18)).square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("network", NETWORKS)
def test_copies_follow_their_own_weights(network: type[nn.Module]) -> None:
    net, x = randomise(network(**TINY[network])).eval(), torch.rand(1, 3, 10, 9)
    with torch.no_grad():
        expected, twin = net(x), copy.deepcopy(net)
        randomise(net, seed=1)
        assert relative_difference(net(x), expected) > 1e-2
        assert torch.equal(twin(x), expected)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_are_recognised(name: str, scale: int) -> None:
    with torch.device("meta"):
        network = scaled(PUBLISHED[name], scale)
    identity = identify(network.state_dict())
    assert identity.network is PUBLISHED[name]
    assert identity.scale == scale


@pytest.mark.parametrize(
    ("network", "arguments"),
    [
        (MambaIR, {**TINY[MambaIR], "in_chans": 1, "mlp_ratio": 1.7, "resi_connection": "3conv"}),
        *((MambaIR, {**TINY[MambaIR], "upsampler": "pixelshuffle", "upscale": scale}) for scale in (2, 3, 4)),
        (MambaIR, {**TINY[MambaIR], "upsampler": "", "upscale": 1, "depths": [1, 3]}),
        (MambaIRv2Light, {**TINY[MambaIRv2Light], "depths": [2, 1], "num_heads": [2, 3], "inner_rank": 7}),
        (ASID, {"num_feat": 24, "upsampling": 3, "bias": False}),
        (ASIDd8, {"num_feat": 16, "upsampling": 4}),
    ],
)
def test_arguments_are_told_by_shapes(network: type[nn.Module], arguments: dict[str, Any]) -> None:
    source = randomise(network(**arguments)).eval()
    identity = identify(source.state_dict())
    assert identity.network is network
    x = torch.rand(1, arguments.get("in_chans", 3), 9, 10)
    with torch.no_grad():
        assert torch.equal(identity.build(source.state_dict())(x), source(x))


def test_what_shapes_of_catanet_do_not_tell_is_asked_for() -> None:
    source = CATANet(**TINY[CATANet]).eval()
    with pytest.raises(UserError, match="give heads, group_size, patch_size"):
        identify(source.state_dict())
    known = {name: TINY[CATANet][name] for name in ("heads", "group_size", "patch_size")}
    rebuilt = identify(source.state_dict(), **known).build(source.state_dict())
    x = torch.rand(1, 3, 9, 10)
    with torch.no_grad():
        assert torch.equal(rebuilt(x), source(x))


@pytest.mark.parametrize("upsampler", ["pixelshuffle", "pixelshuffledirect", ""])
@pytest.mark.parametrize("resi_connection", ["1conv", "3conv"])
@pytest.mark.parametrize("network", [MambaIR, MambaIRv2Light])
def test_frames(network: type[nn.Module], resi_connection: str, upsampler: str) -> None:
    for scale in (2, 3, 4) if upsampler else (1,):
        net = network(**TINY[network], upscale=scale, upsampler=upsampler, resi_connection=resi_connection)
        assert net(torch.rand(1, 3, 6, 5)).shape == (1, 3, 6 * scale, 5 * scale)
    if not upsampler:
        for parameter in net.conv_last.parameters():
            parameter.data.zero_()
        image = torch.rand(1, 3, 6, 5)
        assert relative_difference(net.eval()(image), image) <= 1e-6


def test_tokens_are_drawn_in_training_only() -> None:
    net, x = randomise(MambaIRv2Light(**TINY[MambaIRv2Light])), torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(net.eval()(x), net(x))
        assert not torch.equal(net.train()(x), net(x))


def test_pixels_with_the_same_centre_stay_in_raster_order() -> None:
    """A constant image has one token for all; a network without position then treats all pixels alike."""
    block = CATANet(**TINY[CATANet]).blocks[0][0].eval()
    seen: list[torch.Tensor] = []
    block.iasa_attn.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[1]))
    block(torch.ones(1, 8, 40, 40))
    assert torch.equal(seen[0][0], torch.arange(1600))


def test_published_arguments_of_asid() -> None:
    published = {"upsampling": 3, "res_num": 8, "block_num": 1, "bias": True, "pe": True, "window_size": 8}
    net = ASIDd8(feature_num=16, module_params={**published, "block_script_name": "IDSA", "ffn_bias": True})
    assert net.upsampling == 3
    assert net.input.out_channels == 16
    with pytest.raises(TypeError, match="num_feats"):
        ASIDd8(num_feats=16)
    with pytest.raises(ValueError, match="window_size must be 8"):
        ASIDd8(window_size=16)


@pytest.mark.parametrize(
    ("network", "argument", "value"),
    [
        (MambaIR, "embed_dim", 20),
        (MambaIR, "depths", []),
        (MambaIR, "upscale", 0),
        (MambaIR, "d_state", 0),
        (MambaIR, "drop_path_rate", 1.5),
        (MambaIR, "upsampler", "nearest+conv"),
        (MambaIR, "resi_connection", "2conv"),
        (MambaIRv2Light, "num_heads", [5]),
        (MambaIRv2Light, "window_size", 1),
        (MambaIRv2Light, "mlp_ratio", 0.1),
        (MambaIRv2Light, "num_tokens", 0),
        (ASID, "num_feat", 18),
        (ASID, "upsampling", 0),
        (ASID, "block_num", 2),
        (CATANet, "upscale", 5),
        (CATANet, "qk_dim", 9),
        (CATANet, "n_iters", [5]),
        (CATANet, "patch_size", [2, 6]),
    ],
)
def test_wrong_arguments_are_named(network: type[nn.Module], argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=argument):
        network(**{**TINY[network], argument: value})


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (3, 8, 8), (1, 3, 0, 8)])
def test_wrong_input_is_named(network: type[nn.Module], shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        network(**TINY[network])(torch.rand(shape))
