"""The compiled ConvFFN computes what the definition says."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from conftest import Watch, needs_kernels, randomise, relative_difference
from torch import nn

from esc_arch.fast import compiled_ffn, kernels, speedups
from esc_arch.fast.speedups import Speedups
from esc_arch.fast.steps import ffn_step, hidden_layer
from esc_arch.layers.ffn import ConvFFN
from esc_arch.layers.norm import LayerNorm

pytestmark = needs_kernels


def features(*shape: int) -> torch.Tensor:
    """Features as the network has them, with some that saturate the activations."""
    return (3 * torch.randn(shape)).contiguous(memory_format=torch.channels_last)


def check(x: torch.Tensor, norm: nn.Module, ffn: ConvFFN, further: int, with_skip: bool) -> None:
    """Compare with the definition in double precision."""
    channels, hidden = x.shape[1], ffn.dwc.in_channels
    weight, bias = torch.randn(channels + further, hidden, 1, 1), torch.randn(channels + further)
    skip, memory = features(*x.shape) if with_skip else None, torch.full_like(x, float("nan"))
    with torch.no_grad():
        assert compiled_ffn.pays(x, norm, ffn)
        out, rest = compiled_ffn.compiled_ffn(x, norm, ffn, weight, bias, skip, memory)
        expected = F.conv2d(hidden_layer(ffn.double(), norm.double()(x.double()), 0, 0), weight.double(), bias.double())
    assert out.data_ptr() == memory.data_ptr()
    first = expected[:, :channels] if skip is None else expected[:, :channels] + skip
    assert relative_difference(out.double(), first) <= 2e-6
    assert rest.shape[1] == further
    if further:
        assert relative_difference(rest.double(), expected[:, channels:]) <= 2e-6


@pytest.mark.parametrize(
    ("shape", "ratio", "further"),
    [
        ((1, 64, 40, 33), 1.25, 16),  # as in ESC
        ((2, 64, 9, 8), 2, 0),  # before attention
        ((1, 48, 5, 300), 1.25, 13),  # several tiles beside each other
        ((3, 7, 70, 11), 3, 1),  # below each other, and channels that fill no vector
        ((1, 192, 8, 20), 1.25, 48),  # more results than registers
        ((1, 1, 1, 8), 1, 1),
    ],
)
@pytest.mark.parametrize("normalised", [True, False])
def test_conv_ffn(lanes: int, shape: tuple[int, ...], ratio: float, further: int, normalised: bool) -> None:
    norm = randomise(LayerNorm(shape[1])) if normalised else nn.Identity()
    check(features(*shape), norm, randomise(ConvFFN(shape[1], ratio)), further, with_skip=further > 0)


@pytest.mark.parametrize("threads", [1, 3, 40])
def test_threads_change_nothing(threads: int) -> None:
    x, norm, ffn = features(2, 16, 50, 20), randomise(LayerNorm(16)), randomise(ConvFFN(16, 1.25))
    before = torch.get_num_threads()
    with torch.no_grad():
        expected = compiled_ffn.compiled_ffn(x, norm, ffn, ffn.aggr.weight, ffn.aggr.bias, x)[0]
        torch.set_num_threads(threads)
        try:
            assert torch.equal(compiled_ffn.compiled_ffn(x, norm, ffn, ffn.aggr.weight, ffn.aggr.bias, x)[0], expected)
        finally:
            torch.set_num_threads(before)


def test_activation(lanes: int) -> None:
    """For small numbers and for large ones; a ConvFFN whose other layers hand everything on shows it."""
    values = torch.cat([torch.linspace(-12, 12, 4001), 10 ** torch.linspace(-30, 30, 61), torch.zeros(1)])
    ffn = ConvFFN(1, 1)
    with torch.no_grad():
        for parameter in ffn.parameters():
            parameter.zero_()
        ffn.proj.weight.fill_(1)
        x = values.reshape(1, 1, 1, -1)
        weight = torch.ones(1, 1, 1, 1)
        out = compiled_ffn.compiled_ffn(x, nn.Identity(), ffn, weight, torch.zeros(1))[0].flatten().double()
    expected = F.gelu(values.double())
    error = (out - expected).abs()
    assert (error <= 4e-7 * values.abs().clamp(max=1).double()).logical_or(error <= 4e-7 * expected.abs()).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_divergence_shows(lanes: int, bad: float) -> None:
    x, norm, ffn = features(1, 8, 20, 20), randomise(LayerNorm(8)), randomise(ConvFFN(8, 1.25))
    x[0, 3, 7, 9] = bad
    with torch.no_grad():
        out = compiled_ffn.compiled_ffn(x, norm, ffn, ffn.aggr.weight, ffn.aggr.bias)[0]
        torch.testing.assert_close(out, ffn(norm(x)), equal_nan=True)
    assert out.isnan().any(1).sum() == 9


def test_layers_use_it() -> None:
    """Not in strips: the hidden layer never exists as a whole."""
    x, norm, ffn = features(1, 16, 20, 20), randomise(LayerNorm(16)), randomise(ConvFFN(16, 1.25))
    with torch.no_grad(), Watch() as watch:
        ffn_step(x, norm, ffn)
    assert watch.names.count("esc_arch::conv_ffn") == 1
    assert "aten::gelu" not in watch.names


def test_what_it_is_not_for() -> None:
    x, norm, ffn = features(1, 16, 20, 20), LayerNorm(16), ConvFFN(16, 1.25)
    assert not compiled_ffn.pays(x, norm, ffn)  # gradients
    with torch.no_grad():
        assert compiled_ffn.pays(x, norm, ffn)
        assert not compiled_ffn.pays(x.contiguous(), norm, ffn)
        assert not compiled_ffn.pays(x[..., :7].contiguous(memory_format=torch.channels_last), norm, ffn)
        assert not compiled_ffn.pays(x.double(), norm, ffn)
        assert not compiled_ffn.pays(x, norm, ConvFFN(16, 1.25, kernel_size=5))
        assert not compiled_ffn.pays(x, nn.Tanh(), ffn)
        assert not compiled_ffn.pays(x.to("meta"), norm, ffn)
        assert not compiled_ffn.pays(x, norm, ConvFFN(16, 1.25).double())
        with speedups.use(Speedups(kernels=False)):
            assert not compiled_ffn.pays(x, norm, ffn)
        with torch.autocast("cpu", torch.float16):
            assert not compiled_ffn.pays(x, norm, ffn)


def test_what_does_not_fit_is_refused() -> None:
    """Rather than memory beyond the end being read."""
    x, ffn = features(1, 16, 20, 20), ConvFFN(16, 1.25)
    out, rest, small = torch.empty_like(x), kernels.images(1, 0, 20, 20), kernels.images(1, 16, 20, 7)
    inner = ffn.proj.weight, ffn.proj.bias, ffn.dwc.weight, ffn.dwc.bias, ffn.aggr.weight
    with torch.no_grad():
        torch.ops.esc_arch.conv_ffn(x, None, None, 0.0, *inner, ffn.aggr.bias, None, out, rest)
        for wrong in (
            (x, None, None, 0.0, *inner, torch.zeros(15), None, out, rest),
            (x, None, None, 0.0, *inner, ffn.aggr.bias, None, small, rest),
            (x, None, None, 0.0, *inner, ffn.aggr.bias, None, out, kernels.images(1, 2, 20, 20)),
            (x.double(), None, None, 0.0, *inner, ffn.aggr.bias, None, out, rest),
            (x.contiguous(), None, None, 0.0, *inner, ffn.aggr.bias, None, out, rest),
            (small, None, None, 0.0, *inner, ffn.aggr.bias, None, small.clone(), rest),
        ):
            with pytest.raises(RuntimeError, match="conv_ffn"):
                torch.ops.esc_arch.conv_ffn(*wrong)
