"""The compiled attention computes what the definition says."""

from __future__ import annotations

import pytest
import torch
from conftest import Watch, needs_kernels, randomise, relative_difference

from esc_arch.fast import compiled_attention, speedups
from esc_arch.fast.speedups import Speedups
from esc_arch.layers.attention import WindowAttention
from esc_arch.layers.backend import image_attention
from esc_arch.layers.window import RelativePositionBias


def images(batch: int, height: int, width: int, channels: int) -> torch.Tensor:
    """Features as the network has them, with scores that are spread over orders of magnitude."""
    return (2 * torch.randn(batch, 3 * channels, height, width)).contiguous(memory_format=torch.channels_last)


def outputs_and_gradients(
    qkv: torch.Tensor, table: torch.Tensor, window: int, heads: int, attn_type: str
) -> tuple[torch.Tensor, ...]:
    qkv, table = qkv.clone().requires_grad_(), table.clone().requires_grad_()
    out = image_attention(qkv, RelativePositionBias(table, window), heads, attn_type)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape)
    return out, *torch.autograd.grad((out * weights).sum(), (qkv, table))


@needs_kernels
@pytest.mark.parametrize(("window", "heads", "depth"), [(32, 2, 16), (16, 3, 20), (48, 1, 7), (16, 1, 40)])
def test_attention(lanes: int, window: int, heads: int, depth: int) -> None:
    qkv, table = images(2, 2 * window, window, heads * depth), torch.randn(heads, (2 * window - 1) ** 2)
    expected = outputs_and_gradients(qkv.double(), table.double(), window, heads, "Naive")
    assert compiled_attention.pays(qkv, RelativePositionBias(table, window))
    actual = outputs_and_gradients(qkv, table, window, heads, "auto")
    for value, reference in zip(actual, expected, strict=True):
        assert relative_difference(value.double(), reference) <= 3e-6
    with torch.no_grad():
        again = image_attention(qkv, RelativePositionBias(table, window), heads)
    assert torch.equal(again, actual[0])


@needs_kernels
@pytest.mark.parametrize("fall", [False, True])
def test_scores_far_apart(lanes: int, fall: bool) -> None:
    """Sums are scaled anew wherever the largest score so far is left behind, and what lies far below counts nothing."""
    qkv = images(1, 32, 32, 8)
    factor = torch.linspace(0, 40, 32 * 32).reshape(32, 32)  # of keys, so that the scores of a query span hundreds
    qkv[:, 8:16] *= factor.flip(0, 1) if fall else factor
    table = 30 * torch.randn(1, 63 * 63)
    expected = outputs_and_gradients(qkv.double(), table.double(), 32, 1, "Naive")
    for value, reference in zip(outputs_and_gradients(qkv, table, 32, 1, "auto"), expected, strict=True):
        assert relative_difference(value.double(), reference) <= 1e-4  # scores of 1000 are rounded to 6e-5


@needs_kernels
@pytest.mark.parametrize("threads", [1, 3, 40])
def test_threads_change_nothing(threads: int) -> None:
    """Few heads of windows are shared out by queries, so that forty threads have something to do."""
    qkv, table = images(1, 16, 32, 16), torch.randn(1, 31 * 31)
    expected = outputs_and_gradients(qkv, table, 16, 1, "auto")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for actual, reference in zip(outputs_and_gradients(qkv, table, 16, 1, "auto"), expected, strict=True):
            assert torch.equal(actual, reference)
    finally:
        torch.set_num_threads(before)


@needs_kernels
@pytest.mark.parametrize("size", [(32, 16), (21, 40), (9, 14)])
def test_layers_use_it(size: tuple[int, int]) -> None:
    layer = randomise(WindowAttention(12, 16, 3))
    x = torch.randn(2, 12, *size).contiguous(memory_format=torch.channels_last).requires_grad_()
    with Watch() as watch:
        out = layer(x)
        out.square().sum().backward()
    assert {"esc_arch::attend", "esc_arch::attend_gradients"} <= set(watch.names)
    gradient, x.grad = x.grad, None
    with speedups.use(Speedups.none()), Watch() as watch:
        plain = layer(x)
        plain.square().sum().backward()
    assert not any(name.startswith("esc_arch::") for name in watch.names)
    assert relative_difference(out, plain) <= 1e-5
    assert relative_difference(gradient, x.grad) <= 1e-5


@needs_kernels
def test_what_it_is_not_for() -> None:
    def pays(qkv: torch.Tensor, window: int = 16) -> bool:
        return compiled_attention.pays(qkv, RelativePositionBias(torch.zeros(1, (2 * window - 1) ** 2), window))

    qkv = images(1, 32, 32, 8)
    assert pays(qkv)
    assert not pays(qkv, 8)
    assert not pays(qkv.contiguous())
    assert not any(pays(qkv.to(dtype)) for dtype in (torch.float64, torch.bfloat16, torch.float16))
    assert not pays(qkv.to("meta"))
    with speedups.use(Speedups(kernels=False)):
        assert not pays(qkv)
    for wrong, window in ((qkv.double(), 16), (qkv, 8), (qkv[:, :, :24], 16)):
        with pytest.raises(RuntimeError, match="multiples of 16"):
            torch.ops.esc_arch.attend(wrong, torch.zeros(1, (2 * window - 1) ** 2), window, 1, False)


@needs_kernels
def test_what_does_not_fit_is_refused() -> None:
    """Rather than memory beyond the end being read."""
    qkv, table = images(1, 16, 32, 24), torch.zeros(2, 31 * 31)
    out, sums = torch.ops.esc_arch.attend(qkv, table, 16, 2, True)
    for wrong in (
        (qkv, table, 16, 1, True),
        (qkv, table, 16, 4, True),
        (qkv, table[:1], 16, 2, True),
        (qkv, table[:, :-1], 16, 2, True),
        (qkv, table.double(), 16, 2, True),
        (qkv[:, :20], table, 16, 2, True),
        (qkv, table, 16, 0, True),
        (qkv, table, 0, 2, True),
    ):
        with pytest.raises(RuntimeError, match="esc_arch::attend "):
            torch.ops.esc_arch.attend(*wrong)
    gradients = torch.ops.esc_arch.attend_gradients
    expected = gradients(out, qkv, table, out, sums, 16, 2)
    for elsewhere in (out.contiguous(), out.flip(1).flip(1)):  # in another layout
        for actual, value in zip(gradients(elsewhere, qkv, table, elsewhere, sums, 16, 2), expected, strict=True):
            torch.testing.assert_close(actual, value)
    for wrong_gradients in (
        (out, qkv.bfloat16(), table, out, sums, 16, 2),
        (out.bfloat16(), qkv, table, out, sums, 16, 2),
        (out, qkv, table, out.bfloat16(), sums, 16, 2),
        (out, qkv, table, out[:, :4], sums, 16, 2),
        (out[..., :16], qkv, table, out, sums, 16, 2),
        (out, qkv, table, out, sums[:1], 16, 2),
        (out, qkv, table, out, sums, 16, 1),
    ):
        with pytest.raises(RuntimeError, match="esc_arch::attend_gradients "):
            gradients(*wrong_gradients)


@needs_kernels
def test_little_is_stored() -> None:
    qkv, table = images(1, 32, 32, 16).requires_grad_(), torch.randn(2, 31 * 31, requires_grad=True)
    saved: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        image_attention(qkv, RelativePositionBias(table, 16), 2)
    assert 0 < sum(saved) < 2 * qkv.numel()


@needs_kernels
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_divergence_shows(lanes: int, bad: float) -> None:
    qkv = images(1, 16, 32, 8)
    qkv[0, 8, 3, 5] = bad  # a key of the first window
    bias = RelativePositionBias(torch.zeros(1, 31 * 31), 16)
    with torch.no_grad():
        out, expected = (image_attention(qkv, bias, 1, attn_type) for attn_type in ("auto", "Naive"))
    assert out[..., :16].isnan().any()
    torch.testing.assert_close(out, expected, equal_nan=True)
