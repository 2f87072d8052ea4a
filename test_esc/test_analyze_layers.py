"""The layers that are found in every network of an option file, and of the registry beyond."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import OPTIONS
from torch import nn

from esc_arch.analyze import networks
from esc_arch.analyze.layers import Layer, find_layers, watched
from esc_arch.analyze.networks import Subject
from esc_arch.checks.network_file import read_network_file, scale_of
from esc_arch.checks.networks import build_checked
from esc_arch.common.errors import UserError

# modules behind which the layers are, of the option files at x2 in options/peers/
PEERS: dict[str, dict[str, int]] = {
    "ASID_D8": {"ASIDBlock": 8},
    "ATD_light": {"ATDTransformerLayer": 24},
    "CATANet": {"TokenAggregationBlock": 8, "LocalRegionAttention": 8},
    "Compact": {"Conv2d": 32},
    "EDSR": {"ResidualBlockNoBN": 16},
    "ELAN_light": {"ELANBlock": 12},
    "HAT": {"HAB": 36},
    "HAT_S": {"HAB": 36},
    "HiT_SIR": {"HiTBlock": 24},
    "HiT_SNG": {"NGramBlock": 24},
    "HiT_SRF": {"HiTBlock": 24},
    "MambaIR_light": {"MambaBlock": 24},
    "MambaIRv2_light": {"AttentiveLayer": 20},
    "OmniSR": {"OSAG": 5},
    "PLKSR_tiny": {"PLKBlock": 12},
    "RCAN": {"RCAB": 200},
    "RDN": {"RDB": 16},
    "SAFMN": {"AttBlock": 8},
    "SPAN": {"SPAB": 6},
    "SRFormer_light": {"PSA_Block": 24},
    "SeemoRe_T": {"ResGroup": 6},
    "SwinIR_light": {"SwinTransformerBlock": 24},
}
# attentions and ConvAttn of the ESC family
OWN: dict[str, dict[str, int]] = {
    "test_ESC_x2": {"WindowAttention": 5, "ConvAttn": 25},
    "test_ESC_light_x2": {"WindowAttention": 3, "ConvAttn": 15},
    "test_ESC_FP_x2": {"WindowAttention": 5, "DecomposedConvAttn": 25},
    "test_ESC_FB_R48_x2": {"FlashBiasAttention": 5, "ConvAttn": 25},
    "test_ESC_RIB_x2": {"ImplicitBiasAttention": 5, "ConvAttn": 25},
    "test_ESC_XL_x2": {"WindowAttention": 8, "ConvAttn": 40},
    "test_ESC_RealM_x2": {"WindowAttention": 10, "ConvAttn": 50},
    "test_ESC_Real_x4": {"WindowAttention": 10, "ConvAttn": 50},
    "test_ESC_LTE": {"WindowAttention": 5, "ConvAttn": 25},
    "train_ESC_x2_attention_only": {"WindowAttention": 5, "AttentionLayer": 25},
    "train_ESC_x2_conv_attn_only": {"AblatedConvAttn": 30},
    "train_ESC_x2_kernel9": {"WindowAttention": 5, "ConvAttn": 25},
    "train_ESC_x2_kernel17": {"WindowAttention": 5, "ConvAttn": 25},
    "train_ESC_x2_no_dynamic": {"WindowAttention": 5, "AblatedConvAttn": 25},
    "train_ESC_x2_no_dynamic_no_sharing": {"WindowAttention": 5, "AblatedConvAttn": 25},
    "train_ESC_x2_window16": {"WindowAttention": 6, "ConvAttn": 30},
}
TRANSFORMER: dict[str, Any] = {"upscale": 2, "img_size": 16, "embed_dim": 16, "depth": [2, 3], "num_heads": [2, 2]}
IN_AND_OUT = {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 8}
# networks of the registry without an option file at x2 in options/peers/
OTHERS: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "DAT": (
        {"type": "DAT", **TRANSFORMER, "split_size": [4, 8], "expansion_factor": 2, "upsampler": "pixelshuffledirect"},
        {"DATB": 5},
    ),
    "RGT": ({"type": "RGT", **TRANSFORMER, "split_size": [4, 8], "mlp_ratio": 2, "c_ratio": 0.5}, {"Block": 5}),
    "RRDBNet": (
        {"type": "RRDBNet", **IN_AND_OUT, "num_block": 2, "num_grow_ch": 4, "scale": 2},
        {"ResidualDenseBlock": 6},
    ),
    "MSRResNet": ({"type": "MSRResNet", **IN_AND_OUT, "num_block": 3, "upscale": 2}, {"ResidualBlockNoBN": 3}),
    "ECBSR": (
        {"type": "ECBSR", "num_in_ch": 3, "num_out_ch": 3, "num_block": 3, "num_channel": 8, "with_idt": False,
         "act_type": "prelu", "scale": 2},
        {"ECB": 3},
    ),
    "RIDNet": (
        {"type": "RIDNet", "in_channels": 3, "mid_channels": 16, "out_channels": 3, "num_block": 3},
        {"EAM": 3},
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _small_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "PROBE", 16)


def counted(found: list[Layer], network: nn.Module) -> dict[str, int]:
    """How many layers there are, by the classes of the modules that they are named after."""
    modules = dict(network.named_modules())
    names = [type(modules[layer.name]).__name__ for layer in found]
    return {name: names.count(name) for name in dict.fromkeys(names)}


def subject(content: dict[str, Any], scale: int) -> Subject:
    try:
        network = build_checked(content, "network_g")
    except UserError as error:
        if "is not installed" not in str(error):
            raise
        pytest.skip(str(error))
    if content["type"] == "ESCLTE":
        network.upscaling_factor = scale  # type: ignore[assignment]
    window = 1 if getattr(network, "pads_itself", False) else content.get("window_size", 1)
    usable = window if isinstance(window, int) and window > 0 else 1
    return Subject(content["type"], network.eval().requires_grad_(False), scale, usable)


def assert_layers(it: Subject, expected: dict[str, int]) -> None:
    layers = find_layers(it)
    assert counted(layers, it.network) == expected
    with torch.no_grad(), watched(it, layers) as features:
        it.probe()
    assert len({image.shape for image in features.images}) == 1


def test_every_network_is_listed() -> None:
    assert {file.stem for file in (OPTIONS / "peers").glob("test_*_x2.yml")} == {f"test_{name}_x2" for name in PEERS}
    assert {file.stem for file in (OPTIONS / "ablation").glob("*.yml")} <= OWN.keys()
    assert {file.stem for file in OPTIONS.glob("test_*_x2.yml")} <= OWN.keys()


@pytest.mark.parametrize("name", [*(f"peers/test_{name}_x2" for name in PEERS), *OWN])
def test_layers_of_option_files(name: str) -> None:
    folder = OPTIONS / "ablation" if name.startswith("train_") else OPTIONS
    file = str(folder / f"{name}.yml")
    content = read_network_file(file)
    stem = Path(name).name
    expected = OWN[stem] if stem in OWN else PEERS[stem.removeprefix("test_").removesuffix("_x2")]
    assert_layers(subject(content["network_g"], 2 if "LTE" in name else scale_of(file, content)), expected)


@pytest.mark.parametrize("name", OTHERS)
def test_layers_of_others_in_the_registry(name: str) -> None:
    content, expected = OTHERS[name]
    assert_layers(subject(content, 1 if name == "RIDNet" else 2), expected)


class Residual(nn.Module):
    """A residual block; a class, since sequences of single operations are no layers."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


class Other(Residual):
    """Another kind of block."""


def convolution() -> nn.Conv2d:
    return nn.Conv2d(4, 4, 3, padding=1)


class Frame(nn.Module):
    """A network with a trunk of 4 channels."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.head, self.blocks, self.tail = nn.Conv2d(3, 4, 1), nn.ModuleList(blocks), nn.Conv2d(4, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.head(x)
        for block in self.blocks:
            x = block(x)
        return self.tail(x)


@pytest.mark.parametrize(
    ("block", "names"),
    [
        # what is repeated within a block, with another kind between, are its parts
        (
            lambda: nn.Sequential(
                Residual(convolution()), Residual(convolution()), Other(convolution()), Residual(convolution()),
                convolution(),
            ),
            ["blocks.0", "blocks.1", "blocks.2"],
        ),
        # pairs of two kinds are taken apart, where nothing else is within
        (
            lambda: nn.Sequential(Residual(convolution()), Other(convolution())),
            [f"blocks.{block}.{part}" for block in range(3) for part in (0, 1)],
        ),
        # a chain within each block is the innermost
        (
            lambda: Residual(Residual(convolution()), Residual(convolution()), convolution()),
            [f"blocks.{block}.body.{part}" for block in range(3) for part in (0, 1)],
        ),
    ],
    ids=["parts", "pairs", "chains"],
)  # fmt: skip
def test_which_modules_are_layers(block: Any, names: list[str]) -> None:
    it = Subject("it", Frame(*(block() for _ in range(3))).eval().requires_grad_(False), 1)
    assert [layer.name for layer in find_layers(it)] == names
