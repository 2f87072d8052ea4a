"""The compiled convolution of ConvAttn computes what the definition says."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from conftest import needs_kernels, randomise, relative_difference

from esc_arch.fast import compiled_large_kernel, kernels, speedups
from esc_arch.fast.kernels.large_kernel import transformed
from esc_arch.fast.one_pass import once
from esc_arch.fast.speedups import Speedups
from esc_arch.layers.conv_attn import ConvAttn, LargeKernel, average_over_square, averaged_kernel
from esc_arch.layers.decomposed_conv_attn import DecomposedConvAttn

pytestmark = needs_kernels


def last(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def expected(out: torch.Tensor, x: torch.Tensor, convolution: ConvAttn, weight: torch.Tensor) -> torch.Tensor:
    """Follow the definition in double precision."""
    convolution, pdim = convolution.double(), x.shape[1]
    with speedups.use(Speedups.none()):
        mixed = convolution.plk(x.double(), LargeKernel(weight.double()))
        result = out.double() + F.conv2d(mixed, convolution.aggr.weight[:, :pdim])
    convolution.float()
    return result


@pytest.mark.parametrize(
    ("batch", "dim", "pdim", "height", "width", "size"),
    [
        (1, 64, 16, 40, 33, 13),  # as in ESC
        (2, 20, 4, 17, 16, 13),
        (1, 60, 13, 3, 50, 9),  # fewer rows than the kernel
        (1, 192, 48, 33, 40, 13),
        (1, 70, 48, 64, 90, 11),
        (3, 21, 17, 31, 18, 17),  # channels that fill no vector
        (1, 112, 112, 5, 19, 9),  # more channels than registers
        (1, 8, 8, 1, 16, 13),
    ],
)
def test_large_kernel(lanes: int, batch: int, dim: int, pdim: int, height: int, width: int, size: int) -> None:
    convolution = randomise(ConvAttn(dim, pdim, size, owns_kernel=False))
    out, x = last(torch.randn(batch, dim, height, width)), last(torch.randn(batch, pdim, height, width))
    kernel = averaged_kernel(torch.randn(pdim, pdim, size, size))
    with torch.no_grad():
        assert compiled_large_kernel.pays(x, convolution, kernel)
        reference = expected(out, x, convolution, kernel.weight)
        compiled_large_kernel.add_conv_attn(out, x, convolution, kernel)
    assert relative_difference(out.double(), reference) <= 2e-6


@pytest.mark.parametrize("threads", [1, 3, 40])
def test_threads_change_little(threads: int) -> None:
    """Tiles are as wide as there are threads for them, which changes no sum over a column."""
    convolution, kernel = randomise(ConvAttn(24, 6, owns_kernel=False)), averaged_kernel(torch.randn(6, 6, 13, 13))
    start, x = last(torch.randn(1, 24, 40, 70)), last(torch.randn(1, 6, 40, 70))
    before, results = torch.get_num_threads(), []
    with torch.no_grad():
        for count in (2, threads):
            torch.set_num_threads(count)
            try:
                out = start.clone()
                compiled_large_kernel.add_conv_attn(out, x, convolution, kernel)
            finally:
                torch.set_num_threads(before)
            results.append(out)
    assert relative_difference(*results) <= 1e-6


def test_kernel_is_transformed_once() -> None:
    kernel, calls = averaged_kernel(torch.randn(4, 4, 13, 13)), []
    for _ in range(2):
        assert once(kernel, "key", lambda: calls.append(1) or "value") == "value"
    assert calls == [1]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_divergence_shows(lanes: int, bad: float) -> None:
    convolution, kernel = randomise(ConvAttn(16, 4, owns_kernel=False)), averaged_kernel(torch.randn(4, 4, 13, 13))
    out, x = last(torch.randn(1, 16, 30, 30)), last(torch.randn(1, 4, 30, 30))
    x[0, 1, 12, 9] = bad
    with torch.no_grad():
        compiled_large_kernel.add_conv_attn(out, x, convolution, kernel)
    assert out[0, :, 6:19, 3:16].isnan().all()


def test_what_it_is_not_for() -> None:
    convolution, kernel = ConvAttn(16, 4, owns_kernel=False), averaged_kernel(torch.randn(4, 4, 13, 13))
    x = last(torch.randn(1, 4, 30, 30))
    assert compiled_large_kernel.pays(x, convolution, kernel)
    assert not compiled_large_kernel.pays(x[..., :15], convolution, kernel)
    assert not compiled_large_kernel.pays(x, convolution, LargeKernel(torch.randn(4, 4, 13, 13)))
    assert not compiled_large_kernel.pays(x, convolution, averaged_kernel(torch.randn(4, 4, 7, 7)))
    decomposed = torch.randn(4, 4, 1, 1), torch.randn(4, 1, 13, 13)
    assert not compiled_large_kernel.pays(x, DecomposedConvAttn(16, 4, owns_kernel=False), decomposed)
    with speedups.use(Speedups(transform=False)):
        assert not compiled_large_kernel.pays(x, convolution, kernel)


def test_what_does_not_fit_is_refused() -> None:
    """Rather than memory beyond the end being read."""
    out, x, dynamic = kernels.images(1, 8, 20, 20), kernels.images(1, 4, 20, 20), torch.zeros(1, 4, 3, 3)
    detour, kernel = torch.zeros(8, 4, 1, 1), transformed(average_over_square(torch.randn(4, 4, 13, 13)), 20)
    x.zero_(), out.zero_()
    torch.ops.esc_arch.large_kernel(out, x, dynamic, detour, *kernel)
    assert not out.any()
    for wrong in (
        (out[:, :7], x, dynamic, detour, *kernel),
        (out, x.contiguous(), dynamic, detour, *kernel),
        (out, x, dynamic[:, :3], detour, *kernel),
        (out, x, dynamic, detour[:, :3], *kernel),
        (out.double(), x, dynamic, detour, *kernel),
        (out, x, dynamic, detour, kernel[0][1:], *kernel[1:]),
        (out, x, dynamic, detour, *kernel[:4], kernel[4][:-1]),
        (out[..., :9], x[..., :9], dynamic, detour, *kernel),
    ):
        with pytest.raises(RuntimeError, match="large_kernel"):
            torch.ops.esc_arch.large_kernel(*wrong)
