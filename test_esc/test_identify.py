"""Networks are recognised from names and shapes alone, and from nothing less."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import GOLDEN, TINY, option_file, randomise, relative_difference
from torch import nn

import esc_arch
from esc_arch.archs import ELAN, ESC, ESCFP, ESCLTE, ESCReal, ESCRealM, HiT_SIR, HiT_SNG, HiT_SRF
from esc_arch.common.errors import UserError
from esc_arch.layers import UPSAMPLERS
from esc_arch.weights import build, bundled_names, identify
from esc_arch.weights.infer import NotRecognisedError

LIGHT: dict[str, Any] = {"n_blocks": 3}
XL: dict[str, Any] = {"dim": 192, "pdim": 48, "n_blocks": 8, "window_size": 48, "num_heads": 12, "use_ln": True}
VARIANTS: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
    "ESC": (ESC, {}),
    "ESC-light": (ESC, LIGHT),
    "ESC-XL": (ESC, XL),
    "ESC-FP": (ESCFP, {}),
    "HiT-SIR": (HiT_SIR, {}),
    "HiT-SRF": (HiT_SRF, {}),
    "HiT-SNG": (HiT_SNG, {}),
    "windows of one's own": (
        HiT_SNG,
        {"embed_dim": 24, "depths": [2], "num_heads": [2], "base_win_size": [6, 4], "hier_win_ratios": [0.5, 3]},
    ),
    "another kernel, expansion and normalisation": (
        ESC,
        {**TINY, "kernel_size": 5, "exp_ratio": 2.4, "use_ln": True, "n_blocks": 11, "conv_blocks": 12},
    ),
    "no convolution": (ESC, {**TINY, "conv_blocks": 0}),
    "odd numbers": (ESCFP, {**TINY, "dim": 15, "pdim": 5, "num_heads": 3, "window_size": 7, "exp_ratio": 1.7}),
    "uneven groups": (HiT_SIR, {"embed_dim": 24, "depths": [2, 3, 1], "num_heads": [2, 3, 6], "mlp_ratio": 1.5}),
    "grey": (HiT_SRF, {"embed_dim": 20, "depths": [2], "num_heads": [2], "in_chans": 1}),
}


def scale_argument(network: type[nn.Module]) -> str:
    return "upscale" if "upscale" in inspect.signature(network).parameters else "upscaling_factor"


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_argument_is_inferred(variant: str, scale: int) -> None:
    network, arguments = VARIANTS[variant]
    arguments = {**arguments, scale_argument(network): scale}
    with torch.device("meta"):
        weights = network(**arguments).state_dict()
    identity = identify(weights)
    assert identity.network is network
    assert identity.scale == scale
    parameters = inspect.signature(network).parameters
    for name, value in {**{name: parameters[name].default for name in identity.arguments}, **arguments}.items():
        found = identity.arguments[name]
        if name == "exp_ratio":  # only the number of hidden channels is visible
            dim = identity.arguments["dim"]
            assert int(found * dim) == int(value * dim)
        elif isinstance(value, tuple | list):
            assert list(found) == list(value)[: len(found)]
        else:
            assert found == value, name


REAL: list[tuple[type[nn.Module], dict[str, Any]]] = [
    (ESCReal, {}),
    (ESCReal, {"use_dysample": True, "kernel_size": 7}),
    *((ESCRealM, {"upsampler": upsampler, "upscaling_factor": scale})
      for upsampler in UPSAMPLERS[1:] for scale in (1, 2, 3, 4)),
    (ESCRealM, {"upsampler": "conv", "upscaling_factor": 1, "unshuffle_mod": False}),
    (ESCRealM, {"upsampler": "pixelshuffle", "mid_dim": 24}),
    (ESCLTE, {}),
    (ESCLTE, {"use_ln": True, "hidden_dim": 10, "hidden_list": [7, 9]}),
    (ESCLTE, {"hidden_list": []}),
]  # fmt: skip


@pytest.mark.parametrize(("network", "arguments"), REAL)
def test_real_world_and_any_scale(network: type[nn.Module], arguments: dict[str, Any]) -> None:
    weights = network(**{**TINY, **arguments}).state_dict()
    identity = identify(weights)
    assert identity.network is network
    assert identity.any_scale == (network is ESCLTE)
    for name, value in {**TINY, **arguments}.items():
        assert identity.arguments[name] == value, name


@pytest.mark.parametrize("name", ["esc_x2", "esc_x4", "escfp_x2", "hit_sng_x2", "hit_srf_x2"])
def test_golden_networks_are_built_from_their_weights(name: str) -> None:
    golden = torch.load(GOLDEN / f"{name}.pt", weights_only=True)
    network = build(golden["state_dict"])
    assert not network.training
    for case in golden["cases"]:
        with torch.no_grad():
            output = network(case["input"])
        assert relative_difference(output, case["output"]) <= 1e-5


def tiny_weights(network: type[nn.Module] = ESC, **arguments: Any) -> dict[str, torch.Tensor]:
    return dict(network(**{**TINY, **arguments}).state_dict())


def without(weights: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {other: tensor for other, tensor in weights.items() if other != name}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (lambda: without(tiny_weights(), "last.bias"), "look like ESC, but last.bias is missing"),
        (lambda: without(tiny_weights(), "proj.weight"), "'proj.weight' is missing"),
        (lambda: {**tiny_weights(), "extra.weight": torch.zeros(1)}, "extra.weight is left over"),
        (lambda: {**tiny_weights(), "last.weight": torch.zeros(16, 16, 1, 1)}, "last.weight has the shape"),
        (lambda: {**tiny_weights(), "to_img.weight": torch.zeros(13, 16, 3, 3)}, "must be a square number"),
        (lambda: {**tiny_weights(), "plk_filter": torch.zeros(4, 4)}, "do not fit ESC"),
        (lambda: {**tiny_weights(), "plk_filter": torch.zeros(4, 4, 12, 12)}, "kernel_size must be odd"),
        (lambda: without(tiny_weights(ESCFP), "lk_channel"), "look like ESCFP, but lk_channel is missing"),
        (lambda: {**tiny_weights(), "to_img.1.weight": torch.zeros(1)}, "to_img.1.weight is left over"),
        (lambda: without(tiny_weights(ESCReal), "to_img.4.bias"), "look like ESCReal, but to_img.4.bias is missing"),
        (lambda: without(tiny_weights(ESCRealM), "to_img.0.weight"), "ESCRealM, but to_img.0.weight is missing"),
        (lambda: {**tiny_weights(ESCRealM), "to_img.8.weight": torch.zeros(1)}, "to_img.8.weight has the shape"),
        (lambda: {"encoder." + name: tensor for name, tensor in tiny_weights().items()}, "not a whole ESCLTE"),
        (lambda: without(tiny_weights(ESCLTE), "phase.weight"), "look like ESCLTE, but phase.weight is missing"),
        (lambda: ELAN().state_dict(), "none of the ESC family, HiT-SR, MambaIR"),
        (lambda: {}, "none of the ESC family"),
        (lambda: without(HiT_SRF(embed_dim=24).state_dict(), "norm.bias"), "look like HiT_SRF, but norm.bias"),
        (
            lambda: HiT_SIR(embed_dim=24, hier_win_ratios=[1, 2, 3, 4, 6, 8]).state_dict(),
            "give them as hier_win_ratios",
        ),
    ],
)
def test_near_misses_are_refused_in_a_sentence(weights: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        identify(weights())


def test_other_networks_are_told_apart_from_damaged_ones() -> None:
    with pytest.raises(NotRecognisedError):
        identify(ELAN().state_dict())
    with pytest.raises(UserError) as caught:
        identify(without(tiny_weights(), "last.bias"))
    assert not isinstance(caught.value, NotRecognisedError)


def test_known_arguments_are_taken_as_given() -> None:
    ratios = [1, 2, 3]
    source = HiT_SIR(embed_dim=24, depths=[3], num_heads=[2], hier_win_ratios=ratios)
    network = build(tiny_weights(), attn_type="Naive")
    assert network.blocks[0].attn.attn_type == "Naive"
    with pytest.raises(UserError, match="hier_win_ratios"):
        build(source.state_dict())
    x = torch.rand(1, 3, 20, 9)
    torch.testing.assert_close(build(source.state_dict(), hier_win_ratios=ratios)(x), source(x))
    with pytest.raises(UserError, match="attn_typ"):
        build(tiny_weights(), attn_typ="Naive")


def test_half_precision_weights_give_a_network_in_single_precision() -> None:
    source = randomise(ESC(**TINY)).half()
    network = build(source.state_dict())
    x = torch.rand(1, 3, 9, 14)
    assert network.proj.weight.dtype == torch.float32
    assert relative_difference(network(x), source.float()(x)) <= 1e-6


def test_load_by_path_and_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from esc_arch.weights import loading, write_weights

    source, x = randomise(ESC(**TINY, upscaling_factor=3)).eval(), torch.rand(1, 3, 10, 9)
    monkeypatch.setattr(loading, "BUNDLED", tmp_path)
    write_weights(str(tmp_path / "ESC_tiny_x3.safetensors"), source.state_dict())
    assert bundled_names() == ["ESC_tiny_x3"]
    for given in ("ESC_tiny_x3", tmp_path / "ESC_tiny_x3.safetensors"):
        network = esc_arch.load(given)
        assert torch.equal(network(x), source(x))
    with pytest.raises(UserError, match=r"ESC_x9 is neither a file nor .*\(ESC_tiny_x3\)"):
        esc_arch.load("ESC_x9")


def test_bundled_weights_load_and_have_a_model_card() -> None:
    from esc_arch.weights.loading import BUNDLED

    assert (BUNDLED / "README.md").is_file()
    for name in bundled_names():
        scale = esc_arch.load(name).upscaling_factor
        assert name.removesuffix("_photo").endswith(f"_x{scale}")
        assert (BUNDLED / f"{name}.md").is_file()


def test_bundled_weights_beat_bicubic() -> None:
    from basicsr.metrics import calculate_psnr
    from basicsr.utils.matlab_functions import imresize
    from skimage import data

    gt = data.coffee()[60:252, 150:342]  # RGB, not among the training images
    for name in [name for name in bundled_names() if not name.endswith("_photo")]:
        network = esc_arch.load(name)
        scale = network.upscaling_factor
        lq = (imresize(gt / 255, 1 / scale) * 255).round().clip(0, 255).astype("uint8")
        bicubic = (imresize(lq / 255, scale) * 255).round().clip(0, 255)
        psnr, baseline = (
            calculate_psnr(image[..., ::-1], gt[..., ::-1], crop_border=scale, test_y_channel=True)
            for image in (esc_arch.upscale_image(lq, network), bicubic)
        )
        assert psnr > baseline + 0.5, name


@pytest.mark.parametrize("scale", [2, 4])
def test_photo_weights_beat_bicubic_and_the_others_on_degraded_photographs(scale: int) -> None:
    from basicsr.metrics import calculate_psnr
    from basicsr.utils.matlab_functions import imresize
    from skimage import data

    from esc_arch.checks.option_file import load as load_options
    from esc_arch.prepare.degraded import degrade

    options = load_options(str(option_file(f"bundled_ESC_light_x{scale}_photo")))
    gains = np.zeros(2)
    for seed in range(4):
        gt = np.ascontiguousarray(data.coffee()[60:252, 150:342, ::-1])  # BGR, not among the training images
        lq = degrade(gt, options, str(seed))
        results = [
            (imresize(lq / 255, scale) * 255).round().clip(0, 255),
            *(
                esc_arch.upscale_image(np.ascontiguousarray(lq[..., ::-1]), f"ESC_light_x{scale}{kind}")[..., ::-1]
                for kind in ("", "_photo")
            ),
        ]
        bicubic, clean, photo = (calculate_psnr(image, gt, crop_border=scale, test_y_channel=True) for image in results)
        gains += photo - bicubic, photo - clean
    assert (gains / 4 > 0.2).all(), gains
