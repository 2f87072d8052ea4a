"""The plug-in for spandrel: what it recognises, what it leaves alone, and that the networks run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import GOLDEN, TINY, randomise, relative_difference
from test_identify import VARIANTS, scale_argument
from torch import nn

import esc_arch
from esc_arch.archs import ELAN, ESC, ESCFP, ESCLTE, ESCReal, ESCRealM, HiT_SIR, HiT_SRF
from esc_arch.common.errors import UserError
from esc_arch.common.torchvision_operators import define_torchvision_operators
from esc_arch.layers.window import pad_to_multiple
from esc_arch.weights import convert

define_torchvision_operators()  # a CPU build of torch beside a CUDA build of torchvision
spandrel = pytest.importorskip("spandrel")

TINY_HIT: dict[str, Any] = {"embed_dim": 24, "depths": [2], "num_heads": [2]}
NETWORKS: list[tuple[type[nn.Module], dict[str, Any]]] = [
    (ESC, TINY),
    (ESC, {**TINY, "use_ln": True}),
    (ESCFP, TINY),
    (HiT_SIR, TINY_HIT),
    (HiT_SRF, TINY_HIT),
]


@pytest.fixture
def registry() -> Any:
    """Spandrel's own registry with the plug-in, in a copy."""
    registry = spandrel.MAIN_REGISTRY.copy()
    esc_arch.register_spandrel(registry)
    return registry


@pytest.fixture
def loader(registry: Any) -> Any:
    return spandrel.ModelLoader(registry=registry)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize(("network", "arguments"), NETWORKS)
def test_networks_are_recognised_and_run(
    loader: Any, network: type[nn.Module], arguments: dict[str, Any], scale: int
) -> None:
    source = randomise(network(**arguments, **{scale_argument(network): scale})).eval()
    model = loader.load_from_state_dict({"params_ema": source.state_dict()})
    assert type(model.model) is network
    assert model.architecture.id == network.__name__
    assert (model.scale, model.input_channels, model.output_channels) == (scale, 3, 3)
    assert model.purpose == ("SR" if scale > 1 else "Restoration")
    x = torch.rand(1, 3, 13, 10)
    with torch.no_grad():
        expected = source(pad_to_multiple(x, arguments.get("window_size", 1)))[..., : 13 * scale, : 10 * scale]
    assert model(x).shape == (1, 3, 13 * scale, 10 * scale)
    torch.testing.assert_close(model(x), expected.clamp(0, 1), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("network", "arguments"),
    [
        (ESCReal, {"use_dysample": True}),
        (ESCReal, {}),
        (ESCReal, {"upscaling_factor": 2, "neosr_head": True}),
        (ESCRealM, {"upscaling_factor": 2}),
        (ESCRealM, {"upscaling_factor": 2, "unshuffle_mod": False}),
        (ESCRealM, {"upscaling_factor": 3, "upsampler": "lda"}),
        (ESCRealM, {"upscaling_factor": 1}),
    ],
)
def test_real_world_networks_are_recognised_and_run(
    loader: Any, network: type[nn.Module], arguments: dict[str, Any]
) -> None:
    source = randomise(network(**TINY, **arguments)).eval()
    model = loader.load_from_state_dict(source.state_dict())
    assert type(model.model) is network
    x = torch.rand(1, 3, 16, 8)
    with torch.no_grad():
        torch.testing.assert_close(model(x), source(x).clamp(0, 1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_are_not_taken_for_networks_of_spandrel(registry: Any, variant: str) -> None:
    network, arguments = VARIANTS[variant]
    with torch.device("meta"):
        weights = network(**arguments).state_dict()
    detected = [support.architecture.id for support in registry.architectures("detection") if support.detect(weights)]
    assert detected[0] == network.__name__
    assert not set(detected[1:]) & {"ESC", "ESCFP", "HiT_SIR", "HiT_SRF"}


@pytest.mark.parametrize("name", ["esc_x2", "esc_x4", "escfp_x2"])
def test_golden_outputs(loader: Any, name: str) -> None:
    golden = torch.load(GOLDEN / f"{name}.pt", weights_only=True)
    model = loader.load_from_state_dict(golden["state_dict"])
    case = next(case for case in golden["cases"] if case["mode"] == "eval" and model.size_requirements.check(
        case["input"].shape[-1], case["input"].shape[-2]
    ))  # fmt: skip
    torch.testing.assert_close(model(case["input"]), case["output"].clamp(0, 1), rtol=0, atol=1e-5)


def test_converted_and_half_precision_files(loader: Any, tmp_path: Path) -> None:
    source, x = randomise(ESC(**TINY)), torch.rand(1, 3, 8, 16)
    torch.save({"params": source.state_dict()}, tmp_path / "a.pth")
    convert(str(tmp_path / "a.pth"), str(tmp_path / "b.safetensors"))
    convert(str(tmp_path / "b.safetensors"), str(tmp_path / "c.pth"), half=True)
    expected = loader.load_from_file(tmp_path / "a.pth")(x)
    assert torch.equal(loader.load_from_file(tmp_path / "b.safetensors")(x), expected)
    assert relative_difference(loader.load_from_file(tmp_path / "c.pth")(x), expected) < 0.01


@pytest.mark.parametrize("network", [ESC, ESCFP])
def test_half_precision_networks(loader: Any, network: type[nn.Module]) -> None:
    model = loader.load_from_state_dict(randomise(network(**TINY)).state_dict())
    x = torch.rand(1, 3, 16, 16)
    expected = model(x)
    assert relative_difference(model.half()(x.half()).float(), expected) < 0.05
    assert relative_difference(model.bfloat16()(x.bfloat16()).float(), expected) < 0.05


@pytest.mark.parametrize(
    "weights",
    [
        lambda: {name: tensor for name, tensor in ESC(**TINY).state_dict().items() if name != "last.bias"},
        lambda: {**ESC(**TINY).state_dict(), "to_img.4.weight": torch.zeros(3, 16, 3, 3)},
        lambda: {**ESC(**TINY).state_dict(), "another": torch.zeros(1)},
        lambda: {"encoder." + name: tensor for name, tensor in ESC(**TINY).state_dict().items()},
        lambda: ELAN().state_dict(),
        lambda: ESCLTE(**TINY).state_dict(),
    ],
)
def test_near_misses_do_not_match(loader: Any, weights: Any) -> None:
    with pytest.raises(spandrel.UnsupportedModelError):
        loader.load_from_state_dict(weights())


def test_what_weights_do_not_tell_is_said_in_a_sentence(loader: Any) -> None:
    weights = ESCRealM(**TINY, upscaling_factor=3).state_dict()
    del weights["to_img.MetaUpsample"]
    with pytest.raises(UserError, match="do not tell whether they enlarge 2 or 3 times"):
        loader.load_from_state_dict(weights)


def test_networks_of_spandrel_are_left_to_it(loader: Any) -> None:
    from spandrel.architectures.SwinIR import SwinIR

    source = SwinIR(embed_dim=12, depths=[1], num_heads=[2], upscale=2, upsampler="pixelshuffledirect", window_size=8)
    assert loader.load_from_state_dict(source.state_dict()).architecture.id == "SwinIR"


def test_why_spandrel_cannot_build_a_network_is_said(tmp_path: Path) -> None:
    """It takes the growth of ESRGAN's blocks for 32."""
    from basicsr.archs.rrdbnet_arch import RRDBNet

    torch.save({"params": RRDBNet(3, 3, num_feat=8, num_block=1, num_grow_ch=4).state_dict()}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"spandrel cannot build the network \(size mismatch for .*\)\.$"):
        esc_arch.upscale_image(np.zeros((8, 8, 3), np.uint8), str(tmp_path / "w.pth"))


def test_registering_twice_changes_nothing() -> None:
    esc_arch.register_spandrel()
    esc_arch.register_spandrel()
    ids = [support.architecture.id for support in spandrel.MAIN_REGISTRY]
    assert ids.count("ESC") == 1
    assert spandrel.ModelLoader().load_from_state_dict(ESC(**TINY).state_dict()).architecture.id == "ESC"


def test_without_spandrel_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "spandrel", None)
    with pytest.raises(ImportError, match=r"esc_arch\[peers\]"):
        esc_arch.register_spandrel()
