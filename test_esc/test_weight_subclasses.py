"""Weights that are kept in another form, by quantisation for one, are left to their layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import TINY, randomise, relative_difference
from torch import nn

from esc_arch.archs import ESC, ESCFP


class Halved(torch.Tensor):
    """Weights kept in half precision that convolve in float32, and are fit for nothing else."""

    @staticmethod
    def __new__(cls, stored: torch.Tensor) -> Halved:
        return torch.Tensor._make_wrapper_subclass(cls, stored.shape, dtype=torch.float32)

    def __init__(self, stored: torch.Tensor) -> None:
        self.stored = stored

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.detach.default:
            return cls(args[0].stored)
        if func is torch.ops.aten.convolution.default:
            return func(*(arg.stored.float() if isinstance(arg, cls) else arg for arg in args))
        return NotImplemented


@pytest.mark.parametrize("network", [ESC, ESCFP])
def test_networks(network: type[nn.Module]) -> None:
    net, x = randomise(network(**TINY)).eval(), torch.rand(1, 3, 12, 12)
    layers = net.blocks[0].convffns[0].proj, net.blocks[0].attn.to_qkv
    with torch.no_grad():
        expected = net(x)
        for layer in layers:
            layer.weight = nn.Parameter(Halved(layer.weight.half()), requires_grad=False)
        assert relative_difference(net(x), expected) <= 1e-2
