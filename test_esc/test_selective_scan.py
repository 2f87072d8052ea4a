"""The selective scan in chunks is the recurrence, step by step; so are its gradients."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from conftest import relative_difference

from esc_arch.layers import selective_scan as module
from esc_arch.layers.selective_scan import selective_scan
from esc_arch.layers.ss2d import SS2D, ScanParameters

Inputs = list[torch.Tensor]


def inputs(length: int, fastest: float = 8.0) -> Inputs:
    """Two sequences of six channels in three groups; the decay of a step reaches exp(-3 * fastest)."""
    u, delta, a = torch.randn(2, 6, length), 3 * torch.rand(2, 6, length), -fastest * torch.rand(6, 5)
    return [u, delta, a, torch.randn(2, 3, 5, length), torch.randn(2, 3, 5, length), torch.randn(6)]


def step_by_step(u: torch.Tensor, delta: torch.Tensor, a: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
    b, c, d = rest
    b, c = (tensor.repeat_interleave(u.shape[1] // b.shape[1], dim=1) for tensor in (b, c))
    state, out = u.new_zeros(*u.shape[:2], a.shape[1]), []
    for t in range(u.shape[2]):
        state = torch.exp(delta[..., t, None] * a) * state + (delta * u)[..., t, None] * b[..., t]
        out.append((state * c[..., t]).sum(-1))
    return torch.stack(out, dim=-1) + d[:, None] * u


@pytest.mark.parametrize("length", [1, 2, 3, 16, 17, 300])
@pytest.mark.parametrize("segments", [False, True])
def test_equals_the_recurrence(length: int, segments: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if segments:
        monkeypatch.setattr(module, "BUDGET", 0)
        monkeypatch.setattr(module, "SHORTEST", 7)
    ours = [tensor.requires_grad_() for tensor in inputs(length)]
    exact = [tensor.detach().double().requires_grad_() for tensor in ours]
    result, expected = selective_scan(*ours), step_by_step(*exact)
    assert relative_difference(result.double(), expected) <= 1e-5
    weights = torch.randn_like(result)
    gradients = torch.autograd.grad((result * weights).sum(), ours)
    for gradient, wanted in zip(
        gradients, torch.autograd.grad((expected * weights.double()).sum(), exact), strict=True
    ):
        assert (gradient - wanted).abs().max() <= 1e-5 * wanted.abs().max() + 1e-12


def test_decay_to_nothing_and_no_decay() -> None:
    """Products of decays underflow, and a chunk of the sequence may not decay at all."""
    for fastest in (1e4, 0.0):
        parts = inputs(200, fastest)
        result = selective_scan(*parts)
        assert result.isfinite().all()
        assert relative_difference(result.double(), step_by_step(*(t.double() for t in parts))) <= 1e-5


def test_the_kernel_of_mamba_is_found_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "mamba_ssm.ops.selective_scan_interface"
    installed = types.ModuleType(name)
    installed.selective_scan_fn = step_by_step  # type: ignore[attr-defined]
    for found, expected in ((installed, step_by_step), (None, None)):
        module._mamba_kernel.cache_clear()
        for parent in ("mamba_ssm", "mamba_ssm.ops"):
            monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
        monkeypatch.setitem(sys.modules, name, found)
        assert module._mamba_kernel() is expected
    module._mamba_kernel.cache_clear()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_kernel_of_mamba_computes_the_same() -> None:
    pytest.importorskip("mamba_ssm")
    parts = inputs(300)
    result = selective_scan(*(tensor.cuda() for tensor in parts)).cpu()
    assert relative_difference(result.double(), step_by_step(*(tensor.double() for tensor in parts))) <= 1e-4


def test_gradcheck() -> None:
    parts = [tensor.double().requires_grad_() for tensor in inputs(7, fastest=1.0)]
    assert torch.autograd.gradcheck(selective_scan, parts)


def test_half_precision_and_autocast_are_computed_exactly() -> None:
    layer, x = SS2D(20, 4, 1.5), torch.rand(1, 20, 9, 6)
    expected = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert relative_difference(layer(x).float(), expected) < 0.05
    half = SS2D(20, 4, 1.5).bfloat16()
    half.load_state_dict(layer.state_dict())
    assert relative_difference(half(x.bfloat16()).float(), expected) < 0.05


def test_scans_go_in_four_directions() -> None:
    """What one pixel changes is the whole image, and with one direction only what comes later."""
    layer, x = SS2D(8, 3, 1.0), torch.rand(1, 8, 5, 7)
    layer.conv2d.weight.data.zero_()
    layer.conv2d.weight.data[:, :, 1, 1] = 1
    changed = x.clone()
    changed[..., 2, 3] += 1
    assert ((layer(changed) - layer(x)).abs().amax(dim=(0, 1)) > 0).all()
    scan, sequence = ScanParameters(1, 8, 3, 1), torch.rand(1, 1, 8, 20)
    later = sequence.clone()
    later[..., 9] += 1
    difference = (scan.scan(later) - scan.scan(sequence)).abs().amax(dim=(0, 1, 2))
    assert (difference[:9] == 0).all()
    assert (difference[9:] > 0).all()


def test_starting_step_sizes() -> None:
    steps = torch.nn.functional.softplus(ScanParameters(4, 200, 3, 2).dt_projs_bias)
    assert 1e-3 * 0.99 <= steps.min() < 2e-3
    assert 0.05 < steps.max() <= 0.1 * 1.01
