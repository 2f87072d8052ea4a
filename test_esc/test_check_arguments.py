"""Arguments of networks are of the kinds that constructors name, or refused with the option and what is allowed."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY
from torch import nn

import esc_arch
from esc_arch.archs import NETWORKS
from esc_arch.checks.affordable import build_affordable
from esc_arch.checks.arguments import check_arguments
from esc_arch.checks.networks import build_checked
from esc_arch.common.errors import UserError

# type in the signature: values that an option file may hold by mistake, and what the sentence says is allowed
WRONG: dict[str, tuple[list[Any], str]] = {
    "int": ([8.0, 8.5, "64", True, None, [8], {"a": 1}, "", float("inf"), 1e30], "a whole number"),
    "float": (["1.25", False, None, [2], {"a": 1}, float("nan")], "a number"),
    "bool": (["no", "", None, [True], 2, 0.5], "true or false"),
    "str": ([8, True, None, ["auto"], {}], "text"),
    "int | None": ([16.0, "16", False, [16]], "a whole number or null"),
    "str | None": ([5, True, ["DWC"]], "text or null"),
    "dict[str, Any] | None": ([1, "x", [1]], "a section or null"),
    "Sequence[int]": ([8, "8", None, ["8"], [8.0], [True], [None], {"a": 1}], "a list of whole numbers"),
    "Sequence[float]": ([8, "8", None, ["8"], [True], [None]], "a list of numbers"),
    "int | Sequence[int]": ([8.0, "8", None, ["8"], [8.0]], "a whole number or a list of whole numbers"),
}


def arguments_of(network: type[nn.Module]) -> list[inspect.Parameter]:
    return [p for p in inspect.signature(network).parameters.values() if p.kind is not p.VAR_KEYWORD]


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)
def test_kinds_of_all_networks(network: type[nn.Module]) -> None:
    name = network.__name__
    for parameter in arguments_of(network):
        wrong, allowed = WRONG[parameter.annotation]
        for value in wrong:
            given = {"type": name, "dim": 64} if "dim" in inspect.signature(network).parameters else {"type": name}
            with pytest.raises(UserError) as caught:
                build_checked({**given, parameter.name: value}, "network_g")
            sentence = str(caught.value)
            assert sentence.startswith(f"network_g:{parameter.name} is "), sentence
            assert f"but must be {allowed}" in sentence


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)
def test_defaults_are_of_these_kinds(network: type[nn.Module]) -> None:
    defaults = {p.name: 64 if p.default is p.empty else p.default for p in arguments_of(network)}
    check_arguments(defaults, network, "network_g")


@pytest.mark.parametrize(
    ("value", "advice"),
    [("64", "write 64, without"), ("2e-1", "write 0.2, without"), ("1e-6", "write 1.0e-06, without")],
)
def test_numbers_as_text(value: str, advice: str) -> None:
    argument = "dim" if value == "64" else "exp_ratio"
    with pytest.raises(UserError, match=advice.replace(".", r"\.")):
        build_checked({"type": "ESC", argument: value}, "network_g")


def test_what_is_meant_is_taken() -> None:
    given = {"exp_ratio": 2, "use_ln": 1, "flashbias_rank": None, "n_blocks": np.int64(1), "dim": 16, "pdim": 4}
    network = build_checked({"type": "ESC", **given}, "network_g")
    assert isinstance(network, esc_arch.ESC)


@pytest.mark.parametrize(
    ("kind", "argument", "value"),
    [
        ("EDSR", "num_feat", "64"),  # without types: the defaults tell
        ("EDSR", "res_scale", {"a": 1}),
        ("SwinIR", "qkv_bias", "no"),
        ("RRDBNet", "num_block", "23"),
    ],
)
def test_networks_without_types(kind: str, argument: str, value: Any) -> None:
    section = {"type": kind, "num_in_ch": 3, "num_out_ch": 3} if kind != "SwinIR" else {"type": kind}
    with pytest.raises(UserError, match=f"network_g:{argument} is .* but must be "):
        build_checked({**section, argument: value}, "network_g")


def test_networks_of_other_packages() -> None:
    pytest.importorskip("spandrel")
    with pytest.raises(UserError, match="ccm_type is 'CC', but must be one of CCM, ICCM, DCCM"):
        build_checked({"type": "PLKSR", "ccm_type": "CC"}, "network_g")
    with pytest.raises(UserError, match="network_g:sparse_kernels is 5, but must be a list of whole numbers"):
        build_checked({"type": "PLKSR", "sparse_kernels": 5}, "network_g")


@pytest.mark.parametrize(
    ("argument", "value", "says"),
    [
        ("window_size", 8.0, "window_size is 8.0, but must be a whole number"),
        ("num_heads", "4", "num_heads is '4', but must be a whole number"),
        ("attn_typ", "Naive", "has no argument 'attn_typ'; did you mean 'attn_type'"),
    ],
)
def test_arguments_of_load(tmp_path: Any, argument: str, value: Any, says: str) -> None:
    file = tmp_path / "esc.pth"
    torch.save(esc_arch.ESC(**TINY).state_dict(), file)
    with pytest.raises(UserError, match=says):
        esc_arch.load(file, **{argument: value})


@pytest.mark.parametrize("network", ["ESC", "ESCFP", "ESCLTE", "ESCRIB", "ESCReal", "ESCRealM"])
def test_no_channels(network: str) -> None:
    with pytest.raises(UserError, match="dim must be positive, got -1"):
        build_checked({"type": network, "dim": -1}, "network_g")


SWIN = {"upscale": 2, "img_size": 16, "window_size": 8, "depths": [1], "embed_dim": 16, "num_heads": [2]}


@pytest.mark.parametrize(
    ("kind", "argument", "value"),
    [
        ("ESC", "dim", 10**9),
        ("ESC", "dim", 2**70),
        ("ESC", "exp_ratio", 1e30),
        ("ESC", "exp_ratio", 1e300),
        ("ESC", "n_blocks", 10**9),
        ("ESC", "conv_blocks", 10**6),
        ("ESC", "window_size", 10**9),
        ("ESCFP", "upscaling_factor", 10**6),
        ("ESCRealM", "pdim", 10**9),
        ("ESCRIB", "rank", 10**9),
        ("HiT_SRF", "depths", [2] * 50_000),
        ("HiT_SRF", "embed_dim", 10**9),
        ("SwinIR", "embed_dim", 10**9),
        ("SwinIR", "depths", [2] * 50_000),
        ("SwinIR", "mlp_ratio", 1e30),
        ("RRDBNet", "num_block", 10**9),
        ("UNetDiscriminatorSN", "num_feat", 10**9),
    ],
)
def test_what_no_machine_can_hold(monkeypatch: pytest.MonkeyPatch, kind: str, argument: str, value: Any) -> None:
    monkeypatch.setattr("esc_arch.weights.blueprint.MOST_PARTS", 2000)
    base: dict[str, Any] = {}
    if kind.startswith("ESC"):
        base = {**TINY, "kernel_size": 5, "upscaling_factor": 2, "attn_type": "RIB" if kind == "ESCRIB" else "auto"}
    elif kind == "HiT_SRF":
        base = {"depths": [1], "num_heads": [1], "embed_dim": 16}
    elif kind == "SwinIR":
        base = SWIN
    elif kind in ("RRDBNet", "UNetDiscriminatorSN"):
        base = {"num_in_ch": 3, **({"num_out_ch": 3} if kind == "RRDBNet" else {})}
    given = {**base, argument: value}
    if argument == "depths":
        given["num_heads"] = [1] * len(value)
    with pytest.raises(UserError) as caught:
        build_checked({"type": kind, **given}, "network_g")
    sentence = str(caught.value)
    assert sentence.startswith(f"network_g: {kind} cannot be built: ")
    size = f"a list of {len(value):g} values" if isinstance(value, list) else f"{value:g}"
    named = [f"(the largest is {name}, {size})." for name in (argument, "num_heads")]
    assert sentence.endswith(tuple(named)) or f"{argument} must " in sentence, sentence


class Keeping(nn.Module):
    """Keeps a tensor for all networks of its kind, and learns its channels from the first image."""

    kept: torch.Tensor | None = None

    def __init__(self, rope_theta: int = 10_000, channels: int = 4096) -> None:
        super().__init__()
        if Keeping.kept is None:
            Keeping.kept = torch.arange(4.0)
        self.register_buffer("places", Keeping.kept, persistent=False)
        self.body = nn.LazyConv2d(1, 1)
        self.head = nn.Conv2d(1, channels, 1)
        if channels < 0 or rope_theta > 10**5:
            raise RuntimeError("theta and channels do not agree")


def test_constructors_that_keep_tensors_are_not_run_without_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What they keep would have no numbers in the training that follows, either."""
    monkeypatch.setattr(Keeping, "kept", None)
    built = build_affordable(Keeping, {"rope_theta": 10_000, "channels": 4096})
    assert built.places.tolist() == [0, 1, 2, 3]


def test_what_is_large_is_blamed_for_what_is_about_sizes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from basicsr.utils.registry import ARCH_REGISTRY

    monkeypatch.setattr(Keeping, "kept", None)
    monkeypatch.setitem(ARCH_REGISTRY._obj_map, "Keeping", Keeping)
    with pytest.raises(UserError, match=r"^network_g: Keeping cannot be built: theta and channels do not agree$"):
        build_checked({"type": "Keeping", "rope_theta": 10**6}, "network_g")


def test_what_takes_much_memory_is_told_before_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where each argument alone may be that of a network."""
    for module in ("esc_arch.weights.blueprint", "esc_arch.checks.affordable"):
        monkeypatch.setattr(f"{module}.memory_of_machine", lambda: 2**20)
    with pytest.raises(UserError, match=r"its weights need .* this machine has .*the largest is dim, 512\)"):
        build_checked({"type": "ESC", **TINY, "kernel_size": 5, "upscaling_factor": 2, "dim": 512}, "network_g")
