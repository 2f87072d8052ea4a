"""Checkpoints: strict loading, other scales, BasicSR's loader."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import GOLDEN, TINY, randomise
from torch import nn

import esc_arch
from esc_arch.archs import ESC, ESCFP
from esc_arch.layers.upsample import convert_sub_pixel


@pytest.mark.parametrize("network", [ESC, ESCFP])
@pytest.mark.parametrize(("old", "new"), [(2, 3), (2, 4), (4, 2), (3, 1), (1, 2)])
def test_other_scale_loads_and_leaves_the_checkpoint_alone(network: type[nn.Module], old: int, new: int) -> None:
    source, target = randomise(network(**TINY, upscaling_factor=old)), network(**TINY, upscaling_factor=new)
    state = source.state_dict()
    before = copy.deepcopy(state)
    target.load_state_dict(state, strict=True)
    assert list(state) == list(before)
    assert all(torch.equal(state[name], before[name]) for name in state)
    loaded = target.state_dict()
    for name in state:
        if not name.startswith("to_img"):
            assert torch.equal(loaded[name], state[name])
    # one output channel, one tap: a 2-D field of sub-pixels, resized bilinearly
    for channel in range(3):
        field = state["to_img.weight"].reshape(3, old, old, 16, 3, 3)[channel, :, :, 5, 1, 2]
        expected = F.interpolate(field[None, None], size=(new, new), mode="bilinear", align_corners=False)[0, 0]
        actual = loaded["to_img.weight"].reshape(3, new, new, 16, 3, 3)[channel, :, :, 5, 1, 2]
        torch.testing.assert_close(actual, expected)
    bias = F.interpolate(state["to_img.bias"].reshape(1, 3, old, old), size=(new, new), mode="bilinear")
    torch.testing.assert_close(loaded["to_img.bias"], bias.reshape(-1))


def test_same_scale_is_kept_exactly() -> None:
    weight = torch.randn(12, 4, 3, 3)
    torch.testing.assert_close(convert_sub_pixel(weight, 2), weight)


def test_half_precision_checkpoint_of_another_scale() -> None:
    state = {name: tensor.half() for name, tensor in ESC(**TINY, upscaling_factor=2).state_dict().items()}
    ESC(**TINY, upscaling_factor=4).load_state_dict(state)


@pytest.mark.parametrize("change", ["missing", "unexpected", "dim", "no_sub_pixels"])
def test_strict_loading_still_refuses_what_does_not_fit(change: str) -> None:
    state: dict[str, Any] = dict(ESC(**TINY).state_dict())
    if change == "missing":
        del state["to_img.weight"]
    elif change == "unexpected":
        state["blocks.7.ln_out.bias"] = torch.zeros(16)
    elif change == "dim":
        state = ESC(**{**TINY, "dim": 32}).state_dict()
    else:
        state["to_img.weight"] = torch.zeros(13, 16, 3, 3)
    with pytest.raises(RuntimeError):
        ESC(**TINY).load_state_dict(state, strict=True)


@pytest.mark.parametrize(("param_key", "wrapped"), [("params_ema", False), ("params", False), ("params_ema", True)])
def test_basicsr_loads_published_layout(tmp_path: Path, param_key: str, wrapped: bool) -> None:
    """Through `path.pretrain_network_g`, strictly, with the prefix of DataParallel or without, into another scale."""
    assert esc_arch.__version__
    from basicsr.models import build_model

    golden = torch.load(GOLDEN / "esc_x2.pt", weights_only=True)
    weights = {("module." if wrapped else "") + name: tensor for name, tensor in golden["state_dict"].items()}
    file = tmp_path / "published.pth"
    torch.save({param_key: weights}, file)
    network = {"type": "ESC", **golden["kwargs"]}
    for scale in (2, 3):
        opt = {
            "model_type": "ESCModel",
            "num_gpu": 0,
            "dist": False,
            "is_train": False,
            "scale": scale,
            "network_g": {**network, "upscaling_factor": scale},
            "path": {"pretrain_network_g": str(file), "param_key_g": "params_ema", "strict_load_g": True},
        }
        model = build_model(opt)
        loaded = model.net_g.state_dict()
        for name, tensor in golden["state_dict"].items():
            if scale == 2 or not name.startswith("to_img"):
                assert torch.equal(loaded[name], tensor)
