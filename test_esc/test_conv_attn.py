"""ConvAttn and its decomposed form: kernels, batches, gradients, use in another network."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from conftest import randomise, relative_difference
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from esc_arch.layers.conv_attn import ConvAttn, average_over_square, dynamic_depthwise
from esc_arch.layers.decomposed_conv_attn import DecomposedConvAttn


def test_average_is_over_rotations_and_mirrors() -> None:
    kernel = torch.randn(3, 2, 5, 5)
    copies = [torch.rot90(k, turns, (-2, -1)) for k in (kernel, kernel.flip(-1)) for turns in range(4)]
    averaged = average_over_square(kernel)
    torch.testing.assert_close(averaged, torch.stack(copies).mean(0))
    for symmetric in (averaged.flip(-1), averaged.flip(-2), averaged.transpose(-1, -2)):
        torch.testing.assert_close(averaged, symmetric)


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 3),
    pdim=st.integers(2, 6),
    size=st.sampled_from([1, 3, 5, 13]),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
)
def test_conv_attn_is_the_two_convolutions(batch: int, pdim: int, size: int, height: int, width: int) -> None:
    """The merged kernel of one image and the batched form both equal the definition, image by image."""
    module = randomise(ConvAttn(8, pdim, size)).double()
    x = torch.randn(batch, 8, height, width, dtype=torch.float64)
    expected = []
    for image in x.split(1):
        head = image[:, :pdim]
        dynamic = module.plk.dwc_proj(head).reshape(pdim, 1, 3, 3)
        kernel = average_over_square(module.plk_filter)
        head = F.conv2d(head, kernel, padding=size // 2) + F.conv2d(head, dynamic, padding=1, groups=pdim)
        expected.append(module.aggr(torch.cat([head, image[:, pdim:]], dim=1)))
    torch.testing.assert_close(module(x), torch.cat(expected))


@settings(max_examples=15, deadline=None)
@given(batch=st.integers(1, 3), size=st.sampled_from([3, 7, 13]), height=st.integers(1, 9), width=st.integers(1, 9))
def test_decomposed_conv_attn_is_the_two_convolutions(batch: int, size: int, height: int, width: int) -> None:
    module = randomise(DecomposedConvAttn(8, 4, size)).double()
    x = torch.randn(batch, 8, height, width, dtype=torch.float64)
    expected = []
    for image in x.split(1):
        head = image[:, :4]
        dynamic = module.plk.proj(head).reshape(4, 1, 3, 3)
        mixed = F.conv2d(head, module.lk_channel)
        head = F.conv2d(mixed, module.lk_spatial, padding=size // 2, groups=4)
        head = head + F.conv2d(mixed, dynamic, padding=1, groups=4)
        expected.append(module.aggr(torch.cat([head, image[:, 4:]], dim=1)))
    torch.testing.assert_close(module(x), torch.cat(expected))


@pytest.mark.parametrize("cls", [ConvAttn, DecomposedConvAttn])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("training", [True, False])
def test_gradients_match_numeric_ones(cls: type[nn.Module], batch: int, training: bool) -> None:
    module = randomise(cls(5, 4, 5)).double().train(training)
    names = [name for name, _ in module.named_parameters()]
    values = tuple(parameter.detach().clone().requires_grad_() for parameter in module.parameters())
    x = torch.randn(batch, 5, 4, 3, dtype=torch.float64, requires_grad=True)

    def function(x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), x)

    assert torch.autograd.gradcheck(function, (x, *values), fast_mode=True)


def test_dynamic_depthwise_uses_a_kernel_per_image_and_channel() -> None:
    x, weight = torch.randn(2, 3, 6, 5), torch.randn(2, 3, 3, 3)
    out = dynamic_depthwise(x, weight)
    for image in range(2):
        for channel in range(3):
            one = F.conv2d(x[image, channel][None, None], weight[image, channel][None, None], padding=1)
            torch.testing.assert_close(out[image, channel], one[0, 0])


def test_shared_kernel_in_another_network() -> None:
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = nn.Parameter(torch.randn(4, 4, 7, 7))
            self.layers = nn.ModuleList(ConvAttn(12, pdim=4, kernel_size=7, owns_kernel=False) for _ in range(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                x = x + layer(x, self.kernel)
            return x

    network = Other()
    network(torch.randn(2, 12, 9, 9)).sum().backward()
    assert network.kernel.grad is not None
    assert network.kernel.grad.abs().sum() > 0
    assert not any("plk_filter" in name for name, _ in network.layers.named_parameters())
    with pytest.raises(ValueError, match="kernel is missing"):
        network.layers[0](torch.randn(1, 12, 9, 9))


def test_dynamic_part_starts_at_zero() -> None:
    module = ConvAttn(8, 4, 5)
    x = torch.randn(2, 8, 6, 6)
    head = F.conv2d(x[:, :4], average_over_square(module.plk_filter), padding=2)
    assert relative_difference(module(x), module.aggr(torch.cat([head, x[:, 4:]], 1))) < 1e-6


@pytest.mark.parametrize("cls", [ConvAttn, DecomposedConvAttn])
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"dim": 8, "pdim": 9}, "pdim"),
        ({"dim": 8, "pdim": 1}, "pdim"),
        ({"dim": 8, "pdim": 4, "kernel_size": 12}, "kernel_size"),
        ({"dim": 0, "pdim": 4}, "dim"),
    ],
)
def test_wrong_arguments(cls: type[nn.Module], arguments: dict[str, int], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        cls(**arguments)


@pytest.mark.parametrize("cls", [ConvAttn, DecomposedConvAttn])
def test_wrong_channels(cls: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match="8"):
        cls(8, 4)(torch.randn(1, 7, 5, 5))
