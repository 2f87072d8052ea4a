"""The discriminator with global attention: its size, its names, and what it computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from basicsr.archs import build_network
from basicsr.archs.discriminator_arch import UNetDiscriminatorSN
from conftest import relative_difference

import esc_arch
from esc_arch.archs.deep_discriminator_arch import DeepUNetDiscriminatorSN, GlobalAttention


def test_published_count(family_counts: dict[str, Any]) -> None:
    assert esc_arch.__version__
    net = build_network({"type": "DeepUNetDiscriminatorSN", "num_in_ch": 3})
    count = sum(parameter.numel() for parameter in net.parameters())
    assert count == family_counts["params"]["DeepUNetDiscriminatorSN"]


def test_names_are_basicsrs_and_those_of_two_attentions() -> None:
    net, base = DeepUNetDiscriminatorSN(3, 8), UNetDiscriminatorSN(3, 8)
    added = set(net.state_dict()) - set(base.state_dict())
    assert set(base.state_dict()) <= set(net.state_dict())
    parts = ("to_qkv.weight", "to_out.bias", "to_out.weight_orig", "to_out.weight_u", "to_out.weight_v")
    assert added == {f"{name}.{part}" for name in ("sa1", "sa2") for part in parts}


def test_attention_is_the_definition() -> None:
    module, x = GlobalAttention(12, 3).eval(), torch.randn(2, 12, 3, 5)
    q, k, v = module.to_qkv(x).flatten(2).split(12, dim=1)  # (B, C, H * W)
    out = torch.empty(2, 12, 15)
    for head in range(3):
        part = slice(4 * head, 4 * head + 4)
        weights = (torch.einsum("bcq,bck->bqk", q[:, part], k[:, part]) / 2).softmax(-1)
        out[:, part] = torch.einsum("bqk,bck->bcq", weights, v[:, part])
    expected = module.to_out(out.reshape(2, 12, 3, 5))
    assert relative_difference(module(x), expected) <= 1e-5


@pytest.mark.parametrize("skip_connection", [True, False])
@torch.no_grad()
def test_without_attention_it_is_basicsrs(skip_connection: bool) -> None:
    """Attention that gives nothing leaves one skip connection less."""
    net = DeepUNetDiscriminatorSN(3, 4, skip_connection).eval()
    base = UNetDiscriminatorSN(3, 4, skip_connection).eval()
    base.load_state_dict({name: tensor for name, tensor in net.state_dict().items() if not name.startswith("sa")})
    x = torch.rand(2, 3, 24, 16)
    net.sa2.to_out = torch.nn.Conv2d(32, 32, 1)
    for parameter in net.sa2.to_out.parameters():
        parameter.zero_()
    net.sa1.forward = lambda x: x  # as BasicSR's skip connection
    assert relative_difference(net(x), base(x)) <= 1e-6
    assert net(x).shape == (2, 1, 24, 16)


def test_every_parameter_is_trained() -> None:
    net = DeepUNetDiscriminatorSN(3, 4)
    net(torch.rand(1, 3, 16, 16)).square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
