"""bf16 on a CPU: near fp32, by the compiled kernels, and not at all where the processor has no instructions for it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from conftest import TINY, Watch, randomise, relative_difference
from torch import nn
from torch.library import opcheck

from esc_arch.archs import ESC, ESCFP, ESCReal
from esc_arch.common.precision import choose_dtype
from esc_arch.fast import compiled_attention, compiled_ffn, compiled_large_kernel, kernels, reduced, speedups
from esc_arch.fast.kernels import loading
from esc_arch.fast.kernels.large_kernel import transformed
from esc_arch.fast.speedups import Speedups
from esc_arch.layers.backend import image_attention
from esc_arch.layers.conv_attn import ConvAttn, LargeKernel, average_over_square, averaged_kernel
from esc_arch.layers.ffn import ConvFFN
from esc_arch.layers.norm import LayerNorm
from esc_arch.layers.window import RelativePositionBias

needs_bf16 = pytest.mark.skipif(not kernels.has_bf16(), reason="needs the kernels, and a processor with AVX512_BF16")
ROUNDING = 2**-8  # of bf16: twice the largest relative error


def in_bf16() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


def last(*shape: int) -> torch.Tensor:
    return torch.randn(shape).contiguous(memory_format=torch.channels_last)


@needs_bf16
@pytest.mark.parametrize("network", [ESC, ESCFP])
@pytest.mark.parametrize("shape", [(1, 3, 50, 70), (2, 3, 33, 20), (1, 3, 7, 5), (1, 3, 2, 64)])
def test_networks(network: type[nn.Module], shape: tuple[int, ...]) -> None:
    net, x = randomise(network(n_blocks=2, conv_blocks=2)).eval(), torch.rand(shape)
    with torch.no_grad():
        expected = net(x)
        with in_bf16(), Watch() as watch:
            actual = net(x)
    assert actual.dtype == torch.float32
    assert relative_difference(actual, expected) <= 3 * ROUNDING
    if shape[3] >= 16:  # narrower images are left to fp32
        assert "esc_arch::attend" in watch.names or shape[2] < 20  # padding lays two rows out in another way
        assert watch.names.count("esc_arch::conv_ffn") == 6
        assert not torch.equal(actual, expected)


@needs_bf16
def test_closer_than_rounding_everything() -> None:
    """Features, the skips and sums are not rounded: the error is far below that of a network in bf16."""
    net, x = randomise(ESC(n_blocks=3, conv_blocks=3)).eval(), torch.rand(1, 3, 40, 40)
    with torch.no_grad():
        expected = net(x)
        with in_bf16():
            actual = net(x)
            with speedups.use(Speedups.none()):
                plain = net(x)  # PyTorch's autocast
    assert (actual - expected).square().mean() < 0.5 * (plain - expected).square().mean()


@pytest.mark.parametrize("how", ["another processor", "narrow vectors"])
def test_without_instructions(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """All is computed as in fp32, bit by bit, under autocast too."""
    net, x = randomise(ESC(n_blocks=1, conv_blocks=2)).eval(), torch.rand(1, 3, 40, 33)
    library = loading.library()
    if how == "another processor":
        monkeypatch.setattr(kernels, "has_bf16", lambda: False)
    elif how == "narrow vectors":
        if library is None:
            pytest.skip("the kernels were not compiled")
        library.esc_lanes(8)
    try:
        with torch.no_grad():
            features = net.extract(x, net_kernel(net))
            with in_bf16():
                assert not reduced.active()
                assert torch.equal(net.extract(x, net_kernel(net)), features)
        dtype, remark = choose_dtype("bf16", "cpu")
        assert dtype == "fp32"
        assert remark is not None
        assert "computing in fp32" in remark
    finally:
        if library is not None:
            library.esc_lanes(loading.WIDEST)


def net_kernel(net: nn.Module) -> LargeKernel:
    return averaged_kernel(net.plk_filter)


@needs_bf16
@pytest.mark.parametrize(("window", "heads", "depth"), [(32, 2, 16), (16, 3, 12), (48, 1, 8), (16, 2, 2), (16, 1, 20)])
@pytest.mark.parametrize("spread", [1, 6])
def test_attention(window: int, heads: int, depth: int, spread: float) -> None:
    """With scores near each other, and with some so far apart that sums are scaled anew; heads of 20 go by float."""
    qkv = (spread * last(2, 3 * heads * depth, 2 * window, window)).bfloat16()
    bias = RelativePositionBias(torch.randn(heads, (2 * window - 1) ** 2), window)
    exact = RelativePositionBias(bias.table.double(), window)
    with torch.no_grad(), in_bf16():
        assert compiled_attention.pays(qkv, bias)
        actual = image_attention(qkv, bias, heads)
    assert actual.dtype == torch.bfloat16
    expected = image_attention(qkv.double(), exact, heads, "Naive")
    assert relative_difference(actual.double(), expected) <= ROUNDING * (1 if depth == 20 else 2)


@needs_bf16
@pytest.mark.parametrize("threads", [1, 3, 40])
def test_threads_change_nothing(threads: int) -> None:
    qkv, table = last(1, 48, 32, 32).bfloat16(), torch.randn(1, 31 * 31)
    before, results = torch.get_num_threads(), []
    for count in (2, threads):
        torch.set_num_threads(count)
        try:
            results.append(torch.ops.esc_arch.attend(qkv, table, 16, 1, True))
        finally:
            torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


@needs_bf16
def test_attention_has_the_gradients_of_fp32() -> None:
    """Those of the values that were rounded."""
    qkv, table = last(1, 48, 32, 32).bfloat16(), torch.randn(1, 31 * 31)
    gradients = []
    for inputs in ((qkv.clone().requires_grad_(), table.clone().requires_grad_()),
                   (qkv.float().requires_grad_(), table.clone().requires_grad_())):  # fmt: skip
        out = torch.ops.esc_arch.attend(*inputs, 16, 1, True)[0]
        gradients.append(torch.autograd.grad(out.float().square().sum(), inputs))
    for rounded, exact in zip(*gradients, strict=True):
        assert relative_difference(rounded.float(), exact) <= 4 * ROUNDING
    assert gradients[0][0].dtype == torch.bfloat16


@needs_bf16
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_divergence_shows(bad: float) -> None:
    qkv = last(1, 24, 16, 32).bfloat16()
    qkv[0, 8, 3, 5] = bad  # a key of the first window
    table = torch.zeros(1, 31 * 31)
    out = torch.ops.esc_arch.attend(qkv, table, 16, 1, False)[0].float()
    expected = image_attention(qkv.float(), RelativePositionBias(table, 16), 1, "Naive")
    assert out[..., :16].isnan().any()
    torch.testing.assert_close(out, expected, equal_nan=True, atol=0.05, rtol=0.05)
    x, ffn = last(1, 8, 20, 20), randomise(ConvFFN(8, 1.25))
    x[0, 3, 7, 9] = bad
    with torch.no_grad(), in_bf16():
        out = compiled_ffn.compiled_ffn(x, nn.Identity(), ffn, ffn.aggr.weight, ffn.aggr.bias)[0]
    assert out.isnan().any(1).sum() == 9


@needs_bf16
@pytest.mark.parametrize(
    ("shape", "ratio"), [((1, 64, 40, 33), 1.25), ((2, 7, 9, 8), 3), ((1, 192, 8, 20), 1.25), ((1, 1, 1, 8), 1)]
)
@pytest.mark.parametrize("normalised", [True, False])
def test_conv_ffn(shape: tuple[int, ...], ratio: float, normalised: bool) -> None:
    x, ffn = 3 * last(*shape), randomise(ConvFFN(shape[1], ratio))
    norm = randomise(LayerNorm(shape[1])) if normalised else nn.Identity()
    with torch.no_grad():
        assert compiled_ffn.pays(x, norm, ffn)
        expected = compiled_ffn.compiled_ffn(x, norm, ffn, ffn.aggr.weight, ffn.aggr.bias)[0]
        with in_bf16():
            assert compiled_ffn.pays(x, norm, ffn)
            actual = compiled_ffn.compiled_ffn(x, norm, ffn, ffn.aggr.weight, ffn.aggr.bias)[0]
    assert 0 < relative_difference(actual, expected) <= 2 * ROUNDING


@needs_bf16
@pytest.mark.parametrize(
    ("batch", "dim", "pdim", "height", "width", "size"),
    [(1, 64, 16, 40, 33, 13), (2, 20, 4, 17, 16, 13), (1, 192, 48, 33, 40, 13), (1, 60, 13, 3, 50, 9)],
)
def test_large_kernel(batch: int, dim: int, pdim: int, height: int, width: int, size: int) -> None:
    convolution = randomise(ConvAttn(dim, pdim, size, owns_kernel=False))
    out, x = torch.zeros_like(last(batch, dim, height, width)), last(batch, pdim, height, width)
    kernel = averaged_kernel(torch.randn(pdim, pdim, size, size))
    results = []
    for enabled in (False, True):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            assert compiled_large_kernel.pays(x, convolution, kernel)
            results.append(out.clone())
            compiled_large_kernel.add_conv_attn(results[-1], x, convolution, kernel)
    assert 0 < relative_difference(*reversed(results)) <= 2 * ROUNDING


@needs_bf16
def test_many_channels_are_left_to_fp32() -> None:
    """The kernels hold as many as this in a buffer; operators that are called with more refuse."""
    most = kernels.most_channels_bf16()
    for channels, hidden in ((most, most), (16, most), (most - 3, most - 1), (16, most + 1), (most + 1, 16)):
        x, ffn = last(1, channels, 2, 8), randomise(ConvFFN(channels, hidden / channels))
        assert ffn.dwc.in_channels == hidden
        inner = ffn.proj.weight, ffn.proj.bias, ffn.dwc.weight, ffn.dwc.bias, ffn.aggr.weight, ffn.aggr.bias
        with torch.no_grad():
            expected = compiled_ffn.compiled_ffn(x, nn.Identity(), ffn, *inner[4:])[0]
            with in_bf16():
                actual = compiled_ffn.compiled_ffn(x, nn.Identity(), ffn, *inner[4:])[0]
            if max(channels, hidden) <= most:
                assert 0 < relative_difference(actual, expected) <= 2 * ROUNDING
                continue
            assert torch.equal(actual, expected)
            out, rest = torch.empty_like(x), kernels.images(1, 0, 2, 8)
            with pytest.raises(RuntimeError, match=f"conv_ffn in bf16 is for at most {most} channels, got {most + 1}"):
                torch.ops.esc_arch.conv_ffn(x, None, None, 0.0, *inner, None, out, rest, True)


@needs_bf16
def test_a_large_kernel_of_many_channels_is_refused() -> None:
    channels = kernels.most_channels_bf16() + 16
    x, out = last(1, channels, 4, 16), last(1, 1, 4, 16)
    kernel = transformed(torch.zeros(channels, channels, 3, 3), 4)
    arguments = out, x, torch.zeros(1, channels, 3, 3), torch.zeros(1, channels, 1, 1), *kernel
    torch.ops.esc_arch.large_kernel(*arguments, False)
    with pytest.raises(RuntimeError, match="large_kernel in bf16 is for at most"):
        torch.ops.esc_arch.large_kernel(*arguments, True)


BEYOND = """
import torch
from esc_arch.fast.kernels import loading
library, channels = loading.required(), loading.most_channels_bf16() + 1
x, weights = torch.zeros(8, channels), torch.zeros(channels * channels)
memory = torch.empty(library.esc_conv_ffn_workspace(channels, 1, channels, 1))
pointers = None, None, *[weights.data_ptr()] * 6, x.data_ptr(), None, memory.data_ptr(), x.data_ptr(), None
print("called", flush=True)
library.esc_conv_ffn(1, 1, 8, channels, 1, channels, 1, 0.0, *pointers, 1)
print("returned")
"""


@needs_bf16
def test_the_library_stops_before_it_writes_beyond_its_buffer() -> None:
    done = subprocess.run([sys.executable, "-c", BEYOND], capture_output=True, text=True)
    assert done.stdout == "called\n", done.stderr
    assert done.returncode < 0


@needs_bf16
@pytest.mark.parametrize(("depth", "heads"), [(18, 1), (5, 2), (64, 1)])
def test_attention_of_other_heads_is_refused(depth: int, heads: int) -> None:
    """Whatever the table of biases has."""
    qkv = last(1, 3 * depth * heads, 16, 16).bfloat16()
    with pytest.raises(RuntimeError, match=f"even number of channels up to 16, got {heads} heads of {depth}"):
        torch.ops.esc_arch.attend(qkv, torch.zeros(heads, 31 * 31), 16, heads, False)
    with pytest.raises(RuntimeError, match="attend needs float32 of the shape"):
        torch.ops.esc_arch.attend(qkv, torch.zeros(8, 31 * 31), 16, heads, False)


def test_gradients_are_those_of_the_definition() -> None:
    """Training under autocast goes on as PyTorch does it, but for the attention."""
    net, x = randomise(ESC(**TINY)), torch.rand(2, 3, 16, 16)
    gradients = []
    for switches in (Speedups(), Speedups.none()):
        net.zero_grad()
        with speedups.use(switches), in_bf16():
            net(x).float().square().mean().backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in net.parameters()]))
    assert relative_difference(*gradients) <= 8 * ROUNDING


@needs_bf16
def test_operators() -> None:
    qkv, table = last(1, 24, 16, 32).bfloat16(), torch.randn(2, 31 * 31)
    opcheck(torch.ops.esc_arch.attend.default, (qkv.requires_grad_(), table.requires_grad_(), 16, 2, True))
    x, hidden = last(1, 8, 9, 20), torch.randn(10)
    weights = (
        torch.randn(10, 8, 1, 1),
        hidden,
        torch.randn(10, 1, 3, 3),
        hidden,
        torch.randn(8, 10, 1, 1),
        torch.randn(8),
    )
    out, rest = last(1, 8, 9, 20), kernels.images(1, 0, 9, 20)
    opcheck(torch.ops.esc_arch.conv_ffn.default, (x, None, None, 0.0, *weights, None, out, rest, True))
    kernel = transformed(average_over_square(torch.randn(4, 4, 13, 13)), 10)
    arguments = out, last(1, 4, 9, 20), torch.randn(1, 4, 3, 3), torch.randn(8, 4, 1, 1), *kernel, True
    opcheck(torch.ops.esc_arch.large_kernel.default, arguments)


def test_other_tools_of_the_family() -> None:
    """A trunk within another network, and one whose input is not an image of three channels."""
    net = randomise(ESCReal(dim=16, pdim=4, n_blocks=1, conv_blocks=1, window_size=16, num_heads=2)).eval()
    x = torch.rand(1, 3, 20, 24)
    with torch.no_grad():
        expected = net(x)
        with in_bf16():
            actual = net(x).float()
    assert relative_difference(actual, expected) <= 8 * ROUNDING
