"""The ablations of the paper: networks that differ from ESC in one choice, and their option files."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import yaml
from conftest import OPTIONS, TINY, option_file, randomise

from esc_arch.archs import ESC, ESCAblation
from esc_arch.checks.networks import build_checked

FILES = sorted((OPTIONS / "ablation").glob("*.yml"))
CHOICES: dict[str, dict[str, Any]] = {  # what each file changes, and nothing else
    "attention_only": {"attention": "every"},
    "conv_attn_only": {"attention": "none"},
    "kernel9": {"kernel_size": 9},
    "kernel17": {"kernel_size": 17},
    "no_dynamic": {"dynamic_kernel": False},
    "no_dynamic_no_sharing": {"dynamic_kernel": False, "shared_kernel": False},
    "window16": {"window_size": 16, "n_blocks": 6},
}
DEFAULTS = {"attention": "first", "dynamic_kernel": True, "shared_kernel": True}


def read(stem: str) -> dict[str, Any]:
    return yaml.safe_load(option_file(stem).read_text())


def conv(inputs: int, outputs: int, side: int, groups: int = 1) -> int:
    """Weights and biases of a convolution."""
    return inputs // groups * outputs * side**2 + outputs


def by_hand(
    kernel_size: int = 13,
    n_blocks: int = 5,
    window_size: int = 32,
    attention: str = "first",
    dynamic_kernel: bool = True,
    shared_kernel: bool = True,
) -> int:
    """Count the parameters of ESC x2 with 64 channels, 16 of them convolved, 4 heads and 5 layers in a block."""
    c, p, heads, layers = 64, 16, 4, 5
    norm, large = 2 * c, p * p * kernel_size**2

    def ffn(hidden: int) -> int:
        return conv(c, hidden, 1) + conv(hidden, hidden, 3, groups=hidden) + conv(hidden, c, 1)

    attend = heads * (2 * window_size - 1) ** 2 + conv(c, 3 * c, 1) + conv(c, c, 1)
    convolve = conv(c, c, 1)
    if dynamic_kernel:
        convolve += conv(p, p // 2, 1) + conv(p // 2, 9 * p, 1)
    if not shared_kernel:
        convolve += large
    first = convolve if attention == "none" else attend
    layer = norm + attend if attention == "every" else convolve
    block = 3 * norm + ffn(2 * c) + first + layers * (ffn(80) + layer) + conv(c, c, 3)
    shared = large if shared_kernel and attention != "every" else 0
    return conv(3, c, 3) + shared + n_blocks * block + conv(c, c, 3) + conv(c, 3 * 4, 3)


def test_there_is_a_file_for_every_ablation() -> None:
    assert {file.stem for file in FILES} == {f"train_ESC_x2_{name}" for name in CHOICES}


@pytest.mark.parametrize("name", CHOICES)
def test_file_differs_in_the_network_only(name: str) -> None:
    ours, base = read(f"train_ESC_x2_{name}"), read("train_ESC_x2_DIV2K")
    expected = {**base["network_g"], "type": "ESCAblation", **DEFAULTS, **CHOICES[name]}
    assert ours.pop("network_g") == expected
    assert ours.pop("name") == f"train_ESC_x2_{name}"
    assert ours == {key: value for key, value in base.items() if key not in ("network_g", "name")}


@pytest.mark.parametrize("name", CHOICES)
def test_parameters_by_hand(name: str) -> None:
    network = build_checked(read(f"train_ESC_x2_{name}")["network_g"], "network_g")
    assert sum(p.numel() for p in network.parameters()) == by_hand(**CHOICES[name])


def test_the_hand_counts_esc(official_counts: dict[str, Any]) -> None:
    assert by_hand() == official_counts["params"]["ESC"]["x2"]


def test_with_the_defaults_it_is_esc() -> None:
    torch.manual_seed(5)
    esc = ESC(**TINY).eval()
    torch.manual_seed(5)
    ablation = ESCAblation(**TINY).eval()
    weights, same = esc.state_dict(), ablation.state_dict()
    assert list(weights) == list(same)
    assert all(torch.equal(weights[key], same[key]) for key in weights)
    randomise(esc)
    ablation.load_state_dict(esc.state_dict())
    x = torch.rand(2, 3, 17, 20)
    for grad in (True, False):  # without gradients other ways are taken
        with torch.set_grad_enabled(grad):
            assert torch.equal(ablation(x), esc(x))


@pytest.mark.parametrize("choice", [choice for choice in CHOICES.values() if choice.keys() & DEFAULTS], ids=str)
def test_one_choice_at_a_time(choice: dict[str, Any]) -> None:
    """A network with other parts computes what ESC does where those parts do the same."""
    esc, other = randomise(ESC(**TINY)).eval(), randomise(ESCAblation(**TINY, **choice)).eval()
    x = torch.rand(2, 3, 17, 20)
    weights = {key: value for key, value in esc.state_dict().items() if key in other.state_dict()}
    other.load_state_dict(weights, strict=False)
    with torch.no_grad():
        for key, value in esc.state_dict().items():
            if ".dwc_proj.3" in key:
                value.zero_()  # the dynamic kernel
        for block, of_esc in zip(other.blocks, esc.blocks, strict=True):
            for layer, convolution in zip(block.pconvs, of_esc.pconvs, strict=True):
                if choice.get("shared_kernel") is False:
                    layer.plk.plk_filter.copy_(esc.plk_filter)
                if choice.get("attention") == "every":  # which then adds nothing, as the ConvAttn
                    for part in (layer.attn.to_out, convolution.aggr):
                        part.weight.zero_(), part.bias.zero_()
            if choice.get("attention") == "none":
                for part in (block.attn.aggr, of_esc.attn.to_out):
                    part.weight.zero_(), part.bias.zero_()
                for layer in block.pconvs:
                    layer.plk.dwc_proj[3].weight.zero_(), layer.plk.dwc_proj[3].bias.zero_()
        torch.testing.assert_close(other(x), esc(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("choice", [{"attention": "every"}, {"attention": "none"}, {"shared_kernel": False}], ids=str)
def test_every_part_counts(choice: dict[str, Any]) -> None:
    network = ESCAblation(**TINY, **choice)
    for name, parameter in network.named_parameters():
        if ".dwc_proj.3" in name:
            torch.nn.init.normal_(parameter)
    network(torch.rand(2, 3, 17, 20)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("arguments", [{"attention": "some"}, {"attn_type": "FlashBias"}, {"pdim": 1}], ids=str)
def test_wrong_arguments(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        ESCAblation(**{**TINY, **arguments})
