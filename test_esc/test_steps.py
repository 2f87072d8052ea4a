"""Steps of training: parts of a batch, clipped gradients, averages that start late, the further losses of ESRModel."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import TINY
from torch.nn import functional as F

Options = dict[str, Any]
Build = Callable[..., Any]
BATCH = {"lq": torch.rand(4, 3, 16, 16), "gt": torch.rand(4, 3, 32, 32)}


@pytest.fixture
def build(tiny_options: Options) -> Build:
    """Build a model with changed options, all of them with the same weights."""
    from basicsr.models import build_model

    def call(model_type: str = "ESCModel", top: Options | None = None, **train: Any) -> Any:
        opt = copy.deepcopy(tiny_options)
        opt.update(is_train=True, dist=False, model_type=model_type, **(top or {}))
        opt["datasets"]["train"]["batch_size_per_gpu"] = 4
        opt["train"].update(train)
        torch.manual_seed(0)
        return build_model(opt)

    return call


def stepped(model: Any, iterations: int = 3) -> dict[str, torch.Tensor]:
    for iteration in range(1, iterations + 1):
        model.feed_data(BATCH)
        model.optimize_parameters(iteration)
    return model.net_g.state_dict()


SGD = {"type": "SGD", "lr": 0.1}


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_of_a_batch_make_the_step_of_the_whole(build: Build, parts: int) -> None:
    whole, in_parts = build(optim_g=dict(SGD)), build(optim_g=dict(SGD), accumulate=parts)
    sizes: list[int] = []
    in_parts.net_g.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    before = {name: tensor.clone() for name, tensor in whole.net_g.state_dict().items()}
    expected, found = stepped(whole), stepped(in_parts)
    assert sizes == [4 // parts] * (3 * parts)
    assert in_parts.lq.shape == BATCH["lq"].shape
    assert in_parts.log_dict["l_pix"] == pytest.approx(whole.log_dict["l_pix"], rel=1e-5)
    for name, tensor in expected.items():
        moved = (tensor - before[name]).abs().max()
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=max(1e-4 * float(moved), 1e-7))
    ema, other = whole.net_g_ema.state_dict(), in_parts.net_g_ema.state_dict()
    for name in ema:
        torch.testing.assert_close(other[name], ema[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_parts_in_mixed_precision(build: Build, amp: str) -> None:
    whole, in_parts = (
        build(top={"amp": amp}, optim_g=dict(SGD)),
        build(top={"amp": amp}, optim_g=dict(SGD), accumulate=2),
    )
    before = copy.deepcopy(whole.net_g.state_dict())
    expected, found = stepped(whole, 1), stepped(in_parts, 1)
    assert any(not torch.equal(expected[name], before[name]) for name in before)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-2, atol=1e-3)


def test_parts_of_queries(tiny_options: Options) -> None:
    """The places that ESCLTE is asked for are parted with the images."""
    from basicsr.models import build_model

    tiny_options["network_g"] = {"type": "ESCLTE", **TINY, "hidden_dim": 8, "hidden_list": [8]}
    tiny_options.update(is_train=True, dist=False, model_type="ESCLTEModel")
    tiny_options["train"].update(optim_g=dict(SGD))
    places = {"coord": torch.rand(2, 5, 2) * 2 - 1, "cell": torch.full((2, 5, 2), 0.1)}
    results = []
    for parts in (1, 2):
        opt = copy.deepcopy(tiny_options)
        opt["train"]["accumulate"] = parts
        torch.manual_seed(0)
        model = build_model(opt)
        model.feed_data({"lq": BATCH["lq"][:2], "gt": torch.zeros(2, 5, 3), **places})
        model.optimize_parameters(1)
        results.append(model.net_g.state_dict())
        assert model.where["coord"].shape == (2, 5, 2)
    for name, tensor in results[0].items():
        torch.testing.assert_close(results[1][name], tensor, rtol=1e-4, atol=1e-6)


def gradient_norm(model: Any) -> float:
    return torch.stack([w.grad.norm() for w in model.net_g.parameters() if w.grad is not None]).norm().item()


def test_clipped_gradients_keep_their_direction(build: Build) -> None:
    free, clipped = build(), build(gradient_clip=1e-3)
    stepped(free, 1)
    stepped(clipped, 1)
    assert gradient_norm(free) > 1e-2
    assert gradient_norm(clipped) == pytest.approx(1e-3, rel=1e-3)
    for a, b in zip(free.net_g.parameters(), clipped.net_g.parameters(), strict=True):
        if a.grad is not None and a.grad.abs().max() > 0:
            assert F.cosine_similarity(a.grad.flatten(), b.grad.flatten(), dim=0) > 0.999


def test_clipping_counts_unscaled_gradients_of_fp16(build: Build) -> None:
    model = build(top={"amp": "fp16"}, gradient_clip=1e-3)
    stepped(model, 1)
    assert gradient_norm(model) == pytest.approx(1e-3, rel=1e-2)


def test_clip_of_the_authors_halves(build: Build) -> None:
    model = build("ESRModel", gradient_clip=1e-3)
    for iteration, norm in ((50_000, 1e-3), (50_001, 5e-4)):
        model.feed_data(BATCH)
        model.optimize_parameters(iteration)
        assert gradient_norm(model) == pytest.approx(norm, rel=1e-3)


def test_average_starts_late(build: Build) -> None:
    model = build(ema_start=2)
    for iteration in (1, 2, 3):
        model.feed_data(BATCH)
        model.optimize_parameters(iteration)
        net, average = model.net_g.state_dict(), model.net_g_ema.state_dict()
        same = all(torch.equal(net[name], average[name]) for name, _ in model.net_g.named_parameters())
        assert same == (iteration <= 2)


def test_a_further_loss_of_the_authors(build: Build) -> None:
    """`wave_opt` beside a pixel loss is the sum of both; alone it is the loss."""
    pixel = {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"}
    double = build("ESRModel", pixel_opt={**pixel, "loss_weight": 2.0}, optim_g=dict(SGD))
    both = build("ESRModel", pixel_opt=pixel, wave_opt=pixel, optim_g=dict(SGD))
    alone = build("ESRModel", pixel_opt=None, wave_opt={**pixel, "loss_weight": 2.0}, optim_g=dict(SGD))
    expected = stepped(double)
    for model, log in ((both, {"l_pix", "l_wave"}), (alone, {"l_wave"})):
        for name, tensor in stepped(model).items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-6)
        assert set(model.log_dict) == log
        assert sum(model.log_dict.values()) == pytest.approx(double.log_dict["l_pix"], rel=1e-4)


def test_mesa_compares_with_the_average_from_its_start_on(build: Build) -> None:
    mesa = {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean", "start_ratio": 0.5}
    model = build("ESRModel", mesa_opt=mesa)  # of 4 iterations
    for iteration in range(1, 4):
        model.feed_data(BATCH)
        with torch.no_grad():
            difference = F.l1_loss(model.net_g(BATCH["lq"]), model.net_g_ema(BATCH["lq"])).item()
        model.optimize_parameters(iteration)
        assert ("l_mesa" in model.log_dict) == (iteration >= 2)
    assert model.log_dict["l_mesa"] == pytest.approx(difference, rel=1e-3)
    assert difference > 0
    assert not any(w.grad is not None for w in model.net_g_ema.parameters())


def test_momenta_start_anew(build: Build) -> None:
    model = build("ESRModel", reset_momentum_iter=2)
    for iteration, steps in ((1, 1), (2, 0), (3, 1)):
        model.feed_data(BATCH)
        model.optimize_parameters(iteration)
        state = next(iter(model.optimizers[0].state.values()))
        assert state["step"] == steps
        assert bool(state["exp_avg"].any()) == bool(state["exp_avg_sq"].any()) == bool(steps)


def test_use_amp_is_fp16_and_leaves_clipping_out(build: Build) -> None:
    model = build("ESRModel", top={"use_amp": True}, gradient_clip=1e-6)
    assert model.scaler.is_enabled()
    stepped(model, 1)
    assert gradient_norm(model) > 1e-6 * 100


def test_use_ema_reads_the_averaged_weights(build: Build, tmp_path: Any) -> None:
    start = build("ESRModel").net_g.state_dict()
    average = {name: tensor + 1 for name, tensor in start.items()}
    torch.save({"params": start, "params_ema": average}, tmp_path / "net.pth")
    path = {"pretrain_network_g": str(tmp_path / "net.pth"), "param_key_g": "params"}
    for use_ema, expected in ((False, start), (True, average)):
        net = build("ESRModel", top={"use_ema": use_ema, "path": dict(path)}).net_g.state_dict()
        assert all(torch.equal(net[name], expected[name]) for name in net)


@pytest.mark.parametrize(
    ("model_type", "train", "sentence"),
    [
        ("ESCModel", {"accumulate": 3}, "train:accumulate 3 must divide batch_size_per_gpu 4"),
        ("ESCModel", {"accumulate": 0}, "train:accumulate must be a whole number of at least 1"),
        ("ESCModel", {"gradient_clip": 0}, "train:gradient_clip must be a positive number"),
        ("ESCModel", {"ema_start": -1}, "train:ema_start must be a whole number"),
        ("ESCModel", {"ema_start": 5, "ema_decay": 0}, "train:ema_start needs train:ema_decay"),
        (
            "ESCModel",
            {"accumulate": 2, "pixel_opt": {"type": "L1Loss", "reduction": "sum"}},
            "train:accumulate needs losses that are means over the batch",
        ),
        ("ESRModel", {"mesa_opt": {"type": "L1Loss"}, "ema_decay": 0}, "train:mesa_opt needs train:ema_decay"),
        ("ESRModel", {"pixel_opt": None}, "train has no loss"),
        ("ESRModel", {"reset_momentum_iter": 0}, "train:reset_momentum_iter must be a positive whole number"),
    ],
)
def test_wrong_values_are_named(build: Build, model_type: str, train: Options, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build(model_type, **train)
