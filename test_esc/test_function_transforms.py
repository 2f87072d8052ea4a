"""Derivatives that go forward, and functions that torch.func transforms, are those of the definition."""

from __future__ import annotations

import pytest
import torch
from conftest import TINY, randomise, relative_difference
from torch import nn
from torch.autograd import forward_ad

from esc_arch.archs import ESC, ESCFP


@pytest.mark.parametrize("gradients", [True, False])
def test_derivatives_that_go_forward(gradients: bool) -> None:
    """Ways without such derivatives would leave a part of them out."""
    net = randomise(ESC(**TINY | {"attn_type": "Naive"}))
    x, direction = torch.rand(2, 1, 3, 20, 20)
    with torch.set_grad_enabled(gradients):
        expected = (net(x + 0.01 * direction) - net(x - 0.01 * direction)) / 0.02
        transformed = torch.func.jvp(net, (x,), (direction,))[1]
        with forward_ad.dual_level():
            dual = forward_ad.unpack_dual(net(forward_ad.make_dual(x, direction))).tangent
    for actual in (transformed, dual):
        assert relative_difference(actual.detach(), expected.detach()) <= 1e-3


@pytest.mark.parametrize("network", [ESC, ESCFP])
def test_transformed_functions(network: type[nn.Module]) -> None:
    net, images = randomise(network(**TINY)), torch.rand(2, 1, 3, 20, 20)

    def error(parameters: dict[str, torch.Tensor], image: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(net, parameters, (image,)).square().mean()

    weights = dict(net.named_parameters())
    error(weights, images[0]).backward()
    for name, gradient in torch.func.grad(error)(weights, images[0]).items():
        torch.testing.assert_close(gradient, weights[name].grad, rtol=1e-3, atol=1e-6)
    with torch.no_grad():
        assert relative_difference(torch.vmap(net)(images), net(images[:, 0])[:, None]) <= 1e-5
