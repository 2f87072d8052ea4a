"""The compiled kernels are operators of PyTorch in every respect: schema, shapes, gradients, dispatch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import needs_kernels
from torch.library import opcheck

from esc_arch.fast.kernels.large_kernel import transformed
from esc_arch.layers.conv_attn import average_over_square

pytestmark = needs_kernels
OPERATORS = torch.ops.esc_arch


def last(*shape: int) -> torch.Tensor:
    return torch.randn(shape).contiguous(memory_format=torch.channels_last)


def attention(batch: int = 1, depth: int = 4, heads: int = 2, window: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries, keys and values of two windows, and biases."""
    qkv = last(batch, 3 * heads * depth, window, 2 * window)
    return qkv.requires_grad_(), torch.randn(heads, (2 * window - 1) ** 2, requires_grad=True)


@pytest.mark.parametrize("keep_sums", [True, False])
@pytest.mark.parametrize("batch", [1, 2])
def test_attend(batch: int, keep_sums: bool) -> None:
    opcheck(OPERATORS.attend.default, (*attention(batch), 16, 2, keep_sums))


def test_attend_gradients() -> None:
    qkv, table = (tensor.detach() for tensor in attention(2))
    out, sums = OPERATORS.attend(qkv, table, 16, 2, True)
    opcheck(OPERATORS.attend_gradients.default, (last(*out.shape), qkv, table, out, sums, 16, 2))


@pytest.mark.parametrize("keep_sums", [True, False])
def test_attend_has_the_gradients_of_its_values(keep_sums: bool) -> None:
    """In single precision, the only one that it has: with large steps and few digits."""
    inputs = attention()
    assert torch.autograd.gradcheck(
        lambda *tensors: OPERATORS.attend(*tensors, 16, 2, keep_sums)[0],
        inputs, eps=1e-2, atol=1e-2, rtol=1e-2, fast_mode=True,
    )  # fmt: skip


def test_second_derivatives_are_refused() -> None:
    qkv, table = attention()
    out = OPERATORS.attend(qkv, table, 16, 2, True)[0]
    (grad,) = torch.autograd.grad(out.square().sum(), qkv, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivatives; attn_type 'Naive' has"):
        grad.sum().backward()


def writing() -> dict[str, tuple[Any, ...]]:
    """Arguments of the operators that write to memory that they are given."""
    x, out, rest = last(2, 8, 9, 20), last(2, 8, 9, 20), last(2, 3, 9, 20)
    inner = torch.randn(10, 8, 1, 1), torch.randn(10), torch.randn(10, 1, 3, 3), torch.randn(10)
    outer = torch.randn(11, 10, 1, 1), torch.randn(11)
    kernel = transformed(average_over_square(torch.randn(4, 4, 13, 13)), 10)
    head, detour = last(2, 4, 9, 20), torch.randn(8, 4, 1, 1)
    return {
        "conv_ffn": (x, torch.randn(8), torch.randn(8), 1e-6, *inner, *outer, last(2, 8, 9, 20), out, rest),
        "products": (out, head, detour, torch.randn(8), torch.randn(4), torch.randn(4), 1e-6),
        "depthwise": (out, head, torch.randn(2, 4, 5, 5), detour),
        "large_kernel": (out, head, torch.randn(2, 4, 3, 3), detour, *kernel),
    }


@pytest.mark.parametrize("name", ["conv_ffn", "products", "depthwise", "large_kernel"])
def test_operators_that_write(name: str) -> None:
    opcheck(getattr(OPERATORS, name).default, writing()[name])


def test_conv_ffn_without_what_is_optional() -> None:
    """Without normalisation and without a skip."""
    x, _, _, epsilon, *weights, _, out, rest = writing()["conv_ffn"]
    opcheck(OPERATORS.conv_ffn.default, (x, None, None, epsilon, *weights, None, out, rest))


@pytest.mark.parametrize("missing", [1, 2])
def test_half_a_normalisation_is_refused(missing: int) -> None:
    """Rather than memory at address zero being read."""
    given = list(writing()["conv_ffn"])
    given[missing] = None
    with pytest.raises(RuntimeError, match="conv_ffn normalises with both scale and shift"):
        OPERATORS.conv_ffn(*given)


def test_no_results_are_no_results() -> None:
    out, x = last(2, 0, 9, 20), last(2, 4, 9, 20)
    OPERATORS.products(out, x, torch.randn(0, 4, 1, 1))
    OPERATORS.depthwise(out, x, torch.randn(2, 4, 5, 5), torch.randn(0, 4, 1, 1))
    assert out.numel() == 0
