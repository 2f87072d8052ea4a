"""Weights are found in whatever training programs wrap around them, and under whatever they put before the names."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import datetime
import enum
import pathlib
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from conftest import TINY, randomise
from torch import nn

import esc_arch
from esc_arch.archs import ESC, ESCLTE, HiT_SRF
from esc_arch.common.errors import UserError
from esc_arch.weights import read_weights

Weights = dict[str, torch.Tensor]


def made(seed: int = 0) -> Weights:
    return dict(randomise(ESC(**TINY), seed).state_dict())


W, OTHER = made(), made(1)
D = {"conv0.weight": torch.zeros(4, 3, 3, 3), "conv1.weight": torch.zeros(4, 4, 4, 4)}


def under(prefix: str, weights: Weights = W) -> Weights:
    return {prefix + name: tensor for name, tensor in weights.items()}


def equal(a: Weights, b: Weights) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def saved(file: Path, content: Any) -> str:
    torch.save(content, file)
    return str(file)


WRAPPERS = [
    "params",
    "params_ema",
    "state_dict",
    "model",
    "model_state_dict",
    "net",
    "net_g",
    "netG",
    "generator",
    "network",
    "weights",
    "ema",
    "ema_state_dict",
    "model_ema",
    "g_ema",
    "state_dict_ema",
    "whatever",
]
PREFIXES = [
    "module.",
    "model.",
    "net.",
    "net_g.",
    "netG.",
    "generator.",
    "network.",
    "_orig_mod.",
    "module.module.",
    "module.model.",
    "model.net_g.",
    "net_g._orig_mod.",
    "_orig_mod.module.model.",
    "_forward_module.",
    "my_super_resolver.",
    "lightning.wraps.this.",
]
AVERAGING_CALLBACKS = [
    "EMACallback",
    "EMA{'decay': 0.999, 'monitor': 'val_psnr'}",
    "ema",
    "my.callbacks.WeightEMA",
    "StochasticWeightAveraging",
    "EMAWeightAveraging",
    "ModelEma",
]
KEPT_BY_CALLBACKS = {
    "state_dict": {"state_dict": under("net.")},
    "ema_state_dict": {"ema_state_dict": under("net."), "ready": True},
    "shadow": {"shadow": under("net."), "backup": under("net.", OTHER), "step": torch.tensor(3)},
    "module": {"ema_model": under("module.net."), "original_state_dict": under("net.", OTHER)},
    "its whole": under("net."),
    "a list": {"shadow_params": list(W.values()), "collected_params": list(OTHER.values())},
}
FORMS: dict[str, Any] = {
    "plain": W,
    "ordered": OrderedDict(W),
    "empty average": {"params": W, "params_ema": {}},
    "two levels": {"state_dict": {"params": W}, "epoch": 3},
    "four levels": {"a": {"b": {"c": {"d": W}}}},
    "in a list": {"models": [W]},
    "trainer of LIIF": {"model": {"name": "esc", "args": {"dim": 16}, "sd": W}, "optimizer": {"sd": {}}, "epoch": 1},
    "average with a counter": {"model": OTHER, "ema": {"module": W, "updates": 10}},
    "average beside the model": {"model": OTHER, "model_ema": W},
    "average of timm": {"state_dict": OTHER, "state_dict_ema": W, "arch": "esc"},
    "average of BasicSR": {"params": OTHER, "params_ema": W},
    "average in one dictionary": {"state_dict": {**under("net_g.", OTHER), **under("net_g_ema.")}},
    "average by ema_pytorch": {
        **under("online_model.", OTHER),
        **under("ema_model."),
        "initted": torch.tensor(True),
        "step": torch.tensor(7),
    },
    "average by torch": {"n_averaged": torch.tensor(5), **under("module.")},
    "average of the last epochs": {
        "state_dict": OTHER,
        "swa_state_dict": {**under("module."), "n_averaged": torch.tensor(3)},
    },
    "averaged by Lightning": {
        "state_dict": under("net."),
        "current_model_state": under("net.", OTHER),
        "averaging_state": {"n_averaged": torch.tensor(4)},
    },
    **{
        f"average kept by {callback} as {entry}": {
            "state_dict": under("net.", OTHER),
            "callbacks": {"ModelCheckpoint{'monitor': 'val_psnr'}": {"best": torch.tensor(1.0)}, callback: kept},
        }
        for callback in AVERAGING_CALLBACKS
        for entry, kept in KEPT_BY_CALLBACKS.items()
    },
    "average of Lightning's own callback": {
        "state_dict": under("net.", OTHER),
        "callbacks": {
            "StochasticWeightAveraging": {
                "n_averaged": 3,
                "latest_update_epoch": 5,
                "average_model_state": under("net."),
            }
        },
    },
    "average that another callback keeps no part of": {
        "state_dict": under("net."),
        "callbacks": {"EarlyStopping": {"state_dict": under("net.", OTHER)}, "EMACallback": {"ema_state_dict": None}},
    },
    "average without names": {
        "state_dict": under("net.", OTHER),
        "ema": {"decay": 0.999, "num_updates": 3, "shadow_params": list(W.values()), "collected_params": None},
    },
    "average without names, of an optimizer": {
        "state_dict": OTHER,
        "optimizer_states": [{"opt": {"state": {}, "param_groups": []}, "ema": tuple(W.values()), "current_step": 3}],
    },
    "average beside what it takes the place of": {"model": OTHER, "ema": {"shadow": W, "backup": OTHER}},
    "numbers amid": {
        **W,
        "num_batches_tracked": torch.tensor(7),
        "lr": torch.tensor(1e-4),
        "steps": torch.tensor([5]),
        "done": torch.tensor(True),
    },
    "numbers amid, as arrays": {**W, "num_batches_tracked": np.array(7), "seen": np.array([3])},
    "numbers amid, behind a prefix": {"state_dict": {**under("net."), "net.num_batches_tracked": torch.tensor(7)}},
    "metrics and losses amid": {**W, "val_psnr.total": torch.tensor(7), "perceptual.vgg.0.weight": torch.zeros(3, 3)},
    "counted by thop": {
        "total_ops": torch.zeros(1, dtype=torch.float64),
        **W,
        "blocks.0.total_ops": torch.zeros(1, dtype=torch.float64),
        "blocks.0.total_params": torch.zeros(1, dtype=torch.float64),
    },
    "average without dots": {
        "state_dict": {
            **under("model.", OTHER),
            **{"model_ema." + name.replace(".", ""): tensor for name, tensor in W.items()},
            "model_ema.decay": torch.tensor(0.999),
            "model_ema.num_updates": torch.tensor(3),
        }
    },
    "average within": {**OTHER, **under("ema.")},
    "average of parameters alone": {
        "model": {**OTHER, "to_img.bias": W["to_img.bias"]},
        "ema": {"shadow": {name: tensor for name, tensor in W.items() if name != "to_img.bias"}, "decay": 0.9},
    },
    "state of a module, with versions of its parts": randomise(ESC(**TINY)).state_dict(),
    "DeepSpeed": {
        "module": W,
        "ds_version": "0.15",
        "ds_config": {"a": [1]},
        "lr_scheduler": {"x": {"y": torch.ones(1)}},
    },
    "few tensors beside a strange name": {"my_network": W, "best_loss": torch.tensor(0.1)},
    "GAN": {"net_g": W, "net_d": D, "opt_g": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []}},
    "GAN in one dictionary": {"state_dict": {**under("generator."), **under("discriminator.", D)}},
    "GAN with its loss": {**under("net_g."), **under("net_d.", D), **under("cri_perceptual.vgg.", D)},
    "the same twice": {"model": W, "net_g": dict(W)},
    "optimizer": {"optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []}, "model": W},
    "optimizer under a strange name": {"x": {"state": {"y": {"z": torch.ones(3)}}, "param_groups": []}, "model": W},
    "generator of random numbers": {
        "rng_state": torch.get_rng_state(),
        "cuda_rng": [torch.get_rng_state()],
        "model": W,
    },
    "counters": {
        "params": W,
        "iter": 5,
        "best": 31.2,
        "name": "x",
        "none": None,
        "list": [1, 2],
        "t": torch.tensor(3.0),
    },
    "under a number": {0: {"model": W}, "epoch": 5},
    "beside moments under numbers": {"model": W, "moments": {0: {"exp_avg": torch.ones(3)}, 1: torch.ones(2)}},
    "counters amid": {**W, "epoch": 5, "step": torch.tensor(3), "opt": None},
    "compiled part": {name.replace("blocks.0.", "blocks.0._orig_mod."): tensor for name, tensor in W.items()},
    "bytes as names": {name.encode(): tensor for name, tensor in W.items()},
    "arrays": {"params": {name: tensor.numpy() for name, tensor in W.items()}},
    "parameters": {name: nn.Parameter(tensor) for name, tensor in W.items()},
    **{f"{{{name}: ...}}": {name: W} for name in WRAPPERS},
    **{f"{prefix}...": under(prefix) for prefix in PREFIXES},
    **{f"{{state_dict: {prefix}...}}": {"state_dict": under(prefix), "epoch": 1} for prefix in PREFIXES},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_wrapping_is_read(tmp_path: Path, form: str) -> None:
    file = saved(tmp_path / "w.pth", FORMS[form])
    assert equal(read_weights(file), W)
    assert equal(read_weights(file, names=W.keys()), W)


@pytest.mark.parametrize("form", [form for form in FORMS if form.startswith("average")])
def test_weights_are_taken_in_place_of_their_average_where_that_is_asked_for(tmp_path: Path, form: str) -> None:
    alone = {"average by torch", "average that another callback keeps no part of"}
    raw = read_weights(saved(tmp_path / "w.pth", FORMS[form]), entry="params", names=W.keys())
    kept = {name: tensor for name, tensor in raw.items() if not torch.equal(tensor, W[name])}
    assert (not kept) == (form in alone)


@pytest.mark.parametrize("form", ["of another network", "without names, of another network"])
def test_an_average_that_cannot_be_used_is_told(tmp_path: Path, form: str) -> None:
    average: Any = {"module": {f"{name}.x": tensor for name, tensor in W.items()}}
    average = average if form == "of another network" else {"shadow_params": list(W.values())[1:]}
    file = saved(tmp_path / "w.pth", {"model": OTHER, "ema": average})
    with pytest.warns(UserWarning, match="average of weights in ema.* is left aside: the weights in model are taken"):
        assert equal(read_weights(file, names=W.keys()), OTHER)
    assert equal(read_weights(file, entry="params", names=W.keys()), OTHER)


@pytest.mark.parametrize("prefix", ["", *PREFIXES])
def test_prefixes_in_safetensors(tmp_path: Path, prefix: str) -> None:
    from safetensors.torch import save_file

    save_file(under(prefix), tmp_path / "w.safetensors")
    assert equal(dict(esc_arch.load(tmp_path / "w.safetensors").state_dict()), W)


@pytest.mark.parametrize("wrap", [lambda weights: weights, lambda weights: under("net.", weights)])
def test_prefixes_of_other_networks(tmp_path: Path, wrap: Any) -> None:
    """ESC is a part of ESC+LTE, and must not be taken out of it; HiT-SR has a name that many have."""
    lte = dict(ESCLTE(**TINY, hidden_dim=8, hidden_list=[8]).state_dict())
    hit = dict(HiT_SRF(depths=[1], num_heads=[1], embed_dim=16).state_dict())
    for network, weights in ((ESCLTE, lte), (HiT_SRF, hit)):
        file = saved(tmp_path / "w.pth", {"model": wrap(weights)})
        assert equal(read_weights(file), weights)
        assert isinstance(esc_arch.load(file), network)


def test_a_sequence_that_is_called_model_keeps_its_names(tmp_path: Path) -> None:
    weights = {"model.0.weight": torch.zeros(2), "model.1.sub.0.weight": torch.zeros(2)}
    assert equal(read_weights(saved(tmp_path / "a.pth", weights)), weights)
    assert equal(read_weights(saved(tmp_path / "a.pth", under("module.", weights))), weights)


def test_a_part_of_an_unknown_network_is_not_taken_for_the_whole(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.pth", {**under("first."), **under("second.", {"conv.weight": torch.zeros(3)})})
    with pytest.raises(UserError):
        esc_arch.load(file)


def test_few_tensors_do_not_hide_other_networks(tmp_path: Path) -> None:
    weights = {f"layer.{index}.weight": torch.zeros(2) for index in range(20)}
    file = saved(tmp_path / "a.pth", {"my_network": weights, "best_loss": torch.tensor(0.1)})
    assert equal(read_weights(file), weights)


def test_what_is_meant_can_be_said(tmp_path: Path) -> None:
    file = saved(tmp_path / "w.pth", {"params": OTHER, "params_ema": W, "mine": made(2), "net_d": D})
    assert equal(read_weights(file), W)
    assert equal(read_weights(file, entry="params"), OTHER)
    assert equal(read_weights(file, entry="params_ema"), W)
    assert equal(read_weights(file, entry="mine"), made(2))
    assert equal(read_weights(file, names=D.keys()), D)
    with pytest.raises(UserError, match=r"no entry 'yours' with weights \(found: params, params_ema, mine, net_d\)"):
        read_weights(file, entry="yours")


def test_an_entry_that_is_missing_says_what_is_preferred(tmp_path: Path) -> None:
    file = saved(tmp_path / "w.pth", {"model": OTHER, "model_ema": W})
    assert equal(read_weights(file, entry="params"), OTHER)
    assert equal(read_weights(file, entry="params_ema"), W)
    only = saved(tmp_path / "w.pth", {"params_ema": W})
    assert equal(read_weights(only, entry="params"), W)


@pytest.mark.parametrize(
    "content",
    [
        {"model": W, "net_g": OTHER},
        {"one": W, "two": OTHER},
        {**under("net_a."), **under("net_b.", OTHER)},
        [W, OTHER],
    ],
)
def test_different_weights_of_the_same_claim_are_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(UserError, match=r"w\.pth holds different weights in .* and in .*; save those alone"):
        esc_arch.load(saved(tmp_path / "w.pth", content))


class Colour(enum.Enum):
    RED = 1


class Settings(dict):
    """A dictionary whose entries are attributes too, as several packages have one."""

    __getattr__ = dict.__getitem__


class Names(list):
    """A list of another class."""


class Slotted:
    """An object without a dictionary."""

    __slots__ = ("a",)

    def __init__(self) -> None:
        self.a = 1


class Similar(torch.Tensor):
    """Tensors of another class."""


@dataclasses.dataclass
class State:
    """What some programs save."""

    step: int
    model: Weights


class Step(NamedTuple):
    """What others save."""

    epoch: int
    model: Weights


def named(names: Names) -> Names:
    names.title = "attributes, too"  # type: ignore[attr-defined]
    return names


def with_attribute() -> Settings:
    settings = Settings(lr=1e-4, inner=Settings(a=[1]))
    object.__setattr__(settings, "frozen", True)
    return settings


EXTRAS = {
    "float64": np.float64(31.2),
    "float32": np.float32(31.2),
    "int64": np.int64(5000),
    "bool": np.bool_(True),
    "array": np.arange(3.0),
    "array of texts": np.array(["a", "b"]),
    "array of objects": np.array([{}, None], dtype=object),
    "dtype": np.dtype("float32"),
    "path": pathlib.PurePosixPath("a.yml"),
    "namespace": argparse.Namespace(lr=1e-4, nested=argparse.Namespace(a=Path("b"))),
    "defaultdict": collections.defaultdict(list, {"a": [1]}),
    "empty defaultdict": collections.defaultdict(int),
    "counter": collections.Counter("abc"),
    "deque": collections.deque([1, 2], 5),
    "time": datetime.datetime(2025, 1, 1),
    "enum": Colour.RED,
    "settings": with_attribute(),
    "names": Names(["a", Colour.RED]),
    "named names": named(Names(["a"])),
    "slotted": Slotted(),
    "sets": ({1, "a"}, frozenset([Colour.RED]), set()),
    "numbers": (2**80, -(2**40), -1, 1.5, 255, 65536),
    "bytes": (b"", b"\xff" * 300, bytearray(b"a")),
    "range": range(3),
    "complex": 1j,
    "class": Slotted,
    "function": made,
    "generator": torch.Generator(),
    "optimizer": torch.optim.Adam([nn.Parameter(torch.zeros(2))]),
    "device and dtype": (torch.device("cuda:0"), torch.float16),
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("extra", EXTRAS)
def test_objects_beside_the_weights_are_passed_over(tmp_path: Path, extra: str, legacy: bool) -> None:
    content = {"params": W, "extra": EXTRAS[extra], "more": [EXTRAS[extra]]}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    assert equal(read_weights(str(tmp_path / "w.pth")), W)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_every_protocol_of_pickles_is_read(tmp_path: Path, protocol: int, legacy: bool) -> None:
    file, form = tmp_path / "w.pth", {"pickle_protocol": protocol, "_use_new_zipfile_serialization": not legacy}
    torch.save({"params": W, "extras": EXTRAS, "more": [*EXTRAS.values()]}, file, **form)
    assert equal(read_weights(str(file)), W)


CONTAINERS: dict[str, Any] = {
    "a dictionary of another class": Settings(params=Settings(W)),
    "an ordered dictionary": {"state": OrderedDict(model=OrderedDict(W))},
    "pairs": list(W.items()),
    "pairs of parameters": {"model": tuple([name, nn.Parameter(tensor)] for name, tensor in W.items())},
    "a user's dictionary": collections.UserDict(model=W),
    "a default dictionary": collections.defaultdict(dict, net_g=W),
    "a namespace": argparse.Namespace(lr=1e-4, model=W),
    "a data class": {"state": State(1, W)},
    "a named tuple": Step(1, W),
    "arrays": {name: tensor.numpy() for name, tensor in W.items()},
    "turned arrays": {name: np.asfortranarray(tensor.numpy()) for name, tensor in W.items()},
    "tensors of another class": {name: tensor.as_subclass(Similar) for name, tensor in W.items()},
    "buffers": {name: nn.Buffer(tensor) for name, tensor in W.items()},
}


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize("container", CONTAINERS)
def test_weights_are_found_in_any_container(tmp_path: Path, container: str, protocol: int) -> None:
    torch.save(CONTAINERS[container], tmp_path / "w.pth", pickle_protocol=protocol)
    found = read_weights(str(tmp_path / "w.pth"))
    assert equal(found, W)
    assert all(type(tensor) is torch.Tensor for tensor in found.values())


def test_names_that_stand_twice_are_no_dictionary(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not hold the weights of a network"):
        read_weights(saved(tmp_path / "w.pth", [*W.items(), *OTHER.items()]))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"iter": 3, "optimizers": []}, "does not hold the weights of a network"),
        ([torch.zeros(1)], "does not hold the weights of a network"),
        ({}, "does not hold the weights of a network"),
        ({"params": {"a": 1}}, "does not hold the weights of a network"),
        (torch.zeros(3), "does not hold the weights of a network"),
        ("text", "does not hold the weights of a network"),
        ({"iter": 3, "epoch": 1, "optimizers": [], "schedulers": []}, r"is a training state.*choose net_g_\.\.\.\.pth"),
        (
            {"iter": 3, "optimizers": [], "schedulers": [], "dice": {"cpu": torch.get_rng_state()}},
            "is a training state",
        ),
    ],
)
def test_what_holds_no_weights_is_refused(tmp_path: Path, content: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        read_weights(saved(tmp_path / "a.pth", content))


def test_a_circle_ends(tmp_path: Path) -> None:
    circle: dict[str, Any] = {"params": W}
    circle["self"] = [circle]
    assert equal(read_weights(saved(tmp_path / "w.pth", circle)), W)
