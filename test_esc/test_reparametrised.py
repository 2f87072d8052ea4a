"""Weights that were saved as what they are computed from are computed, or it is said why they cannot be."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, randomise
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm
from torch.nn.utils.parametrize import register_parametrization

import esc_arch
from esc_arch.archs import ESC
from esc_arch.common.errors import UserError
from esc_arch.weights import read_weights

Weights = dict[str, torch.Tensor]
NORMS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "weight norm of old": weight_norm,
    "weight norm": parametrizations.weight_norm,
    "weight norm along the other axis": lambda layer: parametrizations.weight_norm(layer, dim=1),
    "weight norm of the whole": lambda layer: parametrizations.weight_norm(layer, dim=None),
    "spectral norm of old": spectral_norm,
    "spectral norm": parametrizations.spectral_norm,
    "pruning": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
}


def wrapped(norm: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """A network whose convolutions have a norm, in evaluation."""
    network = randomise(ESC(**TINY))
    image = torch.rand(1, 3, 16, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own, about the older of two forms
        for layer in list(network.modules()):
            if isinstance(layer, nn.Conv2d):
                norm(layer)
    network.train()(image)  # spectral norms find their vectors
    return network.eval()


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("norm", NORMS)
def test_norms_are_merged(tmp_path: Path, norm: str, prefix: str) -> None:
    network = wrapped(NORMS[norm])
    torch.save({prefix + name: tensor for name, tensor in network.state_dict().items()}, tmp_path / "w.pth")
    image = torch.rand(1, 3, 20, 24)
    with torch.no_grad():
        expected, found = network(image), esc_arch.load(tmp_path / "w.pth")(image)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("make", [nn.ConvTranspose2d, nn.Linear])
@pytest.mark.parametrize("norm", NORMS)
def test_norms_of_other_layers(tmp_path: Path, make: Any, norm: str) -> None:
    layer = make(4, 6, 3) if make is nn.ConvTranspose2d else make(4, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        layer = NORMS[norm](layer).train()
    example = torch.rand(2, 4, 5, 5) if make is nn.ConvTranspose2d else torch.rand(2, 4)
    layer(example)
    layer.eval()(example)
    torch.save(layer.state_dict(), tmp_path / "w.pth")
    found = read_weights(str(tmp_path / "w.pth"), names=["weight", "bias"])
    assert found.keys() == {"weight", "bias"}
    assert torch.allclose(found["weight"], layer.weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("norm", ["weight norm", "spectral norm of old"])
def test_in_half_precision(tmp_path: Path, norm: str) -> None:
    network = wrapped(NORMS[norm])
    torch.save({name: tensor.half() for name, tensor in network.state_dict().items()}, tmp_path / "w.pth")
    image = torch.rand(1, 3, 20, 24)
    with torch.no_grad():
        expected, found = network(image), esc_arch.load(tmp_path / "w.pth")(image)
    assert (found - expected).abs().max() <= 1e-2 * expected.abs().max()


def test_parameters_of_such_names_stay(tmp_path: Path) -> None:
    """Attention has `to_v`, and perhaps `to_g`."""
    weights = {f"attn.to_{letter}": torch.rand(3, 3) for letter in "gvqk"}
    torch.save(weights, tmp_path / "w.pth")
    assert read_weights(str(tmp_path / "w.pth")).keys() == weights.keys()


def test_what_a_network_has_itself_stays(tmp_path: Path) -> None:
    """Discriminators have spectral norms."""
    from basicsr.archs.discriminator_arch import UNetDiscriminatorSN

    network = UNetDiscriminatorSN(3, num_feat=8)
    torch.save({"params": network.state_dict()}, tmp_path / "w.pth")
    found = read_weights(str(tmp_path / "w.pth"), names=network.state_dict().keys())
    assert found.keys() == network.state_dict().keys()


class Doubled(nn.Module):
    """Code that makes a weight."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 2 * weight


def state(change: Callable[[Weights], Weights]) -> Weights:
    return change(dict(ESC(**TINY).state_dict()))


def parametrised() -> Weights:
    network = ESC(**TINY)
    register_parametrization(network.proj, "weight", Doubled())
    return dict(network.state_dict())


LAYER = "blocks.0.attn.to_out"


def adapted(weights: Weights) -> Weights:
    """As PEFT writes a model with an adapter."""
    base = {
        f"base_model.model.{name.replace(LAYER, LAYER + '.base_layer')}": tensor for name, tensor in weights.items()
    }
    return base | {f"base_model.model.{LAYER}.lora_{part}.default.weight": torch.zeros(4, 4) for part in "AB"}


REFUSED: dict[str, tuple[Weights, str]] = {
    "adapter of PEFT": (state(adapted), r"adapter \(LoRA: .*lora_A.*merge_and_unload"),
    "adapter alone": ({f"{LAYER}.lora_{part}.weight": torch.zeros(4, 4) for part in ("up", "down")}, r"adapter \(LoRA"),
    "adapter of LyCORIS": ({f"lora_unet_x.hada_w{part}_a": torch.zeros(4, 4) for part in "12"}, r"adapter \(LoRA"),
    "code": (parametrised(), r"holds parts of a weight \(proj\.parametrizations\.weight\.original\).*remove_param"),
    "scales": (
        state(lambda w: {**w, "proj.weight_scale": torch.ones(1)}),
        r"quantised \(proj\.weight_scale is a scale",
    ),
    "scales of ComfyUI": (state(lambda w: {**w, "scaled_fp8": torch.zeros(2)}), "is quantised"),
    "flat": ({"_fsdp_wrapped_module._flat_param": torch.zeros(99)}, r"all parameters in one \(.*FULL_STATE_DICT"),
    "ZeRO": (state(lambda w: {name: torch.empty(0) for name in w}), r"names without numbers \(plk_filter is empty"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_computed_is_told(tmp_path: Path, kind: str) -> None:
    weights, words = REFUSED[kind]
    torch.save(weights, tmp_path / "w.pth")
    with pytest.raises(UserError, match=rf"w\.pth .*{words}"):
        esc_arch.load(tmp_path / "w.pth")
