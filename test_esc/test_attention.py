"""Attention back-ends compute one function; what cannot run says what can."""

from __future__ import annotations

import pytest
import torch
from conftest import TINY, randomise, relative_difference
from hypothesis import given, settings
from hypothesis import strategies as st

from esc_arch.archs import ESC, ESCFP
from esc_arch.layers import backend
from esc_arch.layers.attention import WindowAttention
from esc_arch.layers.backend import ATTN_TYPES, window_attention
from esc_arch.layers.window import RelativePositionBias


def outputs_and_gradients(attn_type: str, x: torch.Tensor, training: bool) -> list[torch.Tensor]:
    layer = randomise(WindowAttention(12, 4, 3, attn_type)).train(training)
    x = x.clone().requires_grad_()
    out = layer(x)
    (out * torch.linspace(-1, 1, out.numel()).reshape(out.shape)).sum().backward()
    return [out.detach(), x.grad, *(parameter.grad for parameter in layer.parameters())]


@settings(max_examples=25, deadline=None)
@given(batch=st.integers(1, 3), height=st.integers(1, 11), width=st.integers(1, 11), training=st.booleans())
def test_back_ends_agree(batch: int, height: int, width: int, training: bool) -> None:
    x = torch.randn(batch, 12, height, width)
    expected = outputs_and_gradients("Naive", x, training)
    for attn_type in ATTN_TYPES:
        for actual, reference in zip(outputs_and_gradients(attn_type, x, training), expected, strict=True):
            assert (actual - reference).abs().max() <= 1e-4 * reference.abs().max().clamp(min=1e-3)


@pytest.mark.parametrize("network", [ESC, ESCFP])
def test_back_ends_agree_in_the_network(network: type[torch.nn.Module]) -> None:
    x = torch.rand(2, 3, 13, 21)
    reference = randomise(network(**TINY, attn_type="Naive"))
    for attn_type in ATTN_TYPES:
        other = network(**TINY, attn_type=attn_type)
        other.load_state_dict(reference.state_dict())
        assert relative_difference(other(x), reference(x)) <= 1e-4


@pytest.mark.parametrize("attn_type", ATTN_TYPES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(attn_type: str, dtype: torch.dtype) -> None:
    layer = randomise(WindowAttention(12, 4, 3, attn_type))
    x = torch.randn(2, 12, 9, 6)
    expected = layer(x)
    with torch.autocast("cpu", dtype):
        under_autocast = layer(x)
    pure = layer.to(dtype)(x.to(dtype))
    for actual in (under_autocast, pure):
        assert actual.dtype == dtype
        assert relative_difference(actual.float(), expected) < 0.05


def test_large_window_is_exact() -> None:
    """The window of ESC itself, in which the fused kernel works in several steps."""
    q, k, v = torch.randn(3, 2, 4, 1024, 16).unbind(0)
    table = torch.randn(4, 63 * 63)
    bias = RelativePositionBias(table, 32)
    expected = window_attention(q, k, v, bias, "Naive")
    for attn_type in ("SDPA", "Flex", "auto"):
        assert relative_difference(window_attention(q, k, v, bias, attn_type), expected) <= 1e-5


def test_auto_needs_no_gpu_and_no_triton() -> None:
    q, table = torch.randn(2, 4, 16, 16), torch.randn(4, 49, requires_grad=True)
    assert backend.best_attn_type(q, table) == "SDPA"


class FakeCudaQueries:
    """Queries on a GPU that this machine need not have."""

    is_cuda = True
    device = torch.device("cuda")

    def __init__(self, depth: int) -> None:
        self.shape = (1, 4, 16, depth)


def test_auto_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda name: object())
    trained, fixed = torch.zeros(4, 49, requires_grad=True), torch.zeros(4, 49)
    assert backend.best_attn_type(FakeCudaQueries(16), trained) == "Flex"
    assert backend.best_attn_type(FakeCudaQueries(16), fixed) == "SDPA"
    assert backend.best_attn_type(FakeCudaQueries(8), trained) == "SDPA"
    with torch.no_grad():
        assert backend.best_attn_type(FakeCudaQueries(16), trained) == "SDPA"


@pytest.mark.parametrize(
    ("triton", "capability", "depth", "reason"),
    [(None, (9, 0), 16, "Triton"), (object(), (7, 5), 16, "capability"), (object(), (9, 0), 8, "channels per head")],
)
def test_flex_names_an_alternative(
    monkeypatch: pytest.MonkeyPatch, triton: object, capability: tuple[int, int], depth: int, reason: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda name: triton)
    q = FakeCudaQueries(depth)
    with pytest.raises(RuntimeError, match=f"{reason}.*Use 'SDPA'"):
        backend._flex(q, q, q, RelativePositionBias(torch.zeros(4, 49), 4))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("training", [True, False])
def test_back_ends_agree_on_a_gpu(training: bool) -> None:
    x = torch.rand(2, 3, 40, 70, device="cuda")
    arguments = {**TINY, "dim": 32, "window_size": 16}
    reference = randomise(ESC(**arguments, attn_type="Naive")).cuda().train(training)
    expected = reference(x)
    expected.square().mean().backward()
    for attn_type in ATTN_TYPES:
        other = ESC(**arguments, attn_type=attn_type).cuda().train(training)
        other.load_state_dict(reference.state_dict())
        out = other(x)
        out.square().mean().backward()
        assert relative_difference(out, expected) <= 1e-3  # TF32 in matrix products
        for a, b in zip(other.parameters(), reference.parameters(), strict=True):
            assert relative_difference(a.grad, b.grad) <= 1e-2
