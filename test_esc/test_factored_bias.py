"""Biases that are products: FlashBias and ESC-RIB, their weights, tables turned into factors, every way to compute."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import GOLDEN, TINY, randomise, relative_difference
from test_check import parsed
from torch import nn

import esc_arch
from esc_arch.archs import ESC, ESCRIB, ESCReal, ESCRealM
from esc_arch.checks.options import check_options
from esc_arch.common.errors import UserError
from esc_arch.fast import speedups
from esc_arch.layers import factored_bias, implicit_bias
from esc_arch.layers.attention import set_backend
from esc_arch.layers.backend import ATTN_TYPES
from esc_arch.layers.factored_bias import FactoredBias, factorise
from esc_arch.layers.implicit_bias import ImplicitBiasAttention
from esc_arch.layers.window import RelativePositionBias
from esc_arch.weights import build, identify
from esc_arch.weights.shapes import UndecidedError

TINY_RIB: dict[str, Any] = {**TINY, "rank": 3, "rib_hidden_dim": 6, "rib_n_freqs": 4}
FLASH: dict[str, Any] = {**TINY, "attn_type": "FlashBias", "flashbias_rank": 5}


@pytest.mark.parametrize("attn_type", ATTN_TYPES)
@pytest.mark.parametrize(("name", "network"), [("escrib_x2", ESCRIB), ("esc_flashbias_x2", ESC)])
def test_golden_cases(name: str, network: type[nn.Module], attn_type: str) -> None:
    golden = torch.load(GOLDEN / f"{name}.pt", weights_only=True)
    net = network(**golden["kwargs"])
    net.load_state_dict(golden["state_dict"], strict=True)
    set_backend(net, attn_type)
    for case in golden["cases"]:
        for training in (False, True):
            with torch.set_grad_enabled(training):
                output = net.train(training)(case["input"])
            assert relative_difference(output, case["output"]) <= 1e-5, case["note"]


@pytest.mark.parametrize("name", ["escrib_x2", "esc_flashbias_x2"])
def test_golden_networks_are_recognised(name: str) -> None:
    golden = torch.load(GOLDEN / f"{name}.pt", weights_only=True)
    known = {"window_size": golden["kwargs"]["window_size"]} if name == "escrib_x2" else {}
    net = build(golden["state_dict"], **known)
    case = golden["cases"][1]
    assert relative_difference(net(case["input"]), case["output"]) <= 1e-5
    forced = build(golden["state_dict"], attn_type="Naive", **known)
    assert forced.blocks[0].attn.attn_type == "Naive"
    assert relative_difference(forced(case["input"]), case["output"]) <= 1e-5


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_published_counts(scale: int, family_counts: dict[str, Any]) -> None:
    published = family_counts["params"]
    flash = {"attn_type": "FlashBias", "flashbias_rank": 48}
    with torch.device("meta"):
        networks = {
            "ESC-RIB": ESCRIB(upscaling_factor=scale),
            "ESC-FlashBias-R48": ESC(**flash, upscaling_factor=scale),
        }
        if scale == 4:
            networks["ESC-Real-FlashBias-R48"] = ESCReal(**flash)
            whole = ESC(upscaling_factor=4, attn_type="FlashBias")
            assert sum(parameter.numel() for parameter in whole.parameters()) == 10_718_520  # of the largest rank
    for name, net in networks.items():
        assert sum(parameter.numel() for parameter in net.parameters()) == published[name][f"x{scale}"]


@pytest.mark.slow
def test_published_macs(family_counts: dict[str, Any]) -> None:
    """But for attention, which the authors count with a rank of channels in all three products."""
    fvcore = pytest.importorskip("fvcore.nn")
    height, width = family_counts["flops_input_height_width"]["x4"]
    net = ESCRIB(upscaling_factor=4, n_blocks=1).eval(), ESCRIB(upscaling_factor=4, n_blocks=2).eval()
    counts = []
    for network in net:
        set_backend(network, "Naive")
        analysis = fvcore.FlopCountAnalysis(network, torch.rand(1, 3, height, width))
        with torch.no_grad():
            counts.append(analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total())
    block, windows, tokens = counts[1] - counts[0], 3 * 5, 64**2
    attention = windows * 4 * tokens**2 * 32 + 4 * tokens**2 * 16  # two products of 16 channels, and the bias, once
    ours = counts[0] + 4 * block - 5 * attention
    published = family_counts["flops"]["ESC-RIB"]["x4"] - family_counts["flops_attention_part"]["ESC-RIB"]["x4"]
    assert ours == pytest.approx(published, rel=0.005)


def slow_bias(attention: ImplicitBiasAttention) -> np.ndarray[Any, Any]:
    """The bias of all pairs of places, by its definition, in double precision."""
    window = attention.window_size
    weights = {name: parameter.detach().double().numpy() for name, parameter in attention.named_parameters()}
    factors = []
    for row, column in np.ndindex(window, window):
        x, y = 2 * (column + 0.5) / window - 1, 2 * (row + 0.5) / window - 1
        features = [x, y]
        for octave in range(attention.n_freqs):
            features += [f(2**octave * place) for f in (np.sin, np.cos) for place in (x, y)]
        hidden = np.array(features) @ weights["to_hidden"] + weights["hidden_b"][0]
        hidden = np.sin(30 * hidden) if attention.siren else np.maximum(hidden, 0)
        factors.append([hidden @ weights[name] for name in ("to_q", "to_k")])
    q, k = np.array(factors).transpose(1, 2, 0, 3)  # (heads, tokens, rank) each
    return q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])


@pytest.mark.parametrize(("window", "siren"), [(8, False), (5, False), (4, True), (1, False)])
def test_implicit_bias_is_its_definition(window: int, siren: bool) -> None:
    attention = randomise(ImplicitBiasAttention(8, window, 2, rank=3, hidden_dim=7, n_freqs=4, siren=siren))
    found = attention.bias().expanded(torch.float32).detach().double().numpy()
    assert np.abs(found - slow_bias(attention)).max() <= 1e-4 * np.abs(found).max()


def test_the_bias_is_computed_once_for_the_weights_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = randomise(ESCRIB(**TINY_RIB)).eval(), torch.rand(1, 3, 20, 11)
    computed: list[int] = []
    features = ImplicitBiasAttention.features
    monkeypatch.setattr(ImplicitBiasAttention, "features", lambda self: (computed.append(1), features(self))[1])
    with torch.no_grad():
        first = net(x)
        assert len(computed) == 1
        assert torch.equal(net(x[..., :9]), net(x[..., :9]))
        assert len(computed) == 1
        twin = copy.deepcopy(net)
        assert torch.equal(twin(x), first)
        changes = [
            lambda: net.blocks[0].attn.to_q.mul_(-1),
            lambda: net.load_state_dict({**net.state_dict(), "blocks.0.attn.hidden_b": torch.ones(1, 6)}),
            lambda: randomise(net, seed=3),
            lambda: setattr(net.blocks[0].attn.to_k, "data", torch.randn(2, 6, 3)),
            lambda: setattr(net.blocks[0].attn, "to_k", nn.Parameter(torch.randn(2, 6, 3))),
        ]
        for change in changes:
            change()
            fresh = ESCRIB(**TINY_RIB).eval()
            fresh.load_state_dict(net.state_dict())
            assert torch.equal(net(x), fresh(x))
        assert torch.equal(twin(x), first)
    with torch.inference_mode():
        assert relative_difference(twin(x), first) <= 1e-6
    before = len(computed)
    net(x).sum().backward()
    net(x).sum().backward()
    assert len(computed) == before + 2


@pytest.mark.parametrize("gate_type", [None, "Linear", "DWC"])
@pytest.mark.parametrize("size", [(40, 16), (37, 9), (64, 8), (5, 30)])
def test_strips_and_heads_are_the_definition(
    gate_type: str | None, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gates look one row further than a strip, into rows that are overwritten already."""
    from esc_arch.fast import strips

    monkeypatch.setitem(strips.BUDGET, "cpu", 1)
    net, x = randomise(ESCRIB(**TINY_RIB, gate_type=gate_type)).eval(), torch.rand(2, 3, *size)
    with torch.no_grad():
        fast = net(x)
        with speedups.use(speedups.Speedups.none()):
            assert relative_difference(fast, net(x)) <= 1e-5


@pytest.mark.parametrize("few", [0, 64])
def test_gradients_of_the_factors(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the factors become channels, or a bias."""
    monkeypatch.setattr(factored_bias, "FEW_CHANNELS", few)
    q, k, v = (torch.randn(3, 2, 16, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    factors = [torch.randn(2, 16, 5, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    bias = FactoredBias(factors[0], factors[1], 4)
    weights = (q @ k.transpose(-2, -1) / 2 + factors[0] @ factors[1].transpose(-2, -1)).softmax(-1)
    expected = torch.autograd.grad((weights @ v).square().sum(), [q, k, v, *factors])
    found = torch.autograd.grad(bias.attend(q, k, v).square().sum(), [q, k, v, *factors])
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("rank", [1, 6, 16, 40])
def test_a_table_becomes_its_best_factors(rank: int) -> None:
    table = torch.randn(2, 49)
    q, k = factorise(table, 4, rank)
    assert q.shape == k.shape == (2, 16, rank)
    whole = RelativePositionBias(table, 4).expanded(torch.float32)
    error = torch.linalg.matrix_norm(q @ k.transpose(1, 2) - whole)
    best = torch.linalg.svdvals(whole)[:, rank:].square().sum(1).sqrt()  # Eckart-Young
    torch.testing.assert_close(error, best, rtol=1e-3, atol=1e-4)


NETWORKS = [(ESC, 2), (ESC, 3), (ESCReal, 4), (ESCRealM, 4), (ESCRIB, 3)]


@pytest.mark.parametrize("rank", [64, 100])
@pytest.mark.parametrize(("network", "scale"), NETWORKS)
@torch.no_grad()
def test_networks_take_weights_with_a_table(network: type[nn.Module], scale: int, rank: int) -> None:
    """With as many channels as there are tokens, or more, they are the same; at another scale too."""
    source = randomise(network(**TINY, upscaling_factor=2 if network is ESC else scale, attn_type="auto")).eval()
    weights, x = source.state_dict(), torch.rand(1, 3, 19, 12)
    before = dict(weights)
    target = network(**{**FLASH, "flashbias_rank": rank}, upscaling_factor=scale).eval()
    target.load_state_dict(weights, strict=True)
    assert weights.keys() == before.keys()
    assert all(weights[name] is before[name] for name in before)
    table = network(**TINY, upscaling_factor=scale, attn_type="auto").eval()
    table.load_state_dict(weights)
    assert relative_difference(target(x), table(x)) <= 1e-4
    assert torch.equal(build(target.state_dict(), **({"gate_type": "DWC"} if network is ESCRIB else {}))(x), target(x))


def test_a_table_of_another_window_is_refused() -> None:
    weights = ESC(**{**TINY, "window_size": 4}).state_dict()
    with pytest.raises(RuntimeError, match=r"relative_position_bias has the shape \(2, 49\), but .* windows of 8 need"):
        ESC(**FLASH).load_state_dict(weights)
    with pytest.raises(RuntimeError, match="relative_position_bias"):
        ESC(**TINY).load_state_dict(ESC(**FLASH).state_dict())  # there is no way back


@pytest.mark.parametrize(
    "arguments",
    [
        *({"upsampler_type": kind, "upscaling_factor": s} for kind in ("pixelshuffle_direct", "pixelshuffle")
          for s in (1, 2, 3, 4)),
        *({"upsampler_type": "nn+conv", "upscaling_factor": s} for s in (1, 4)),
        *({"gate_type": gate} for gate in (None, "Linear", "DWC")),
        *({"attn_type": kind, "upscaling_factor": 3} for kind in ("auto", "FlashBias")),
        {"use_ln": True, "rib_n_freqs": 2, "intermediate_dim": 12, "upsampler_type": "pixelshuffle"},
    ],
)  # fmt: skip
@torch.no_grad()
def test_every_argument_is_inferred(arguments: dict[str, Any], tmp_path: Path) -> None:
    if arguments.get("attn_type") == "FlashBias":
        arguments = {**arguments, "flashbias_rank": 5}
    source = randomise(ESCRIB(**{**TINY_RIB, **arguments})).eval()
    torch.save({"params_ema": source.state_dict()}, tmp_path / "w.pth")
    x, told = torch.rand(1, 3, 13, 9), {"window_size": 8} if "attn_type" not in arguments else {}
    loaded = esc_arch.load(tmp_path / "w.pth", **told)
    assert type(loaded) is ESCRIB
    assert loaded.upscaling_factor == arguments.get("upscaling_factor", 2)
    assert torch.equal(loaded(x), source(x))


def test_the_window_is_that_of_the_published_unless_told() -> None:
    with torch.device("meta"):
        weights = ESCRIB(**{**TINY_RIB, "window_size": 16}).state_dict()
    assert identify(weights).arguments["window_size"] == 64
    assert identify(weights, window_size=16).arguments["window_size"] == 16


@pytest.mark.parametrize(
    ("arguments", "message", "told"),
    [
        ({"upsampler_type": "nn+conv", "upscaling_factor": 3}, "enlarge 2 or 3 times", {"upscaling_factor": 3}),
        ({"attn_type": "RIBSiren"}, "say attn_type='RIBSiren'", {"attn_type": "RIBSiren"}),
        ({"attn_type": "NoPE"}, "say num_heads", {"num_heads": 2}),
    ],
)
@torch.no_grad()
def test_what_weights_do_not_tell_is_asked(arguments: dict[str, Any], message: str, told: dict[str, Any]) -> None:
    source, x = randomise(ESCRIB(**{**TINY_RIB, **arguments})).eval(), torch.rand(1, 3, 9, 12)
    with pytest.raises(UndecidedError, match=message):
        identify(source.state_dict(), window_size=8)
    assert torch.equal(build(source.state_dict(), window_size=8, **told)(x), source(x))


def test_other_scales_load() -> None:
    source, target = randomise(ESCRIB(**TINY_RIB)), ESCRIB(**TINY_RIB, upscaling_factor=3)
    target.load_state_dict(source.state_dict(), strict=True)
    twin = ESC(**TINY, upscaling_factor=3)  # whose conversion is tested elsewhere
    converted = {**ESC(**TINY).state_dict(), "to_img.weight": source.state_dict()["upsampler.up_conv.weight"]}
    twin.load_state_dict(converted)
    torch.testing.assert_close(target.upsampler.up_conv.weight, twin.to_img.weight)


def test_pictures_are_padded_to_the_windows_of_the_network() -> None:
    pixels = np.random.default_rng(0).random((13, 10, 3), "float32")
    net = randomise(ESCRIB(**TINY_RIB)).eval()
    with torch.no_grad():
        padded = nn.functional.pad(torch.from_numpy(pixels).permute(2, 0, 1)[None], (0, 6, 0, 3), mode="reflect")
        expected = net(padded)[0, :, :26, :20].permute(1, 2, 0).clamp(0, 1)
    torch.testing.assert_close(torch.from_numpy(esc_arch.upscale_image(pixels, net)), expected, rtol=0, atol=1e-5)


def test_commands_take_the_window(folder: Path) -> None:
    from esc_arch.export import export
    from esc_arch.upscale.network import load_enlarger

    source = randomise(ESCRIB(**TINY_RIB)).eval()
    torch.save({"params": source.state_dict()}, "rib.pth")
    torch.save({"params": ESC(**TINY).state_dict()}, "esc.pth")
    x = torch.rand(1, 3, 16, 8)
    with torch.no_grad():
        assert relative_difference(load_enlarger("rib.pth", window=8)(x), source(x).clamp(0, 1)) <= 1e-6
        assert load_enlarger("rib.pth").window == 64
        assert relative_difference(esc_arch.load("rib.pth", window=8)(x), source(x)) <= 1e-6
    assert (esc_arch.load("rib.pth").window_size, esc_arch.load("rib.pth", window_size=9).window_size) == (64, 9)
    picture = np.random.default_rng(0).random((9, 7, 3), "float32")
    found, expected = esc_arch.upscale_image(picture, "rib.pth", window=8), esc_arch.upscale_image(picture, source)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.array_equal(esc_arch.upscale_image(picture, source, window=8), expected)  # it is the network's own
    with pytest.raises(UserError, match="a network has its own; build it with window_size=4"):
        esc_arch.upscale_image(picture, source, window=4)
    assert esc_arch.load("rib.pth", window=8, window_size=8).window_size == 8
    with pytest.raises(UserError, match=r"Two windows are given, window=8 and window_size=16: leave one of them out\."):
        esc_arch.load("rib.pth", window=8, window_size=16)
    for take in (load_enlarger, esc_arch.load):
        with pytest.raises(UserError, match="A window is given, which is for ESC-RIB; the weights are those of ESC:"):
            take("esc.pth", window=8)
        for wrong in (0, -8, 7.5, "8", True):
            with pytest.raises(UserError, match="window must be a whole number of at least 1, got"):
                take("rib.pth", window=wrong)
    assert export("rib.pth", "torchscript", window=8).difference <= 1e-4


@pytest.mark.parametrize(
    "source",
    [ESC(**FLASH), ESCReal(**FLASH), ESCRealM(**FLASH, upscaling_factor=2)],
    ids=lambda source: type(source).__name__,
)
def test_commands_take_factors(folder: Path, source: ESC | ESCReal | ESCRealM) -> None:
    from esc_arch.compare.quality import load_exactly
    from esc_arch.export import export

    source = randomise(source).eval()
    torch.save({"params": source.state_dict(), "params_ema": source.state_dict()}, "factors.pth")
    picture = np.random.default_rng(0).random((9, 7, 3), "float32")
    expected = esc_arch.upscale_image(picture, source)
    np.testing.assert_allclose(esc_arch.upscale_image(picture, "factors.pth"), expected, atol=1e-6)
    export("factors.pth", "safetensors", "exported.safetensors")
    np.testing.assert_allclose(esc_arch.upscale_image(picture, "exported.safetensors"), expected, atol=1e-6)
    assert export("factors.pth", "torchscript", "exported.pt").difference <= 1e-4
    compared = type(source)(**FLASH, upscaling_factor=source.upscaling_factor).eval()
    load_exactly(compared, "factors.pth", "params", "options.yml", source.upscaling_factor)
    np.testing.assert_allclose(esc_arch.upscale_image(picture, compared), expected, atol=1e-6)


@pytest.mark.parametrize("arguments", [{}, {"attn_type": "FlashBias", "flashbias_rank": 4}])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision(arguments: dict[str, Any], dtype: torch.dtype) -> None:
    net, x = randomise(ESCRIB(**{**TINY_RIB, **arguments})), torch.rand(2, 3, 12, 17)
    expected = net(x)
    with torch.autocast("cpu", dtype):
        assert relative_difference(net(x).float(), expected) < 0.05
    assert relative_difference(net.to(dtype)(x.to(dtype)).float(), expected) < 0.05


@pytest.mark.parametrize("network", [ESC, ESCRIB])
def test_traced_graphs(network: type[nn.Module]) -> None:
    net = randomise(network(**(FLASH if network is ESC else TINY_RIB))).eval()
    x = torch.rand(1, 3, 12, 17)
    assert relative_difference(torch.export.export(net, (x,)).module()(x), net(x)) <= 1e-5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attn_type": "flash"}, "attn_type must be one of RIB, "),
        ({"attn_type": "RoPEViT"}, "'RoPEViT' is not here"),
        ({"gate_type": "SE"}, "gate_type must be one of None, DWC, Linear"),
        ({"rank": 0}, "rank must be positive"),
        ({"rib_hidden_dim": 0}, "rib_hidden_dim must be positive"),
        ({"rib_n_freqs": -1}, "rib_n_freqs must not be negative"),
        ({"upsampler_type": "bicubic"}, "upsampler_type must be one of pixelshuffle_direct"),
        ({"upsampler_type": "nn+conv", "upscaling_factor": 5}, "by 3 and by powers of two"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ESCRIB(**{**TINY_RIB, **arguments})


def test_training_from_scratch_says_what_to_do(tiny_options: dict[str, Any], folder: Path) -> None:
    tiny_options["network_g"] = {"type": "ESC", **FLASH, "upscaling_factor": 2}
    with pytest.raises(UserError, match=r"learns no positions from scratch.* Train with another attn_type first"):
        check_options(parsed(tiny_options))
    torch.save({"params": ESC(**TINY).state_dict()}, folder / "table.pth")
    tiny_options["path"]["pretrain_network_g"] = "table.pth"
    check_options(parsed(tiny_options))


def test_a_rank_beside_a_table_is_told(tiny_options: dict[str, Any], folder: Path) -> None:
    tiny_options["network_g"] = {"type": "ESC", **TINY, "upscaling_factor": 2, "flashbias_rank": 48}
    (told,) = check_options(parsed(tiny_options))
    assert told.startswith("network_g:flashbias_rank has no effect")
    tiny_options["network_g"] = {"type": "ESCRIB", **TINY_RIB, "upscaling_factor": 2, "rank": None, "flashbias_rank": 8}
    assert check_options(parsed(tiny_options)) == []


def test_nothing_is_kept_of_networks_that_are_gone() -> None:
    net = ESCRIB(**TINY_RIB).eval()
    with torch.no_grad():
        net(torch.rand(1, 3, 8, 8))
    attention = net.blocks[0].attn
    assert attention in implicit_bias._KEPT
    before = len(implicit_bias._KEPT)
    del net, attention
    assert len(implicit_bias._KEPT) < before
