"""Every way of being fast computes the same function and the same gradients as the definition."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import TINY, Watch, randomise, relative_difference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils._python_dispatch import TorchDispatchMode

from esc_arch.archs import ESC, ESCFP
from esc_arch.compare.flops import count_macs
from esc_arch.fast import large_kernel, layout, lean_attention, products, speedups, steps, strips
from esc_arch.fast.allocator import keep_freed_memory
from esc_arch.fast.large_kernel import convolve_large, hartley_matrix, transforms
from esc_arch.fast.speedups import Speedups
from esc_arch.layers import seam
from esc_arch.layers.backend import window_attention
from esc_arch.layers.conv_attn import LargeKernel, average_over_square, averaged_kernel
from esc_arch.layers.trunk import ESCTrunk
from esc_arch.layers.window import RelativePositionBias

SWITCHES = [field.name for field in dataclasses.fields(Speedups)]
NETWORKS = [ESC, ESCFP]


@pytest.fixture
def narrow_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make images of the tests many strips high."""
    monkeypatch.setitem(strips.BUDGET, "cpu", 2**11)
    monkeypatch.setattr(large_kernel, "BUDGET", 1)


def plain(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Run a network operation by operation."""
    with speedups.use(Speedups.none()):
        return network(x)


@pytest.mark.parametrize("network", NETWORKS)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch=st.integers(1, 3), height=st.integers(1, 40), width=st.integers(1, 20),
    off=st.sampled_from([*SWITCHES, None]), kernels=st.booleans(),
)  # fmt: skip
def test_outputs(
    network: type[nn.Module], narrow_strips: None, batch: int, height: int, width: int, off: str | None, kernels: bool
) -> None:
    net, x = randomise(network(**TINY)).eval(), torch.rand(batch, 3, height, width)
    chosen = Speedups(**({"kernels": kernels} | ({off: False} if off else {})))
    with torch.no_grad():
        expected = plain(net, x)
        with speedups.use(chosen):
            assert relative_difference(net(x), expected) <= 1e-5


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("shape", [(2, 3, 17, 12), (1, 3, 9, 30)])
def test_gradients(network: type[nn.Module], shape: tuple[int, ...]) -> None:
    net, x = randomise(network(**TINY)).double(), torch.rand(shape, dtype=torch.float64, requires_grad=True)
    values = [x, *net.parameters()]
    expected = torch.autograd.grad(plain(net, x).square().mean(), values)
    for actual, reference in zip(torch.autograd.grad(net(x).square().mean(), values), expected, strict=True):
        torch.testing.assert_close(actual, reference, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_precisions(network: type[nn.Module], dtype: torch.dtype, narrow_strips: None) -> None:
    net, x = randomise(network(**TINY)).eval(), torch.rand(2, 3, 21, 12)
    with torch.no_grad():
        expected = plain(net, x)
        if dtype != torch.float64:
            with torch.autocast("cpu", dtype):
                assert relative_difference(net(x).float(), expected) < 0.05
        actual = net.to(dtype)(x.to(dtype))
    assert actual.dtype == dtype
    assert relative_difference(actual.float(), expected) < (1e-5 if dtype == torch.float64 else 0.05)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("gradients", [True, False])
def test_autocast_of_networks_of_other_dtypes(network: type[nn.Module], dtype: torch.dtype, gradients: bool) -> None:
    """It does to them what it does to the definitions; float64 it leaves alone."""
    net, x = randomise(network(**TINY)).to(dtype).eval(), torch.rand(2, 3, 21, 20, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16), torch.set_grad_enabled(gradients):
        actual, expected = net(x), plain(net, x)
    assert actual.dtype == expected.dtype == dtype
    assert relative_difference(actual.detach(), expected.detach()) < (1e-12 if dtype == torch.float64 else 0.05)


@pytest.mark.parametrize("network", NETWORKS)
def test_modules_that_are_watched_are_called(network: type[nn.Module]) -> None:
    net, x = randomise(network(**TINY)).eval(), torch.rand(1, 3, 12, 12)
    watched = net.blocks[0].pconvs[1].aggr
    seen: list[torch.Tensor] = []
    handle = watched.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        with_hook = net(x)
        assert [tuple(t.shape) for t in seen] == [(1, 16, 12, 12)]
        handle.remove()
        assert relative_difference(net(x), with_hook) <= 1e-5
        assert len(seen) == 1


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("place", ["register_full_backward_hook", "register_full_backward_pre_hook"])
def test_modules_whose_gradients_are_watched_are_called(network: type[nn.Module], place: str) -> None:
    net, seen = randomise(network(**TINY)), []
    getattr(net.blocks[0].pconvs[1].aggr, place)(lambda *arguments: seen.append(arguments))
    net(torch.rand(1, 3, 12, 12)).sum().backward()
    assert len(seen) == 1


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("kind", ["forward", "forward_pre", "full_backward", "full_backward_pre"])
def test_hooks_of_all_modules_see_every_layer(network: type[nn.Module], kind: str) -> None:
    """As profilers and debuggers set them, for the whole process."""
    net, seen = randomise(network(**TINY)), list[nn.Module]()
    register = getattr(nn.modules.module, f"register_module_{kind}_hook")
    handle = register(lambda module, *arguments: seen.append(module))
    try:
        net(torch.rand(1, 3, 12, 12)).sum().backward()
    finally:
        handle.remove()
    block = net.blocks[0]
    assert all(layer in seen for layer in (block.convffns[0].aggr, block.pconvs[1].aggr, block.conv_out))
    assert steps.may_bypass(block)


@pytest.mark.parametrize("network", NETWORKS)
def test_modules_that_are_replaced_are_used(network: type[nn.Module]) -> None:
    net, x = randomise(network(**TINY)).eval(), torch.rand(1, 3, 12, 12)
    parametrizations.weight_norm(net.blocks[0].convffns[0].aggr)
    with torch.no_grad():
        assert not steps.may_bypass(net.blocks[0])
        assert relative_difference(net(x), plain(net, x)) <= 1e-6
        net.blocks[0].convffns[0].aggr = nn.Sequential(nn.Conv2d(20, 16, 1), nn.Tanh())
        changed = net(x)
        assert relative_difference(changed, plain(net, x)) <= 1e-6


@pytest.mark.parametrize("network", NETWORKS)
def test_convolutions_of_another_geometry_are_called(network: type[nn.Module]) -> None:
    net, x = randomise(network(**TINY)).eval(), torch.rand(1, 3, 12, 12)
    net.blocks[0].convffns[0].dwc = nn.Conv2d(20, 20, 3, padding=2, dilation=2, groups=20)
    net.blocks[0].convffns[1].proj = nn.Conv2d(16, 20, 1, bias=False)
    with torch.no_grad():
        assert relative_difference(net(x), plain(net, x)) <= 1e-6


@pytest.mark.parametrize("network", NETWORKS)
def test_new_weights_count_at_once(network: type[nn.Module]) -> None:
    """Nothing computed from the weights outlives a forward pass, however the weights are changed."""
    net, x = randomise(network(**TINY)).eval(), torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        net(x)
        for parameter in net.parameters():
            parameter.data.mul_(0.9).add_(0.01)  # as BasicSR's moving average does, unseen by version counters
        assert relative_difference(net(x), plain(net, x)) <= 1e-5


def test_operations_are_counted_as_defined() -> None:
    net = ESC(**TINY).eval()
    with speedups.use(Speedups.none()):
        expected = count_macs(net, 24, 16)
    assert count_macs(net, 24, 16) == expected


@pytest.mark.parametrize("network", NETWORKS)
def test_without_speedups_the_definitions_run(monkeypatch: pytest.MonkeyPatch, network: type[nn.Module]) -> None:
    """Operation by operation."""
    net, x = randomise(network(**TINY)).eval(), torch.rand(1, 3, 20, 12)
    with torch.no_grad():
        with Watch() as watch:
            expected = plain(net, x)
        for marked in seam._WAYS:
            monkeypatch.setitem(seam._WAYS, marked, None)
        with Watch() as defined:
            actual = net(x)
    assert torch.equal(actual, expected)
    assert watch.names == defined.names


def test_graphs_hold_the_definitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """However they are made."""

    def way(*args: Any) -> torch.Tensor:
        raise AssertionError("another way than the definition was taken")

    monkeypatch.setitem(seam._WAYS, ESCTrunk.extract, way)
    net, x = ESC(**TINY).eval(), torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        with pytest.raises(AssertionError, match="another way"):
            net(x)
        traced = torch.jit.trace(net, x, check_trace=False)
        exported = torch.export.export(net, (x,)).module()
    monkeypatch.undo()
    with torch.no_grad():
        expected = plain(net, x)
        torch.testing.assert_close(traced(x), expected)
        torch.testing.assert_close(exported(x), expected)


def test_only_what_is_marked_can_be_replaced() -> None:
    with pytest.raises(ValueError, match="average_over_square is not replaceable"):
        seam.replace(average_over_square, lambda definition, kernel: kernel)


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 2), channels=st.integers(1, 4), size=st.sampled_from([9, 13, 17]),
    height=st.integers(1, 80), width=st.integers(1, 20), last=st.booleans(),
)  # fmt: skip
def test_transformed_convolution(batch: int, channels: int, size: int, height: int, width: int, last: bool) -> None:
    weight = average_over_square(torch.randn(channels, channels, size, size, dtype=torch.float64))
    x = torch.randn(batch, channels, height, width, dtype=torch.float64)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    kernel = LargeKernel(weight, symmetric=True)
    assert transforms(x, kernel)
    expected = F.conv2d(x, weight, padding=size // 2)
    torch.testing.assert_close(convolve_large(x, kernel), expected)
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        for pieces in (1, 2):
            patch.setattr(large_kernel, "BUDGET", pieces * batch * channels * (32 + size - 1) * width * 8)
            torch.testing.assert_close(convolve_large(x, kernel), expected)


def test_transform_is_for_symmetric_kernels_only() -> None:
    x, weight = torch.randn(1, 2, 20, 20), torch.randn(2, 2, 13, 13)
    assert not transforms(x, LargeKernel(weight))
    assert transforms(x, averaged_kernel(weight))
    assert not transforms(x.half(), averaged_kernel(weight))
    torch.testing.assert_close(convolve_large(x, LargeKernel(weight)), F.conv2d(x, weight, padding=6))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_transform_under_autocast_rounds_only_its_result(dtype: torch.dtype) -> None:
    """With gradients of the kernel, and of the features, in the dtypes that these have."""
    x, weight = torch.randn(2, 4, 20, 20).to(dtype).requires_grad_(), torch.randn(4, 4, 13, 13).requires_grad_()
    expected = F.conv2d(x.float(), averaged_kernel(weight).weight, padding=6)
    exact = torch.autograd.grad(expected.square().sum(), (x, weight))
    with torch.autocast("cpu", torch.bfloat16):
        assert transforms(x, averaged_kernel(weight))
        actual = convolve_large(x, averaged_kernel(weight))
    torch.testing.assert_close(actual, expected.bfloat16(), rtol=2**-7, atol=1e-3)
    gradients = torch.autograd.grad(actual.float().square().sum(), (x, weight))
    for gradient, reference in zip(gradients, exact, strict=True):
        assert gradient.dtype == reference.dtype
        assert relative_difference(gradient.float(), reference.float()) <= 2**-6


def test_hartley_matrix_is_its_own_inverse() -> None:
    matrix = hartley_matrix(44, torch.zeros(1, dtype=torch.float64))
    torch.testing.assert_close(matrix @ matrix, 44 * torch.eye(44, dtype=torch.float64))


@pytest.mark.parametrize("budget", [1, 2**9, 2**20])
def test_lean_attention(monkeypatch: pytest.MonkeyPatch, budget: int) -> None:
    """Pieces of one query, of some with a rest, and all at once."""
    monkeypatch.setattr(lean_attention, "BUDGET", budget)
    monkeypatch.setattr(lean_attention, "FEWEST_TOKENS", 1)
    q, k, v = (torch.randn(3, 2, 9, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    table = torch.randn(2, 25, dtype=torch.float64, requires_grad=True)

    def attend(attn_type: str, *tensors: torch.Tensor) -> torch.Tensor:
        return window_attention(*tensors[:3], RelativePositionBias(tensors[3], 3), attn_type)

    assert lean_attention.pays(q, RelativePositionBias(table, 3))
    torch.testing.assert_close(attend("SDPA", q, k, v, table), attend("Naive", q, k, v, table))
    assert torch.autograd.gradcheck(lambda *tensors: attend("SDPA", *tensors), (q, k, v, table))


def test_lean_attention_in_single_precision() -> None:
    inputs = [torch.randn(3, 2, 256, 8) for _ in range(3)] + [torch.randn(2, 31 * 31)]
    results: dict[str, tuple[torch.Tensor, ...]] = {}
    for attn_type in ("SDPA", "Naive"):
        q, k, v, table = (t.clone().requires_grad_() for t in inputs)
        bias = RelativePositionBias(table, 16)
        assert lean_attention.pays(q, bias)
        out = window_attention(q, k, v, bias, attn_type)
        results[attn_type] = out, *torch.autograd.grad(out.cos().sum(), (q, k, v, table))
    for actual, expected in zip(results["SDPA"], results["Naive"], strict=True):
        assert (actual - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_lean_attention_leaves_small_windows_to_pytorch() -> None:
    few, many = torch.zeros(1, 1, 64, 8), torch.zeros(1, 1, 256, 8)
    bias = RelativePositionBias(torch.zeros(1, 31 * 31), 16)
    assert [lean_attention.pays(q, bias) for q in (few, many, many.bfloat16())] == [False, True, False]
    with torch.no_grad():
        assert all(lean_attention.pays(q, bias) for q in (few, many, many.bfloat16()))


def test_lean_attention_stores_no_scores() -> None:
    q, k, v = (torch.randn(2, 2, 256, 8, requires_grad=True) for _ in range(3))
    table = torch.randn(2, 31 * 31, requires_grad=True)
    saved: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        window_attention(q, k, v, RelativePositionBias(table, 16), "SDPA")
    assert saved
    assert max(saved) <= q.numel()


def test_freed_memory_is_kept_before_features_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU, unless it is switched off; what it is worth, `python -m esc_arch.benchmark memory` measures."""
    calls: list[int] = []
    monkeypatch.setattr(layout, "keep_freed_memory", lambda: calls.append(1))
    net, x = ESC(**TINY).eval(), torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        net(x)
        assert calls == [1]
        plain(net, x)
        net.to("meta")(x.to("meta"))
    assert calls == [1]


def test_memory_that_is_kept_is_none_that_is_used() -> None:
    """The block that the allocator is shown is freed again, and shown once."""
    keep_freed_memory.cache_clear()
    with Watch() as watch:
        keep_freed_memory()
        keep_freed_memory()
    assert watch.names == ["aten::empty.memory_format"]


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_linear(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, onednn: bool) -> None:
    if not onednn:
        monkeypatch.setattr(products, "_has_onednn", lambda: False)
    x, weight = torch.randn(7, 16, dtype=dtype), torch.randn(16, 33, dtype=dtype)
    with torch.no_grad():
        torch.testing.assert_close(products.linear(x, weight.t()), x @ weight)
        torch.testing.assert_close(products.linear(weight.t(), x), weight.t() @ x.t())
        torch.testing.assert_close(products.linear(weight.t().contiguous(), x), weight.t() @ x.t())


@pytest.mark.skipif(torch.__version__ < (2, 13), reason="gradients of older torch lose the layout by themselves")
def test_gradients_keep_the_layout_of_the_features() -> None:
    """A convolution whose gradient lies otherwise than its input would copy it first, which costs as much as itself."""
    layouts: list[tuple[torch.memory_format, torch.memory_format]] = []

    class Layouts(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.ops.aten.convolution_backward.default:
                grad, features, weight = args[:3]
                if weight.shape[2:] == (1, 1) and features.shape[2:] != (1, 1):
                    layouts.append((strips.memory_format(grad), strips.memory_format(features)))
            return func(*args, **(kwargs or {}))

    network = ESC(**TINY)
    x = torch.randn(2, TINY["dim"], 16, 16).contiguous(memory_format=torch.channels_last).requires_grad_()
    with Layouts():
        network.blocks[0](x, averaged_kernel(network.plk_filter)).square().sum().backward()
    assert len(layouts) == 2 + 2 + 3 * TINY["conv_blocks"]  # ConvFFN, attention, ConvFFN and ConvAttn
    assert set(layouts) == {(torch.channels_last, torch.channels_last)}
