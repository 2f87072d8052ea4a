"""What every network must do: sizes, batches, precisions, copies, compilers, wrong arguments."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import TINY, Watch, randomise, relative_difference
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.torch_version import TorchVersion

from esc_arch.archs import ESC, ESCFP, ESCLTE, ESCRIB, Bicubic, ESCReal, ESCRealM
from esc_arch.models.esc_model import COMPILES_ON_CPU

LIGHT: dict[str, Any] = {"n_blocks": 3}
XL: dict[str, Any] = {"dim": 192, "pdim": 48, "n_blocks": 8, "window_size": 48, "num_heads": 12, "use_ln": True}
VARIANTS = {"ESC": (ESC, {}), "ESC-light": (ESC, LIGHT), "ESC-FP": (ESCFP, {}), "ESC-XL": (ESC, XL)}
REAL = {"ESC-Real": (ESCReal, {}), "ESC-Real-dysample": (ESCReal, {"use_dysample": True}), "ESC-Real-M": (ESCRealM, {})}
FIXED_SCALE = [ESC, ESCFP, ESCRIB, ESCReal, ESCRealM]
NETWORKS = [*FIXED_SCALE, ESCLTE]


COUNTS = [(v, s) for v in VARIANTS for s in (2, 3, 4)] + [("ESC-Real-M", s) for s in (1, 2, 3, 4)]
COUNTS += [("ESC-Real", 4), ("ESC-Real-dysample", 4)]


@pytest.mark.parametrize(("variant", "scale"), COUNTS)
def test_parameter_counts(variant: str, scale: int, official_counts: dict[str, Any]) -> None:
    network, arguments = {**VARIANTS, **REAL}[variant]
    count = sum(p.numel() for p in network(**arguments, upscaling_factor=scale).parameters())
    assert count == official_counts["params"][variant][f"x{scale}"]


FLOPS_CASES = [(variant, scale) for variant in ("ESC", "ESC-light", "ESC-FP") for scale in (2, 3, 4)]


@pytest.mark.parametrize(
    ("variant", "scale"),
    [c if c == ("ESC-FP", 4) else pytest.param(*c, marks=pytest.mark.slow) for c in FLOPS_CASES],
)
def test_flops(variant: str, scale: int, official_counts: dict[str, Any]) -> None:
    fvcore = pytest.importorskip("fvcore.nn")
    network, arguments = VARIANTS[variant]
    height, width = official_counts["flops_input_height_width"][f"x{scale}"]
    net = network(**arguments, upscaling_factor=scale, attn_type="Naive").eval()
    analysis = fvcore.FlopCountAnalysis(net, torch.rand(1, 3, height, width))
    with torch.no_grad():  # ESC x2 would need 24 GiB with a graph of gradients
        flops = analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()
    assert flops == pytest.approx(official_counts["flops"][variant][f"x{scale}"], rel=0.005)


@pytest.mark.parametrize("network", NETWORKS)
@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 3),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    scale=st.integers(1, 4),
    training=st.booleans(),
)
def test_images_of_a_batch_are_independent(
    network: type[nn.Module], batch: int, height: int, width: int, scale: int, training: bool
) -> None:
    scale = 4 if network is ESCReal else scale
    net = randomise(network(**TINY, upscaling_factor=scale)).train(training)
    images = torch.rand(batch, 3, height, width)
    untouched = images.clone()
    with torch.no_grad():
        together = net(images)
        alone = torch.cat([net(image) for image in images.split(1)])
        other_mode = net.train(not training)(images)
    assert together.shape == (batch, 3, scale * height, scale * width)
    assert relative_difference(together, alone) <= 1e-5
    assert relative_difference(together, other_mode) <= 1e-6
    assert torch.equal(images, untouched)


@pytest.mark.parametrize("network", NETWORKS)
def test_channels_last_input(network: type[nn.Module]) -> None:
    net, x = randomise(network(**TINY)), torch.rand(2, 3, 17, 12)
    expected = net(x)
    assert relative_difference(net.to(memory_format=torch.channels_last)(x), expected) <= 1e-5
    assert relative_difference(net(x.to(memory_format=torch.channels_last)), expected) <= 1e-5


@pytest.mark.parametrize("network", NETWORKS)
def test_every_parameter_gets_a_gradient(network: type[nn.Module]) -> None:
    net = randomise(network(**TINY))
    net(torch.rand(2, 3, 9, 10)).square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("network", NETWORKS)
def test_gradients_of_the_input_in_evaluation(network: type[nn.Module]) -> None:
    """Attribution methods differentiate a network in evaluation mode."""
    net, x = randomise(network(**TINY)).eval(), torch.rand(1, 3, 9, 9, requires_grad=True)
    net(x).sum().backward()
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("network", NETWORKS)
def test_copies_follow_their_own_weights(network: type[nn.Module]) -> None:
    net, x = randomise(network(**TINY)), torch.rand(1, 3, 10, 9)
    expected = net(x)
    copies = [copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    buffer = io.BytesIO()
    torch.save(net.state_dict(), buffer)
    buffer.seek(0)
    assigned = network(**TINY)
    assigned.load_state_dict(torch.load(buffer, weights_only=True), assign=True)
    for twin in [*copies, assigned]:
        assert torch.equal(twin(x), expected)
    randomise(net, seed=1)
    assert relative_difference(net(x), expected) > 1e-2
    for twin in copies:
        assert torch.equal(twin(x), expected)


@pytest.mark.parametrize("network", FIXED_SCALE)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(network: type[nn.Module], dtype: torch.dtype) -> None:
    net, x = randomise(network(**TINY)), torch.rand(2, 3, 12, 17)
    expected = net(x)
    with torch.autocast("cpu", dtype):
        assert relative_difference(net(x).float(), expected) < 0.05
    pure = net.to(dtype)(x.to(dtype))
    assert pure.dtype == dtype
    assert relative_difference(pure.float(), expected) < 0.05


@pytest.mark.parametrize("network", NETWORKS)
def test_compile_whole_network(network: type[nn.Module]) -> None:
    """`fullgraph` forbids falling back to eager; tracing needs no C++ compiler."""
    net = randomise(network(**TINY)).double()  # gradients of single precision depend on the order of operations
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    for shape in [(1, 3, 16, 16), (2, 3, 11, 20)]:
        x = torch.rand(shape, dtype=torch.float64)
        assert relative_difference(compiled(x), net(x)) <= 1e-9
    assert_same_gradients(compiled, net, x)


def assert_same_gradients(compiled: Callable[[torch.Tensor], torch.Tensor], net: nn.Module, x: torch.Tensor) -> None:
    compiled(x).square().mean().backward()
    gradients = [parameter.grad.clone() for parameter in net.parameters()]
    net.zero_grad()
    net(x).square().mean().backward()
    for parameter, gradient in zip(net.parameters(), gradients, strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-7, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_compile_with_inductor(network: type[nn.Module]) -> None:
    net, x = randomise(network(**TINY)).double(), torch.rand(2, 3, 16, 20, dtype=torch.float64)
    compiled = torch.compile(net)
    assert relative_difference(compiled(x), net(x)) <= 1e-9
    if TorchVersion(torch.__version__) >= COMPILES_ON_CPU:
        assert_same_gradients(compiled, net, x)


@pytest.mark.parametrize("attn_type", ["auto", "Naive", "Flex"])
@pytest.mark.parametrize("network", NETWORKS)
def test_export(network: type[nn.Module], attn_type: str) -> None:
    net, x = randomise(network(**TINY, attn_type=attn_type)).eval(), torch.rand(1, 3, 12, 17)
    program = torch.export.export(net, (x,))
    assert relative_difference(program.module()(x), net(x)) <= 1e-5


@pytest.mark.skipif(
    not hasattr(torch.fx.experimental._config, "backed_size_oblivious"), reason="this torch cannot export such sizes"
)
@pytest.mark.parametrize("network", NETWORKS)
def test_export_with_dynamic_sizes(network: type[nn.Module]) -> None:
    net = randomise(network(**TINY)).eval()
    dynamic = torch.export.Dim.DYNAMIC
    with torch.fx.experimental._config.patch(backed_size_oblivious=True):
        program = torch.export.export(
            net, (torch.rand(2, 3, 20, 24),), dynamic_shapes=[{0: dynamic, 2: dynamic, 3: dynamic}]
        )
    for shape in [(2, 3, 16, 16), (5, 3, 40, 33), (3, 3, 2, 5)]:
        x = torch.rand(shape)
        assert relative_difference(program.module()(x), net(x)) <= 1e-5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("network", NETWORKS)
def test_data_parallel(network: type[nn.Module]) -> None:
    net, x = randomise(network(**TINY)).cuda(), torch.rand(4, 3, 12, 12, device="cuda")
    assert relative_difference(nn.DataParallel(net)(x), net(x)) <= 1e-3


def replicate(module: nn.Module) -> nn.Module:
    """Make a replica as DataParallel does, where parameters are plain tensors, on the CPU."""
    replica = module._replicate_for_data_parallel()
    for name, child in module.named_children():
        setattr(replica, name, replicate(child))
    for name, parameter in module._parameters.items():
        setattr(replica, name, None if parameter is None else parameter.detach().clone())
    return replica


@pytest.mark.parametrize("network", NETWORKS)
def test_data_parallel_replicas(network: type[nn.Module]) -> None:
    net, x = randomise(network(**TINY)), torch.rand(2, 3, 12, 12)
    assert relative_difference(nn.DataParallel(net)(x), net(x)) <= 1e-5
    assert relative_difference(replicate(net)(x), net(x)) <= 1e-5


@pytest.mark.parametrize("variant", VARIANTS)
def test_building_does_nothing_for_all_pairs_of_tokens(variant: str) -> None:
    """The published constructor loops over them in Python, and stores an index for each."""
    network, arguments = VARIANTS[variant]
    with Watch() as watch:
        net = network(**arguments)
    with Watch() as narrow:
        network(**arguments | {"window_size": 4})
    assert watch.names == narrow.names
    window = net.blocks[0].attn.window_size
    names = {name for name, _ in net.named_parameters()}
    assert set(net.state_dict()) == names
    assert max(t.numel() for t in net.state_dict().values()) < window**4 * net.blocks[0].attn.num_heads
    assert not list(net.buffers())


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("num_heads", 3),
        ("num_heads", 0),
        ("pdim", 17),
        ("pdim", 0),
        ("kernel_size", 12),
        ("kernel_size", -1),
        ("attn_type", "flash"),
        ("upscaling_factor", 0),
        ("n_blocks", 0),
        ("conv_blocks", -1),
        ("window_size", 0),
        ("exp_ratio", 0),
    ],
)
def test_wrong_arguments_are_named(network: type[nn.Module], argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=argument):
        network(**{**TINY, argument: value})


@pytest.mark.parametrize("network", FIXED_SCALE)
def test_scales_between_are_refused(network: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match="upscaling_factor"):
        network(**TINY, upscaling_factor=2.5)


@pytest.mark.parametrize("network", [*NETWORKS, Bicubic])
@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (1, 4, 8, 8), (3, 8, 8), (1, 3, 0, 8)])
def test_wrong_input_is_named(network: type[nn.Module], shape: tuple[int, ...]) -> None:
    net = network() if network is Bicubic else network(**TINY)
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        net(torch.rand(shape))
