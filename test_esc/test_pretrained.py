"""What the check of options accepts as a start, training and testing load: by one reader, averages too."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, randomise

from esc_arch.archs import ESC, HiT_SRF
from esc_arch.checks.checkpoints import check_pretrained
from esc_arch.common.errors import UserError
from esc_arch.weights.fitting import load_into

Weights = dict[str, torch.Tensor]


def made(seed: int = 0, **arguments: Any) -> Weights:
    return dict(randomise(ESC(**TINY, **arguments), seed).state_dict())


W, E = made(), made(1)
MISSING = ...


def equal(a: Weights, b: Weights) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def under(prefix: str, weights: Weights = W) -> Weights:
    return {prefix + name: tensor for name, tensor in weights.items()}


def write(file: Path, content: Any) -> str:
    if file.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(content, file)
    else:
        torch.save(content, file)
    return str(file)


def path_options(file: str, param_key: Any = MISSING, strict: bool = True) -> dict[str, Any]:
    path: dict[str, Any] = {"pretrain_network_g": file, "strict_load_g": strict}
    return path if param_key is MISSING else {**path, "param_key_g": param_key}


def model(path: dict[str, Any], is_train: bool = True, **more: Any) -> Any:
    from basicsr.models import build_model

    train = {
        "ema_decay": 0.9,
        "optim_g": {"type": "Adam", "lr": 1e-3},
        "scheduler": {"type": "MultiStepLR", "milestones": [3]},
        "pixel_opt": {"type": "L1Loss"},
    }
    opt = {"model_type": "ESCModel", "num_gpu": 0, "dist": False, "is_train": is_train, "scale": 2, "path": path}
    return build_model({**opt, "network_g": {"type": "ESC", **TINY}, "train": train, **more})


def check(path: dict[str, Any]) -> None:
    check_pretrained(path, "network_g", ESC(**TINY))


@pytest.mark.parametrize("param_key", [MISSING, None, "params", "params_ema"])
@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".pth", W),
        (".safetensors", W),
        (".safetensors", under("module._orig_mod.")),
        (".pth", {"params": W}),
        (".pth", {"params_ema": under("module.")}),
        (".pth", {"state_dict": under("net_g."), "epoch": 3}),
        (".pth", {"generator": W, "discriminator": {"conv0.weight": torch.zeros(3)}, "iter": 5}),
    ],
)
def test_weights_alone_are_a_start_for_the_network_and_its_average(
    tmp_path: Path, suffix: str, content: Any, param_key: Any
) -> None:
    path = path_options(write(tmp_path / f"w{suffix}", content), param_key)
    check(path)
    trained = model(path)
    assert equal(dict(trained.net_g.state_dict()), W)
    assert equal(dict(trained.net_g_ema.state_dict()), W)
    assert equal(dict(model(path, is_train=False).net_g.state_dict()), W)


@pytest.mark.parametrize(
    ("param_key", "expected"), [(MISSING, W), ("params", W), ("params_ema", E), (None, E), ("other", made(2))]
)
@pytest.mark.parametrize("names", [("params", "params_ema"), ("net_g", "net_g_ema")])
def test_the_average_is_told_from_the_weights(
    tmp_path: Path, names: tuple[str, str], param_key: Any, expected: Weights
) -> None:
    file = write(tmp_path / "w.pth", {names[0]: W, names[1]: E, "other": made(2)})
    path = path_options(file, param_key)
    check(path)
    trained = model(path)
    assert equal(dict(trained.net_g.state_dict()), expected)
    assert equal(dict(trained.net_g_ema.state_dict()), E)


def test_a_discriminator_is_found_beside_the_network(tmp_path: Path) -> None:
    from basicsr.archs import build_network
    from basicsr.models.base_model import BaseModel

    discriminator = build_network({"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 4})
    expected = dict(randomise(discriminator).state_dict())
    file = write(tmp_path / "gan.pth", {"net_g": W, "net_d": {name: t.clone() for name, t in expected.items()}})
    fresh = build_network({"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 4})
    check_pretrained({"pretrain_network_d": file}, "network_d", fresh)
    fresh = build_network({"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 4})
    BaseModel({"num_gpu": 0, "is_train": True}).load_network(fresh, file)
    assert equal(dict(fresh.state_dict()), expected)


HIT = dict(HiT_SRF(depths=[1], num_heads=[1], embed_dim=16).state_dict())


@pytest.mark.parametrize(
    ("content", "param_key", "strict", "sentence"),
    [
        ({"params": HIT}, MISSING, True, "does not fit .*plk_filter"),
        ({"params": HIT}, MISSING, False, "does not fit .*nothing in it has the name and shape"),
        ({"params": {**W, "extra": torch.zeros(1)}}, MISSING, True, "does not fit .*extra"),
        ({"params": {**W, "blocks.1.proj.bias": torch.zeros(1)}}, MISSING, True, "not fit"),
        ({"params": W, "params_ema": E}, "params_em", True, r"no entry 'params_em' .*found: params, params_ema"),
        ({"one": W, "two": E}, MISSING, True, "holds different weights in one and in two"),
        ({"params": {**W, "proj.bias": torch.full((16,), torch.nan)}}, MISSING, True, "has NaN in proj.bias"),
    ],
)
def test_what_the_check_refuses_training_refuses_in_a_sentence_too(
    tmp_path: Path, content: Any, param_key: Any, strict: bool, sentence: str
) -> None:
    path = path_options(write(tmp_path / "w.pth", content), param_key, strict)
    for refuse in (check, model):
        with pytest.raises(UserError, match=sentence) as caught:
            refuse(path)
        assert "\n" not in str(caught.value)
        assert path["pretrain_network_g"] in str(caught.value)


def test_a_part_of_a_network_is_a_start_where_that_is_allowed(tmp_path: Path) -> None:
    part = {name: tensor for name, tensor in W.items() if name.startswith("blocks.")}
    path = path_options(write(tmp_path / "w.pth", {"params": part}), strict=False)
    check(path)
    loaded = model(path).net_g.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in part.items())


def test_other_shapes_are_left_out_where_that_is_allowed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("basicsr"), "propagate", True)
    wider = {**W, "last.weight": torch.zeros(5, 16, 3, 3)}
    path = path_options(write(tmp_path / "w.pth", wider), strict=False)
    check(path)
    with caplog.at_level(logging.WARNING, "basicsr"):
        loaded = model(path).net_g.state_dict()
    assert "has nothing that fits 1 tensors, last.weight first" in caplog.text
    assert all(torch.equal(loaded[name], tensor) for name, tensor in W.items() if name != "last.weight")


def test_another_scale_is_converted_strictly_or_not(tmp_path: Path) -> None:
    file = write(tmp_path / "w.pth", {"params": made(upscaling_factor=4)})
    strict, loose = (dict(model(path_options(file, strict=way)).net_g.state_dict()) for way in (True, False))
    assert equal(strict, loose)


def test_the_log_says_what_was_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("basicsr"), "propagate", True)
    file = write(tmp_path / "w.pth", {"state_dict": under("model.")})
    with caplog.at_level(logging.INFO, "basicsr"):
        model(path_options(file))
    assert f"Loading ESC model from {file}, what is in state_dict.model." in caplog.text


def test_what_is_converted_needs_no_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BasicSR names the tables as left over and the factors as missing, which are made of them."""
    monkeypatch.setattr(logging.getLogger("basicsr"), "propagate", True)
    file = write(tmp_path / "w.pth", {"params": made()})
    network = {"type": "ESC", **TINY, "attn_type": "FlashBias", "flashbias_rank": 3}
    with caplog.at_level(logging.INFO, "basicsr"):
        built = model(path_options(file), network_g=network)
    assert built.net_g.blocks[0].attn.flashbias_q.any()
    assert "Loading ESC" in caplog.text
    assert "loaded net" not in caplog.text


def test_of_several_reasons_the_one_of_a_layer_is_told() -> None:
    network = ESC(**{**TINY, "window_size": 16, "attn_type": "FlashBias"})
    with pytest.raises(UserError, match=r"relative_position_bias has the shape .* windows of 16 need"):
        load_into(network, made())
