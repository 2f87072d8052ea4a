"""The compiled kernels compute what the definition says, and nothing is lost where they cannot be used."""

from __future__ import annotations

import ctypes
import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import randomise, relative_difference
from torch.utils._python_dispatch import TorchDispatchMode

from esc_arch import kernels
from esc_arch.archs import ESC
from esc_arch.layers import compiled_attention, speedups, strips
from esc_arch.layers.attention import WindowAttention
from esc_arch.layers.backend import image_attention
from esc_arch.layers.speedups import Speedups
from esc_arch.layers.window import RelativePositionBias

compiled = pytest.mark.skipif(not kernels.available(), reason="the kernels were not compiled at installation")


@pytest.fixture(params=[16, 8])
def lanes(request: pytest.FixtureRequest) -> Iterator[int]:
    """Take every kind of vector that the processor has."""
    library = kernels.library()
    assert library is not None
    chosen = library.esc_lanes(request.param)
    if chosen > request.param:
        pytest.skip("the processor has vectors of one kind only")
    yield chosen
    library.esc_lanes(kernels.WIDEST)


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


@compiled
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


@compiled
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


class Watch(TorchDispatchMode):
    """Keeps the names of the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


@compiled
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


@compiled
@pytest.mark.parametrize("shape", [(1, 3, 50, 70), (2, 3, 33, 20)])
def test_networks(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]) -> None:
    """With windows of the published size, images that do not fit them, and many strips."""
    monkeypatch.setitem(strips.BUDGET, "cpu", 2**17)
    network, x = randomise(ESC(n_blocks=2, conv_blocks=1)).eval(), torch.rand(shape)
    with torch.no_grad():
        with speedups.use(Speedups.none()):
            expected = network(x)
        with Watch() as watch:
            actual = network(x)
    assert watch.names.count("esc_arch::attend") > 2
    assert relative_difference(actual, expected) <= 1e-5


@compiled
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


@compiled
def test_little_is_stored() -> None:
    qkv, table = images(1, 32, 32, 16).requires_grad_(), torch.randn(2, 31 * 31, requires_grad=True)
    saved: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        image_attention(qkv, RelativePositionBias(table, 16), 2)
    assert 0 < sum(saved) < 2 * qkv.numel()


@compiled
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_divergence_shows(lanes: int, bad: float) -> None:
    qkv = images(1, 16, 32, 8)
    qkv[0, 8, 3, 5] = bad  # a key of the first window
    bias = RelativePositionBias(torch.zeros(1, 31 * 31), 16)
    with torch.no_grad():
        out, expected = (image_attention(qkv, bias, 1, attn_type) for attn_type in ("auto", "Naive"))
    assert out[..., :16].isnan().any()
    torch.testing.assert_close(out, expected, equal_nan=True)


def test_without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = randomise(WindowAttention(12, 16, 3)), torch.randn(1, 12, 20, 20)
    x = x.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        expected = layer(x)
        monkeypatch.setattr(kernels, "library", lambda: None)
        with Watch() as watch:
            assert relative_difference(layer(x), expected) <= 1e-5
    assert not any(name.startswith("esc_arch::") for name in watch.names)
    assert kernels.instructions() is None
    with pytest.raises(RuntimeError, match="compile"):
        torch.ops.esc_arch.attend(images(1, 16, 16, 4), torch.zeros(1, 31 * 31), 16, 1, False)


@compiled
def test_the_library_is_found_where_it_was_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in a clone, from which the package was installed elsewhere."""
    here = kernels.library()
    assert here is not None
    folder = tmp_path / "site" / "esc_arch" / "kernels"
    folder.mkdir(parents=True)
    monkeypatch.setattr(kernels, "__file__", str(tmp_path / "clone" / "__init__.py"))
    monkeypatch.setattr("sys.path", [str(tmp_path), str(tmp_path / "site")])
    assert kernels.library.__wrapped__() is None
    copied = Path(shutil.copy(here._name, folder))
    found = kernels.library.__wrapped__()
    assert found is not None
    assert found._name == str(copied)


@pytest.mark.parametrize("fault", ["another version", "no library", "a library of something else"])
def test_libraries_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: str) -> None:
    def library(path: str) -> Any:
        return type("Library", (), {"esc_interface": lambda: -1} if fault == "another version" else {})

    if fault != "no library":
        monkeypatch.setattr(ctypes, "CDLL", library)
    path = tmp_path / ("_kernels" + sysconfig.get_config_var("EXT_SUFFIX"))
    path.write_text("nothing to run")
    monkeypatch.setattr(kernels, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr("sys.path", [])
    assert kernels.library.__wrapped__() is None
