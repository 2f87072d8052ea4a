"""The compiled GELU, and its gradient, compute what the definition says."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from conftest import Watch, needs_kernels, randomise, relative_difference
from torch.library import opcheck

from esc_arch.archs import ESC
from esc_arch.fast import speedups
from esc_arch.fast.compiled_gelu import gelu, pays
from esc_arch.fast.speedups import Speedups

pytestmark = needs_kernels


def numbers(count: int) -> torch.Tensor:
    """Small numbers and large ones, and those between which GELU bends."""
    large = 10 ** torch.linspace(-30, 30, 61)
    return torch.cat([torch.linspace(-12, 12, count - 122), large, -large])


@pytest.mark.parametrize("count", [4096, 4097, 4159])  # whole blocks, and what is left
def test_values_and_gradients(lanes: int, count: int) -> None:
    x, weight = numbers(count), torch.randn(count)
    exact = x.double().requires_grad_()
    expected = F.gelu(exact)
    (slope,) = torch.autograd.grad((expected * weight).sum(), exact)
    error = (torch.ops.esc_arch.gelu(x) - expected).abs()
    size = x.abs().double()
    assert (error <= 4e-7 * size.clamp(max=1)).logical_or(error <= 4e-7 * expected.abs()).all()
    gradient = torch.ops.esc_arch.gelu_gradient(weight, x)
    assert ((gradient - slope).abs() <= 6e-7 * weight.abs() + 1e-30).all()


@pytest.mark.parametrize("count", [4096, 4097, 4159])
def test_bf16(lanes: int, count: int) -> None:
    """Computed in float32, and rounded once, as PyTorch does."""
    x, weight = numbers(count).bfloat16(), torch.randn(count).bfloat16()
    torch.testing.assert_close(torch.ops.esc_arch.gelu(x), F.gelu(x.float()).bfloat16(), rtol=2**-7, atol=1e-6)
    expected = torch.ops.aten.gelu_backward(weight.float(), x.float())
    torch.testing.assert_close(torch.ops.esc_arch.gelu_gradient(weight, x).float(), expected, rtol=2**-8, atol=1e-6)


def test_not_a_number_shows(lanes: int) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.zeros(40, dtype=dtype)
        x[7] = x[39] = float("nan")
        assert torch.ops.esc_arch.gelu(x).isnan().nonzero().flatten().tolist() == [7, 39]
        assert torch.ops.esc_arch.gelu_gradient(torch.ones_like(x), x).isnan().nonzero().flatten().tolist() == [7, 39]


@pytest.mark.parametrize("last", [True, False])
def test_layouts(last: bool) -> None:
    """Results lie as what comes in, and gradients of any layout are taken."""
    x = torch.randn(2, 5, 7, 3)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    out, grad = torch.ops.esc_arch.gelu(x), torch.randn(2, 7, 3, 5).permute(0, 3, 1, 2)
    assert out.stride() == x.stride()
    torch.testing.assert_close(out, F.gelu(x))
    for other in (grad, grad.contiguous(), torch.ones(1).expand(2, 5, 7, 3)):
        torch.testing.assert_close(torch.ops.esc_arch.gelu_gradient(other, x), torch.ops.aten.gelu_backward(other, x))


def test_operators() -> None:
    opcheck(torch.ops.esc_arch.gelu.default, (torch.randn(3, 5).requires_grad_(),))
    opcheck(torch.ops.esc_arch.gelu_gradient.default, (torch.randn(3, 5), torch.randn(3, 5)))


def test_second_derivatives() -> None:
    x = torch.randn(30).requires_grad_()

    def second(activation) -> torch.Tensor:  # type: ignore[no-untyped-def]
        (first,) = torch.autograd.grad(activation(x).square().sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), x)[0]

    torch.testing.assert_close(second(gelu), second(F.gelu))


def test_training_uses_it() -> None:
    net, x = randomise(ESC(n_blocks=1, conv_blocks=2)).train(), torch.rand(1, 3, 20, 24)

    def gradients() -> list[torch.Tensor]:
        return list(torch.autograd.grad(net(x).square().sum(), list(net.parameters())))

    with Watch() as watch:
        actual = gradients()
    assert watch.names.count("esc_arch::gelu") == watch.names.count("esc_arch::gelu_gradient") == 6
    with speedups.use(Speedups(kernels=False)), Watch() as watch:
        expected = gradients()
    assert "esc_arch::gelu" not in watch.names
    for gradient, reference in zip(actual, expected, strict=True):
        assert relative_difference(gradient, reference) <= 1e-4


def test_what_it_is_not_for() -> None:
    x = torch.randn(2, 5, 7, 3)
    assert pays(x)
    assert pays(x.bfloat16())
    assert not any(pays(x.to(dtype)) for dtype in (torch.float64, torch.float16))
    assert not pays(x[..., ::2])
    assert not pays(x.to("meta"))
    with torch.no_grad():
        assert not pays(x)
    torch.testing.assert_close(gelu(x[..., ::2]), F.gelu(x[..., ::2]))


def test_what_does_not_fit_is_refused() -> None:
    """Rather than memory beyond the end being read."""
    x = torch.randn(2, 5, 7, 3)
    for wrong in (x[..., ::2], x.double()):
        with pytest.raises(RuntimeError, match="esc_arch::gelu is for float32 and bfloat16"):
            torch.ops.esc_arch.gelu(wrong)
    for wrong in (x[:1], x.double()):
        with pytest.raises(RuntimeError, match="gelu_gradient needs"):
            torch.ops.esc_arch.gelu_gradient(wrong, x)
