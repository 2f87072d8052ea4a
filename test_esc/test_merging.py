"""Networks that are trained as branches and deployed as one convolution: SPAN, as the comparison and testing run it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from comparing import QUICK, compare, networks, write
from conftest import relative_difference
from torch import nn

from esc_arch.archs.merging import merge_branches

Options = dict[str, Any]
SMALL = {"type": "SPAN", "num_in_ch": 3, "num_out_ch": 3, "feature_channels": 8, "upscale": 2}


@pytest.fixture
def span() -> nn.Module:
    spandrel = pytest.importorskip("spandrel")
    torch.manual_seed(0)
    return spandrel.architectures.SPAN.SPAN(**{name: value for name, value in SMALL.items() if name != "type"})


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_merged_network_computes_the_same(span: nn.Module) -> None:
    image = torch.rand(2, 3, 9, 14)
    with torch.no_grad():
        branches, evaluated = span.train()(image), span.eval()(image)
        merged = merge_branches(span)(image)
    assert torch.equal(merged, evaluated)
    assert relative_difference(merged, branches) <= 1e-4, "the branches meet borders as the kernel does"
    assert not any(hasattr(module, "update_params") for module in span.modules()), "nothing is merged anew"


def test_activation_behind_the_branches_stays(span: nn.Module) -> None:
    span.conv_1.has_relu = True
    image = torch.rand(1, 3, 7, 6)
    with torch.no_grad():
        expected = span.eval()(image)
        assert torch.equal(merge_branches(span)(image), expected)


@pytest.mark.parametrize("channels", [48, 52])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_deployed_size(channels: int, scale: int, official_counts: Options) -> None:
    spandrel = pytest.importorskip("spandrel")
    network = spandrel.architectures.SPAN.SPAN(num_in_ch=3, num_out_ch=3, feature_channels=channels, upscale=scale)
    name = f"SPAN-ch{channels}"
    assert count(network) == official_counts["params"][name][f"x{scale}"]
    assert count(merge_branches(network)) == official_counts["params_deployed"][name][f"x{scale}"]


def test_other_networks_stay_as_they_are() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.Conv2d(4, 3, 1)))
    before = list(network.modules())
    assert merge_branches(network) is network
    assert list(network.modules()) == before


def test_comparison_measures_what_is_deployed(options: Options, span: nn.Module) -> None:
    torch.save({"params": span.state_dict()}, "span.pth")
    file = write("span.yml", options, network_g=SMALL, path={"pretrain_network_g": "span.pth", "param_key_g": "params"})
    assert compare(file, *QUICK) == 0
    line = networks()["span"]
    assert line["parameters"] == count(merge_branches(span))
    convolutions = [m for m in span.modules() if isinstance(m, nn.Conv2d)]
    assert line["macs"] == 12 * 20 * sum(convolution.weight.numel() for convolution in convolutions)
    assert line["quality"]["tiny"]["images"] == 1


def test_testing_runs_what_is_deployed(tiny_options: Options, span: nn.Module, tmp_path: Path) -> None:
    from basicsr.models import build_model

    torch.save({"params": span.state_dict()}, tmp_path / "span.pth")
    opt = {**tiny_options, "network_g": SMALL, "model_type": "ESCModel", "is_train": False, "dist": False}
    opt["path"] = {"pretrain_network_g": str(tmp_path / "span.pth"), "param_key_g": "params", "strict_load_g": True}
    model, image = build_model(opt), torch.rand(1, 3, 10, 12)
    model.feed_data({"lq": image})
    model.test()
    with torch.no_grad():
        assert torch.equal(model.output, span.eval()(image))
    assert count(model.net_g) == count(merge_branches(span))
    training = build_model({**opt, "is_train": True})
    assert any(hasattr(module, "update_params") for module in training.net_g.modules()), "it trains the branches"
