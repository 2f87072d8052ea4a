"""The compiled 1x1 convolution computes what the definition says, as it is, normalised before, and added."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from conftest import Watch, needs_kernels, randomise, relative_difference
from torch import nn

from esc_arch.fast import compiled_products, kernels, reduced, speedups
from esc_arch.fast.speedups import Speedups
from esc_arch.fast.steps import attention_step
from esc_arch.layers.attention import WindowAttention
from esc_arch.layers.norm import LayerNorm

pytestmark = needs_kernels
needs_bf16 = pytest.mark.skipif(not kernels.has_bf16(), reason="needs a processor with AVX512_BF16")
ROUNDING = 2**-8  # of bf16: twice the largest relative error
SHAPES = [
    ((1, 64, 30, 31), 192),  # as before attention
    ((2, 13, 3, 5), 7),  # nothing fills a vector
    ((3, 40, 1, 2), 100),  # fewer pixels than are multiplied at a time
    ((1, 1, 1, 1), 1),
]


def features(*shape: int) -> torch.Tensor:
    """Features whose mean is not that of the normalised ones."""
    return (3 * torch.randn(shape) + 1).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("shape", "results"), SHAPES)
@pytest.mark.parametrize("normalised", [True, False])
def test_mapped(lanes: int, shape: tuple[int, ...], results: int, normalised: bool) -> None:
    conv, x = randomise(nn.Conv2d(shape[1], results, 1)), features(*shape)
    norm = randomise(LayerNorm(shape[1])) if normalised else nn.Identity()
    with torch.no_grad():
        assert compiled_products.pays(x, conv, norm)
        actual = compiled_products.mapped(x, conv, norm)
        expected = conv.double()(norm.double()(x.double()))
    assert actual.is_contiguous(memory_format=torch.channels_last)
    assert relative_difference(actual.double(), expected) <= 2e-6


@pytest.mark.parametrize(("shape", "results"), SHAPES)
@pytest.mark.parametrize("with_bias", [True, False])
def test_added(lanes: int, shape: tuple[int, ...], results: int, with_bias: bool) -> None:
    weight, bias = torch.randn(results, shape[1], 1, 1), torch.randn(results) if with_bias else None
    x, out = features(*shape), features(shape[0], results, *shape[2:])
    expected = out.double() + F.conv2d(x.double(), weight.double(), None if bias is None else bias.double())
    with torch.no_grad():
        compiled_products.add_mapped(out, x, weight, bias)
    assert relative_difference(out.double(), expected) <= 1e-6


@needs_bf16
@pytest.mark.parametrize(("shape", "results"), SHAPES[:3])  # a single number may be near zero
@pytest.mark.parametrize("normalised", [True, False])
def test_bf16(shape: tuple[int, ...], results: int, normalised: bool) -> None:
    """Features of either kind go in, and come out."""
    conv = randomise(nn.Conv2d(shape[1], results, 1))
    norm = randomise(LayerNorm(shape[1])) if normalised else nn.Identity()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert reduced.active(shape[1])
        for x in (features(*shape), features(*shape).bfloat16()):
            assert compiled_products.pays(x, conv, norm)
            with torch.autocast("cpu", enabled=False):
                expected = conv(norm(x.float()))
                out = torch.randn(expected.shape).contiguous(memory_format=torch.channels_last)
                added = out + F.conv2d(x.float(), conv.weight, conv.bias)
            for dtype in (torch.float32, torch.bfloat16):
                actual = compiled_products.mapped(x, conv, norm, dtype)
                assert actual.dtype == dtype
                assert relative_difference(actual.float(), expected) <= 2 * ROUNDING
            compiled_products.add_mapped(out, x, conv.weight, conv.bias)
            assert relative_difference(out, added) <= 2 * ROUNDING


@pytest.mark.parametrize("threads", [1, 3, 40])
def test_threads_change_nothing(threads: int) -> None:
    x, conv, norm = features(2, 16, 9, 11), randomise(nn.Conv2d(16, 48, 1)), randomise(LayerNorm(16))
    before = torch.get_num_threads()
    with torch.no_grad():
        expected = compiled_products.mapped(x, conv, norm)
        torch.set_num_threads(threads)
        try:
            assert torch.equal(compiled_products.mapped(x, conv, norm), expected)
        finally:
            torch.set_num_threads(before)


def test_divergence_shows(lanes: int) -> None:
    x, conv, norm = features(1, 8, 4, 4), randomise(nn.Conv2d(8, 5, 1)), randomise(LayerNorm(8))
    x[0, 3, 1, 2] = float("nan")
    with torch.no_grad():
        bad = compiled_products.mapped(x, conv, norm).isnan()
    assert bad[0, :, 1, 2].all()
    assert bad.sum() == 5


@pytest.mark.parametrize("size", [(32, 32), (37, 21), (9, 70)])
@pytest.mark.parametrize("gated", [True, False])
def test_attention_uses_it(size: tuple[int, int], gated: bool) -> None:
    """Also where images are padded to whole windows."""
    attn, norm = randomise(WindowAttention(12, 16, 3)), randomise(LayerNorm(12))
    if gated:
        attn.gate = nn.Sequential(randomise(nn.Conv2d(12, 12, 3, padding=1)), nn.Sigmoid())
    x = features(2, 12, *size)
    with torch.no_grad():
        with speedups.use(Speedups.none()):
            expected = attention_step(x.clone(memory_format=torch.channels_last), norm, attn)
        with Watch() as watch:
            actual = attention_step(x.clone(memory_format=torch.channels_last), norm, attn)
    assert watch.names.count("esc_arch::products") == 2 * watch.names.count("esc_arch::attend") > 0
    assert "aten::native_layer_norm" not in watch.names or gated
    assert relative_difference(actual, expected) <= 1e-5


def test_features_that_are_rounded_already() -> None:
    """As autocast hands them to a block in somebody's own network."""
    attn, x = randomise(WindowAttention(12, 16, 3)), features(2, 12, 32, 21)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = x + attn(x)
        actual = attention_step(x.bfloat16(), nn.Identity(), attn)
    assert actual.dtype == torch.bfloat16
    assert relative_difference(actual.float(), expected.float()) <= 0.02


def test_other_layers_are_called() -> None:
    """Those that stand in place of a plain convolution, and compute something else."""

    class Doubled(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    attn, x = randomise(WindowAttention(12, 16, 3)), features(1, 12, 16, 16)
    plain = attn.to_out
    attn.to_out = Doubled(12, 12, 1)
    attn.to_out.load_state_dict(plain.state_dict())
    with torch.no_grad():
        actual = attention_step(x.clone(memory_format=torch.channels_last), nn.Identity(), attn)
        assert relative_difference(actual, x + attn(x)) <= 1e-5


def test_what_it_is_not_for() -> None:
    conv, norm, x = nn.Conv2d(8, 4, 1), LayerNorm(8), features(1, 8, 3, 3)
    assert not compiled_products.pays(x, conv, norm)  # gradients
    with torch.no_grad():
        assert compiled_products.pays(x, conv, norm)
        assert not compiled_products.pays(x.double(), conv, norm)
        assert not compiled_products.pays(x.bfloat16(), conv, norm)
        assert not compiled_products.pays(x, conv, nn.GroupNorm(2, 8))
        assert not compiled_products.pays(x, nn.Conv2d(8, 4, 1).double())
        assert not compiled_products.pays(x.to("meta"), conv)
        with torch.autocast("cpu", torch.float16):
            assert not compiled_products.pays(x, conv)
        with speedups.use(Speedups(kernels=False)):
            assert not compiled_products.pays(x, conv)


def test_what_does_not_fit_is_refused() -> None:
    """Rather than memory beyond the end being read or written."""
    x, out, weight, ones = features(1, 8, 3, 3), features(1, 4, 3, 3), torch.zeros(4, 8, 1, 1), torch.ones(8)
    torch.ops.esc_arch.products(out, x, weight, torch.zeros(4), ones, ones)
    for wrong in (
        (out, x, weight[:, :7], None, None, None),
        (out, x, weight[:3], None, None, None),
        (features(1, 4, 3, 2), x, weight, None, None, None),
        (out, x, weight, torch.zeros(3), None, None),
        (out, x, weight, None, ones[:7], ones),
        (out, x, weight, None, ones, None),
        (out, x.bfloat16(), weight, None, None, None),
        (out.bfloat16(), x, weight, None, None, None),
        (out, x.contiguous(), weight, None, None, None),
    ):
        with pytest.raises(RuntimeError, match="esc_arch::products"):
            torch.ops.esc_arch.products(*wrong)
