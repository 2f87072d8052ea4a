"""The compiled depthwise convolution of ESC-FP computes what the definition says."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from conftest import Watch, needs_kernels, randomise, relative_difference

from esc_arch.fast import compiled_depthwise, kernels, speedups
from esc_arch.fast.speedups import Speedups
from esc_arch.layers.conv_attn import ConvAttn, averaged_kernel, dynamic_depthwise
from esc_arch.layers.decomposed_conv_attn import DecomposedConvAttn, new_decomposed_kernel

pytestmark = needs_kernels
needs_bf16 = pytest.mark.skipif(not kernels.has_bf16(), reason="needs a processor with AVX512_BF16")
ROUNDING = 2**-8  # of bf16: twice the largest relative error


def last(*shape: int) -> torch.Tensor:
    return torch.randn(shape).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("shape", "results", "side"),
    [
        ((1, 16, 40, 41), 48, 13),  # as in ESC-FP: tiles of which the last is one pixel wide
        ((2, 5, 3, 16), 7, 13),  # lower than the kernel, and nothing fills a vector
        ((1, 20, 33, 25), 64, 3),  # several vectors of channels
        ((3, 16, 1, 100), 130, 5),  # more results than registers
        ((1, 1, 65, 19), 1, 1),
    ],
)
def test_depthwise(lanes: int, shape: tuple[int, ...], results: int, side: int) -> None:
    x, out = last(*shape), last(shape[0], results, *shape[2:])
    weight, detour = torch.randn(*shape[:2], side, side), torch.randn(results, shape[1], 1, 1)
    convolved = dynamic_depthwise(x.double(), weight.double())
    expected = out.double() + F.conv2d(convolved, detour.double())
    torch.ops.esc_arch.depthwise(out, x, weight, detour)
    assert relative_difference(out.double(), expected) <= 2e-6


@needs_bf16
def test_bf16_rounds_the_product_only() -> None:
    x, out, weight, detour = (
        last(1, 16, 20, 30),
        last(1, 48, 20, 30),
        torch.randn(1, 16, 13, 13),
        torch.randn(48, 16, 1, 1),
    )
    expected = out + F.conv2d(dynamic_depthwise(x, weight).bfloat16().float(), detour.bfloat16().float())
    torch.ops.esc_arch.depthwise(out, x, weight, detour, True)
    assert relative_difference(out, expected) <= ROUNDING / 20  # where sums are near the middle of two numbers


@pytest.mark.parametrize("threads", [1, 3, 40])
def test_threads_change_nothing(threads: int) -> None:
    x, weight, detour = last(2, 8, 35, 50), torch.randn(2, 8, 13, 13), torch.randn(12, 8, 1, 1)

    def computed() -> torch.Tensor:
        out = torch.zeros(2, 12, 35, 50).contiguous(memory_format=torch.channels_last)
        torch.ops.esc_arch.depthwise(out, x, weight, detour)
        return out

    before, expected = torch.get_num_threads(), computed()
    torch.set_num_threads(threads)
    try:
        assert torch.equal(computed(), expected)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("size", [(20, 16), (9, 45)])
def test_conv_attn(size: tuple[int, int]) -> None:
    """Beside what passes through it, which is not added here."""
    convolution, x = randomise(DecomposedConvAttn(12, 8, owns_kernel=False)), last(2, 8, *size)
    kernel = new_decomposed_kernel(8, 13)
    out = last(2, 12, *size)
    with torch.no_grad():
        assert compiled_depthwise.pays(x, convolution, kernel)
        expected = out + F.conv2d(convolution.plk(x, kernel), convolution.aggr.weight[:, :8])
        with Watch() as watch:
            compiled_depthwise.add_conv_attn(out, x, convolution, kernel)
    assert "esc_arch::depthwise" in watch.names
    assert relative_difference(out, expected) <= 1e-5


def test_divergence_shows() -> None:
    x, out = last(1, 4, 9, 20), torch.zeros(1, 4, 9, 20).contiguous(memory_format=torch.channels_last)
    x[0, 2, 4, 10] = float("nan")
    torch.ops.esc_arch.depthwise(out, x, torch.randn(1, 4, 3, 3), torch.randn(4, 4, 1, 1))
    assert out.isnan().any(1).sum() == 9


def test_what_it_is_not_for() -> None:
    convolution, kernel = DecomposedConvAttn(12, 8, owns_kernel=False), new_decomposed_kernel(8, 13)
    with torch.no_grad():
        assert compiled_depthwise.pays(last(1, 8, 16, 16), convolution, kernel)
        assert not compiled_depthwise.pays(last(1, 8, 16, 15), convolution, kernel)
        assert not compiled_depthwise.pays(last(1, 8, 16, 16), convolution, tuple(part.double() for part in kernel))
        shared = averaged_kernel(torch.randn(8, 8, 13, 13))
        assert not compiled_depthwise.pays(last(1, 8, 16, 16), ConvAttn(12, 8, owns_kernel=False), shared)


def test_layers_use_it() -> None:
    """Where the kernels are not switched off."""
    from esc_arch.archs import ESCFP

    net, x = randomise(ESCFP(n_blocks=1, conv_blocks=2)).eval(), torch.rand(1, 3, 20, 24)
    with torch.no_grad(), Watch() as watch:
        actual = net(x)
    assert watch.names.count("esc_arch::depthwise") == 2
    with torch.no_grad(), speedups.use(Speedups(kernels=False)), Watch() as watch:
        expected = net(x)
    assert "esc_arch::depthwise" not in watch.names
    assert relative_difference(actual, expected) <= 1e-5


def test_what_does_not_fit_is_refused() -> None:
    """Rather than memory beyond the end being read or written."""
    x, out, weight, detour = last(1, 8, 9, 16), last(1, 4, 9, 16), torch.randn(1, 8, 3, 3), torch.randn(4, 8, 1, 1)
    torch.ops.esc_arch.depthwise(out, x, weight, detour)
    for wrong in (
        (out, x[..., :15].contiguous(memory_format=torch.channels_last), weight, detour),
        (last(1, 4, 9, 17), x, weight, detour),
        (out, x, weight[:, :7], detour),
        (out, x, weight[..., :2], detour),
        (out, x, weight[..., :2, :2], detour),
        (out, x, weight, detour[:3]),
        (out, x.double(), weight, detour),
        (out, x.contiguous(), weight, detour),
    ):
        with pytest.raises(RuntimeError, match="esc_arch::depthwise"):
            torch.ops.esc_arch.depthwise(*wrong)
