"""Losses, optimizers, schedules and metrics are built before the start, and options agree with one another."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from basicsr.utils.registry import LOSS_REGISTRY
from conftest import TINY

from esc_arch.archs import ESC
from esc_arch.checks import agreement
from esc_arch.checks.agreement import check_scales
from esc_arch.checks.machine import check_machine
from esc_arch.checks.options import check_options
from esc_arch.checks.parts import check_parts
from esc_arch.common.errors import UserError

Options = dict[str, Any]
Change = Callable[[Options], None]


def parsed(opt: Options, is_train: bool = True) -> Options:
    """Complete options as BasicSR's parser does."""
    opt = copy.deepcopy(opt)
    opt.update(is_train=is_train, auto_resume=False, dist=False, rank=0, world_size=1)
    for phase, dataset in opt["datasets"].items():
        dataset.update(phase=phase.partition("_")[0], scale=opt["scale"])
    return opt


NORMALISED = "NORMALISED"


def edit(path: str, value: Any) -> Change:
    """Make a function that sets, or with the value `...` deletes, an option, or normalises data sets."""

    def apply(opt: Options) -> None:
        if value is NORMALISED:
            for phase in opt["datasets"] if path == "datasets" else ("train",):
                opt["datasets"][phase].update(mean=[0.5] * 3, std=[0.5] * 3)
            return
        *sections, key = path.split(":")
        for section in sections:
            opt = opt[section]
        if value is ...:
            del opt[key]
        else:
            opt[key] = value

    return apply


LOGGER = {"print_freq": 1, "save_checkpoint_freq": 1, "wandb": {"project": "p"}}
COSINE = {"type": "CosineAnnealingRestartLR", "periods": [4], "restart_weights": [1]}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (edit("train:pixel_opt:type", "L1Los"), "train:pixel_opt:type: 'L1Los' is unknown; did you mean 'L1Loss'"),
        (edit("train:pixel_opt", {"type": "GANLoss", "gan_type": "vanilla"}), "GANLoss is no loss for pixel_opt"),
        (edit("val:metrics:psnr:type", "calculate_psnr_pt"), r"calculate_psnr_pt fails \(too many .*; correct its arg"),
        (edit("train:pixel_opt:loss_wait", 1), "L1Loss has no argument 'loss_wait'; did you mean 'loss_weight'"),
        (edit("train:pixel_opt", ...), "train: no loss is given"),
        (edit("train:pixel_opt:reduction", "none"), "reduction is 'none', but must be one of mean, sum"),
        (edit("datasets:train:mean", [0.5] * 3), "datasets:train:std is missing, which mean needs"),
        (edit("train:gan_opt", {"type": "GANLoss"}), "train:gan_opt: the argument 'gan_type' of GANLoss is missing"),
        (edit("train:pixel_opt", {"type": "WeightedTVLoss", "reduction": "none"}), "must be one of mean, sum"),
        (edit("train:optim_g:type", "Adamm"), "train:optim_g:type: 'Adamm' is unknown to ESCModel; did you mean"),
        (edit("train:optim_g:beta", [0.9, 0.9]), "Adam has no argument 'beta'; did you mean 'betas'"),
        (edit("train:scheduler:type", "MultistepLR"), "'MultistepLR' is unknown; did you mean 'MultiStepLR'"),
        (edit("train:scheduler:milestone", [3]), "MultiStepLR has no argument 'milestone'; did you mean 'milestones'"),
        (edit("train:scheduler:milestones", ...), "the argument 'milestones' of MultiStepLR is missing"),
        (edit("train:scheduler:restarts", [0, 2]), "restarts and their weights do not match"),
        (edit("train:scheduler", {**COSINE, "periods": [1, 1], "restart_weights": [1, 1]}), "end at iteration 2"),
        (edit("train:scheduler", {**COSINE, "restart_weights": [1, 1]}), "CosineAnnealingRestartLR cannot be built"),
        (edit("val:metrics:psnr:type", "calculate_pnsr"), "'calculate_pnsr' is unknown; did you mean 'calculate_psnr'"),
        (edit("val:metrics:psnr:type", "calculate_lpips"), "'calculate_lpips' is unknown; choose one of calculate_"),
        (edit("val:metrics:psnr:test_y_chanel", True), "calculate_psnr has no argument 'test_y_chanel'; did you mean"),
        (edit("val:metrics:psnr:crop_border", ...), "the argument 'crop_border' of calculate_psnr is missing"),
        (edit("val:metrics:psnr:crop_border", None), "psnr:crop_border is empty, but must be a whole number"),
        (edit("val:metrics:psnr:crop_border", 20), "fails on the smallest results of datasets:val_1, 40x48 pixels"),
        (edit("val:metrics:ssim", {"type": "calculate_ssim", "crop_border": 15}), "fails on the smallest results"),
        (edit("val:metrics:niqe", {"type": "calculate_niqe", "crop_border": 0}), "fails on the smallest results"),
        (edit("val:metrics:psnr:input_order", "HW"), "calculate_psnr fails"),
        (edit("datasets:val_1:filename_tmpl", "x2"), r"filename_tmpl is 'x2', but must hold \{\} once"),
        (edit("datasets:val_1:filename_tmpl", "{}{}x2"), r"must hold \{\} once"),
        *((edit("datasets:train:filename_tmpl", text), r"train:filename_tmpl is .* must hold \{\} once")
          for text in ("x2", "{}_{}", "{", "}", "{name}", "{0.real}{1}", "{}{", "{:d}")),
        (edit("datasets:train:gt_size", 33), "gt_size is 33, which scale 2 does not divide; choose 32 or 34"),
        (edit("logger", {**LOGGER, "use_tb_logger": False}), "logger:wandb:project needs use_tb_logger"),
        (edit("train:optim_g:capturable", True), "train:optim_g: Adam cannot be used: If capturable=True, params"),
        (edit("train:optim_g:differentiable", True), "train:optim_g: Adam cannot be used: "),
        (edit("path:ignore_resume_networks", "netwrk_g"), "'netwrk_g' is no network of the file; did you mean"),
        (edit("model_type", "SRGANModel"), "the option train:gan_opt is missing, which SRGANModel needs"),
        (edit("model_type", "SRModell"), "model_type: 'SRModell' is unknown; did you mean 'SRModel'"),
    ],
)  # fmt: skip
def test_parts_and_their_arguments(tiny_options: Options, change: Change, sentence: str) -> None:
    change(tiny_options)
    with pytest.raises(UserError, match=sentence) as caught:
        check_options(parsed(tiny_options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("package", "change"), [
    ("wandb", edit("logger", {**LOGGER, "use_tb_logger": True})),
    ("tensorboard", edit("logger:use_tb_logger", True)),
])  # fmt: skip
def test_loggers_that_are_not_installed(
    tiny_options: Options, monkeypatch: pytest.MonkeyPatch, package: str, change: Change
) -> None:
    monkeypatch.setattr(agreement, "_is_installed", lambda name: name != package)
    change(tiny_options)
    with pytest.raises(UserError, match=f"needs {package}; pip install {package}"):
        check_options(parsed(tiny_options))
    monkeypatch.setattr(agreement, "_is_installed", lambda name: True)
    assert check_options(parsed(tiny_options)) == []


SWINIR = {"type": "SwinIR", "upscale": 2, "img_size": 16, "window_size": 8, "depths": [1], "embed_dim": 12}
SWINIR |= {"num_heads": [2], "upsampler": "pixelshuffledirect"}


def test_patches_that_the_network_does_not_take(tiny_options: Options) -> None:
    tiny_options.update(network_g=dict(SWINIR), model_type="SwinIRModel")
    assert check_options(parsed(tiny_options)) == []
    tiny_options["datasets"]["train"]["gt_size"] = 28
    with pytest.raises(UserError, match="network_g: SwinIR cannot take LQ patches of 14x14 pixels"):
        check_options(parsed(tiny_options))


@pytest.mark.filterwarnings("error")
def test_figures_that_are_no_numbers_come_without_words_of_numpy(tiny_options: Options) -> None:
    tiny_options["val"]["metrics"]["psnr"]["crop_border"] = 20
    with pytest.raises(UserError, match="the figure is no number"):
        check_options(parsed(tiny_options))


@pytest.mark.parametrize("loss", [{"type": "WeightedTVLoss"}, {"type": "L1Loss", "loss_weight": -1}])
def test_losses_that_do_not_lead_to_gt_are_told(tiny_options: Options, loss: Options) -> None:
    tiny_options["train"]["pixel_opt"] = loss
    (told,) = check_options(parsed(tiny_options))
    assert told.startswith(f"train:pixel_opt: {loss['type']} is not lower where the output is GT")


@pytest.mark.parametrize("kind", ["L1Loss", "MSELoss", "CharbonnierLoss"])
def test_losses_that_lead_to_gt_need_no_word(tiny_options: Options, kind: str) -> None:
    tiny_options["train"]["pixel_opt"] = {"type": kind, "reduction": "sum", "loss_weight": 1e-3}
    assert check_options(parsed(tiny_options)) == []


GAN = {"type": "GANLoss", "gan_type": "hinge"}
OF_SCALES = {"type": "MultiScaleGANLoss", "gan_type": "hinge"}
FACES, STYLE = {"type": "HiFaceGANDiscriminator"}, {"type": "StyleGAN2Discriminator"}


class FeatureLossOfTests(torch.nn.Module):
    """Compares features of all layers at all scales."""

    def forward(self, fake: list[list[torch.Tensor]], real: list[list[torch.Tensor]]) -> torch.Tensor:
        """Sum the differences."""
        pairs = [pair for scales in zip(fake, real, strict=True) for pair in zip(*scales, strict=True)]
        return torch.stack([(a - b).abs().mean() for a, b in pairs]).sum()


@pytest.mark.parametrize(
    ("model", "name", "loss", "discriminator", "sentence"),
    [
        ("ESRModel", "wave_opt", {"type": "L1Loss"}, None, None),
        ("ESRModel", "wave_opt", {"type": "WeightedTVLoss"}, None, "WeightedTVLoss is not lower where the output is"),
        ("ESRModel", "wave_opt", {"type": "L1Loss", "reductoin": "sum"}, None, "did you mean 'reduction'"),
        ("ESRModel", "wave_opt", GAN, None, "GANLoss is no loss for wave_opt"),
        ("ESRModel", "mesa_opt", {"type": "L1Loss", "start_ratio": 0.5}, None, None),
        ("ESRModel", "mesa_opt", {"type": "L1Loss", "start_ration": 0.5}, None, "has no argument 'start_ration'"),
        ("ESRModel", "mesa_opt", {"type": "MSELoss", "loss_weight": "much"}, None, "loss_weight is 'much', but must"),
        ("ESRModel", "mesa_opt", GAN, None, "GANLoss is no loss for mesa_opt"),
        ("HiFaceGANModel", "gan_opt", OF_SCALES, FACES, None),
        ("HiFaceGANModel", "gan_opt", GAN, FACES, "GANLoss is no loss for gan_opt"),
        ("HiFaceGANModel", "gan_opt", GAN, {"type": "UNetDiscriminatorSN"}, None),
        ("HiFaceGANModel", "gan_opt", {"type": "L1Loss"}, FACES, "L1Loss is no loss for gan_opt"),
        ("HiFaceGANModel", "gan_opt", None, FACES, "the option train:gan_opt is missing, which HiFaceGANModel needs"),
        ("HiFaceGANModel", "gan_opt", GAN, None, "the option network_d is missing, which HiFaceGANModel needs"),
        ("HiFaceGANModel", "feature_matching_opt", {"type": "FeatureLossOfTests"}, FACES, None),
        ("HiFaceGANModel", "feature_matching_opt", {"type": "L1Loss"}, FACES, "L1Loss is no loss for feature_match"),
        ("StyleGAN2Model", "gan_opt", {"type": "GANLoss", "gan_type": "wgan_softplus"}, STYLE, None),
        (
            "StyleGAN2Model",
            "gan_opt",
            {"type": "GANLoss", "gan_type": "wgan_softmax"},
            STYLE,
            "cannot be built: GAN type wgan_s",
        ),
        ("StyleGAN2Model", "gan_opt", {"type": "MSELoss"}, STYLE, "MSELoss is no loss for gan_opt"),
        ("StyleGAN2Model", "gan_opt", None, STYLE, "the option train:gan_opt is missing, which StyleGAN2Model needs"),
    ],
)
def test_losses_are_tried_as_their_model_calls_them(
    tiny_options: Options, model: str, name: str, loss: Options | None, discriminator: Options | None, sentence: str
) -> None:
    if "FeatureLossOfTests" not in LOSS_REGISTRY:
        LOSS_REGISTRY.register(FeatureLossOfTests)
    tiny_options["model_type"] = model
    if discriminator is not None:
        tiny_options["network_d"] = discriminator
    train = tiny_options["train"]
    train["optim_d"] = train["optim_g"]
    if model == "HiFaceGANModel" and name != "gan_opt":
        train["gan_opt"] = OF_SCALES
    if loss is not None:
        train[name] = loss
    try:
        told = check_parts(parsed(tiny_options))
    except UserError as error:
        told = [str(error)]
    assert sentence is None or re.search(sentence, " ".join(told)), told
    assert sentence is not None or not told


def test_images_that_the_model_does_not_pad(tiny_options: Options) -> None:
    """The validation image has 24 x 20 pixels, and the windows 8 x 8."""
    tiny_options.update(network_g=dict(SWINIR), model_type="SRModel")
    with pytest.raises(UserError, match=r"cannot take an image of datasets:val_1 of 20x24 .* ESCModel pads images"):
        check_options(parsed(tiny_options))


def test_results_of_another_size_than_gt(tiny_options: Options) -> None:
    """The scale of this network has no name of its own."""
    tiny_options["network_g"] = {"type": "RRDBNet", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 4, "num_block": 1}
    with pytest.raises(UserError, match="RRDBNet makes 64x64 pixels of an LQ patch of 16x16, but GT has 32x32"):
        check_options(parsed(tiny_options))


@pytest.mark.parametrize("network", ["RRDBNet", "MSRResNet", "SRVGGNetCompact"])
@pytest.mark.parametrize("model", ["SRModel", "ESCModel"])
def test_a_test_of_another_scale(tiny_options: Options, network: str, model: str) -> None:
    """Without GT it would save images of that scale, and with GT the first metric would fail."""
    options = {**tiny_options, "datasets": {"test_1": tiny_options["datasets"]["val_1"]}, "model_type": model}
    options["network_g"] = {"type": network, "num_in_ch": 3, "num_out_ch": 3, "num_feat": 4}  # four times unless told
    with pytest.raises(UserError, match=rf"network_g: {network} makes 384x384 pixels of an image of 96x96; make scale"):
        check_options(parsed(options, is_train=False))
    options["network_g"]["scale" if network == "RRDBNet" else "upscale"] = 2
    assert all("untrained" in note for note in check_options(parsed(options, is_train=False)))


@pytest.mark.parametrize("model", ["SRModel", "ESCModel"])
def test_a_test_of_one_channel(tiny_options: Options, model: str) -> None:
    options = {**tiny_options, "datasets": {"test_1": {**tiny_options["datasets"]["val_1"], "color": "y"}}}
    options["model_type"] = model
    options["network_g"] = {"type": "MSRResNet", "num_in_ch": 1, "num_out_ch": 1, "num_feat": 4, "upscale": 2}
    assert all("untrained" in note for note in check_options(parsed(options, is_train=False)))


def test_channels(tiny_options: Options) -> None:
    tiny_options["network_g"] = {"type": "MSRResNet", "num_in_ch": 1, "num_out_ch": 1, "upscale": 2}
    with pytest.raises(UserError, match="network_g: MSRResNet cannot take LQ patches"):
        check_options(parsed(tiny_options))


def test_one_channel(tiny_options: Options) -> None:
    """`color: y` goes with a network of one channel, in every data set, and in no other way."""
    grey = {"type": "MSRResNet", "num_in_ch": 1, "num_out_ch": 1, "num_feat": 4, "num_block": 1, "upscale": 2}
    for dataset in tiny_options["datasets"].values():
        dataset["color"] = "y"
    with pytest.raises(UserError, match="network_g: ESC cannot take LQ patches of 16x16 pixels and 1 channel"):
        check_options(parsed(tiny_options))
    tiny_options["network_g"] = grey
    assert check_options(parsed(tiny_options)) == []
    tiny_options["network_g"] = {**grey, "num_out_ch": 3}
    with pytest.raises(UserError, match="MSRResNet makes 3 channels of LQ patches, but those of GT have 1"):
        check_options(parsed(tiny_options))
    tiny_options["network_g"] = grey
    del tiny_options["datasets"]["val_1"]["color"]
    with pytest.raises(UserError, match="takes images of 1 channel, but those of datasets:val_1 have 3; make"):
        check_options(parsed(tiny_options))


def test_discriminator_of_another_patch(tiny_options: Options) -> None:
    tiny_options.update(
        model_type="SRGANModel", network_d={"type": "VGGStyleDiscriminator", "num_in_ch": 3, "num_feat": 4}
    )
    tiny_options["train"].update(
        gan_opt={"type": "GANLoss", "gan_type": "vanilla"}, optim_d={"type": "Adam", "lr": 1e-4}
    )
    with pytest.raises(UserError, match="network_d: VGGStyleDiscriminator cannot take GT patches of 32x32"):
        check_options(parsed(tiny_options))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (edit("train:scheduler:milestones", [3, 50]), "milestones: 50 is never reached, because total_iter is 4"),
        (edit("train:scheduler", {**COSINE, "periods": [9]}), "periods end at iteration 9, after total_iter 4"),
        (edit("train:warmup_iter", 5), "warmup_iter is 5, above total_iter 4"),
        (edit("train:optim_g:lr", 0), "lr is 0"),
        (edit("train:pixel_opt:loss_weight", 0), "loss_weight of pixel_opt is 0, so nothing is learnt"),
        (edit("train:scheduler", {**COSINE, "eta_min": 1.0}), "eta_min is 1.0, above the lr 0.001 of train:optim_g"),
        (edit("train:scheduler:gamma", 2), "gamma is 2, so the rate rises at every milestone"),
        (edit("train:ema_start", 4), "ema_start is 4, not below total_iter 4, so no weights are averaged"),
        (edit("val:val_freq", 5), "val:val_freq is 5, above total_iter 4, so only the end is validated"),
        (edit("logger:save_checkpoint_freq", 5), "only the end is saved"),
        (edit("logger:print_freq", 5), "no loss is shown"),
        (edit("val", ...), "datasets:val_1 is never validated"),
        (edit("datasets:val_1", ...), "nothing is validated"),
        (edit("name", "my_debug"), "debug mode"),
        (edit("train:optim_g:maximize", True), "maximize is true, so the loss is made larger"),
        (edit("datasets:train", NORMALISED), "datasets:val_1: mean and std are not those of datasets:train"),
        (edit("datasets", NORMALISED), "datasets:val_1: with mean and std, results are compared and saved as they are"),
        (edit("path:ignore_resume_networks", ["network_g"]), "does not go on from the weights of network_g"),
        (edit("val:metrics:psnr:better", "lower"), "better is lower, but a higher value is better"),
        (edit("val:metrics:psnr:fast", True), "val:metrics:psnr:fast is not read by calculate_psnr"),
    ],
)
def test_what_is_hardly_meant_is_a_warning(tiny_options: Options, change: Change, words: str) -> None:
    change(tiny_options)
    (told,) = check_options(parsed(tiny_options))
    assert words in told


def test_a_milestone_at_the_end_is_a_constant_rate(tiny_options: Options) -> None:
    """As the option files of Real-ESRGAN and HAT write it."""
    tiny_options["train"]["scheduler"]["milestones"] = [4]
    assert check_options(parsed(tiny_options)) == []


def test_a_data_set_of_another_scale(tiny_options: Options) -> None:
    """BasicSR would put the scale of the file in its place."""
    tiny_options["datasets"]["val_1"]["scale"] = 2
    check_scales(tiny_options)
    tiny_options["datasets"]["val_1"]["scale"] = 4
    with pytest.raises(UserError, match=r"datasets:val_1:scale is 4, but scale at the top of the file, .* is 2"):
        check_scales(tiny_options)
    check_scales({"datasets": tiny_options["datasets"]})


def test_two_test_sets_of_one_name(tiny_options: Options) -> None:
    tiny_options["datasets"]["val_2"] = tiny_options["datasets"]["val_1"]
    (told,) = check_options(parsed(tiny_options))
    assert "datasets:val_2:name: tiny is the name of datasets:val_1 too" in told


def test_metrics_need_gt(options: Options) -> None:
    """`options`: of a test."""
    lq = options["datasets"]["test_1"]["dataroot_lq"]
    options["datasets"]["test_2"] = {
        "name": "photographs", "type": "SingleImageDataset", "dataroot_lq": lq, "io_backend": {"type": "disk"},
    }  # fmt: skip
    with pytest.raises(
        UserError, match="val:metrics:psnr: calculate_psnr compares with GT, which datasets:test_2 does not"
    ):
        check_options(parsed(options, is_train=False))
    del options["val"]["metrics"]
    options["val"]["save_img"] = True
    assert check_options(parsed(options, is_train=False)) == []


def test_a_training_set_is_no_test_set(tiny_options: Options) -> None:
    with pytest.raises(UserError, match="datasets:train: patches are no pictures to test on"):
        check_options(parsed(tiny_options, is_train=False))


def test_tests_of_nothing_and_of_an_untrained_network(options: Options) -> None:
    options["path"]["pretrain_network_g"] = None
    (told,) = check_options(parsed(options, is_train=False))
    assert "path:pretrain_network_g names no checkpoint, so the results are those of an untrained network" in told
    options["datasets"] = {}
    with pytest.raises(UserError, match="datasets holds nothing to test; add a data set called test_1"):
        check_options(parsed(options, is_train=False))


def test_tests_that_show_nothing_or_something_else(options: Options, folder: Path) -> None:
    options["val"].update(metrics=None, save_img=False)
    (told,) = check_options(parsed(options, is_train=False))
    assert told == "val: nothing is compared and nothing saved; give metrics, or set save_img to true."
    options["val"]["save_img"] = True
    assert check_options(parsed(options, is_train=False)) == []
    torch.save({"params": ESC(**TINY, upscaling_factor=4).state_dict()}, folder / "x4.pth")
    options["path"]["pretrain_network_g"] = "x4.pth"
    (told,) = check_options(parsed(options, is_train=False))
    assert "x4.pth is of another scale, or another network: to_img.weight is 48 x 16 x 3 x 3 in it and 12 x 16" in told


def test_the_check_draws_no_random_numbers(tiny_options: Options) -> None:
    def drawn() -> tuple[float, float]:
        return random.random(), float(np.random.rand())

    random.seed(1)
    np.random.seed(1)
    expected = drawn()
    random.seed(1)
    np.random.seed(1)
    check_options(parsed(tiny_options))
    assert drawn() == expected


RANKS = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "x"}
TASKS = {"SLURM_PROCID": "0", "SLURM_NTASKS": "2", "SLURM_NODELIST": "here"}


@pytest.mark.parametrize(
    ("change", "launcher", "environment", "gpus", "sentence"),
    [
        (edit("num_gpu", 1), "none", {}, 0, "num_gpu is 1, but PyTorch sees no GPU; set num_gpu to 0 to use the CPU"),
        (edit("num_gpu", 4), "none", {}, 2, "num_gpu is 4, but PyTorch sees 2 GPUs; set num_gpu to 2 or auto"),
        (edit("num_gpu", 1), "pytorch", RANKS, 0, "PyTorch sees no GPU"),
        (edit("num_gpu", 0), "pytorch", RANKS, 2, "num_gpu is 0, but --launcher pytorch uses a GPU"),
        (edit("num_gpu", 4), "pytorch", {**RANKS, "LOCAL_WORLD_SIZE": "4"}, 2, "4 processes were started here, but"),
        (edit("num_gpu", 0), "pytorch", {}, 0, "variable RANK of the environment is missing; start with: torchrun"),
        (edit("num_gpu", 0), "slurm", {}, 0, "variable SLURM_PROCID of the environment is missing; start with srun"),
        (edit("num_gpu", 0), "none", RANKS, 0, "torchrun started 2 processes, but each would train alone"),
        (
            edit("name", "x"),
            "pytorch",
            {**RANKS, "RANK": "a"},
            0,
            "RANK of the environment is 'a', but must be a whole",
        ),
        (edit("name", "x"), "slurm", {**TASKS, "SLURM_NTASKS": "2(x3)"}, 1, "SLURM_NTASKS of the environment is"),
        (edit("name", "x"), "slurm", TASKS, 0, "slurm uses a GPU for each process, but PyTorch sees no GPU; on CPUs"),
    ],
)
def test_machine(
    tiny_options: Options,
    monkeypatch: pytest.MonkeyPatch,
    change: Change,
    launcher: str,
    environment: dict[str, str],
    gpus: int,
    sentence: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    change(tiny_options)
    with pytest.raises(UserError, match=sentence):
        check_machine(tiny_options, launcher, environment)


@pytest.mark.parametrize("count", ["auto", 0])
def test_prefetching_to_a_gpu_that_is_not_used_is_left_out(
    tiny_options: Options, monkeypatch: pytest.MonkeyPatch, count: Any
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    tiny_options["num_gpu"] = count
    tiny_options["datasets"]["train"].update(prefetch_mode="cuda", pin_memory=True)
    (told,) = check_machine(tiny_options, "none", {})
    assert "datasets:train:prefetch_mode: cuda is left out" in told
    assert "prefetch_mode" not in tiny_options["datasets"]["train"]


def test_prefetching_to_a_gpu_needs_pinned_memory(tiny_options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    tiny_options["num_gpu"] = 1
    tiny_options["datasets"]["train"]["prefetch_mode"] = "cuda"
    with pytest.raises(UserError, match="cuda needs pin_memory: true"):
        check_machine(tiny_options, "none", {})


def test_many_gpus_started_by_torchrun(tiny_options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    """num_gpu counts those of all nodes in files of others; each process looks at its node alone."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    tiny_options["num_gpu"] = 8
    assert check_machine(tiny_options, "pytorch", {**RANKS, "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "8"}) == []


def test_arguments_of_every_launcher(tmp_path: Path) -> None:
    """torch.distributed.launch writes --local-rank; torchrun writes nothing."""
    from esc_arch.bridge.command_line import for_basicsr, read_arguments

    arguments = read_arguments(
        ["-opt", "o.yml", "--local-rank=1", "--force_yml", "a=1", "b=2", "--force_yml", "c=3"], True
    )
    assert arguments.force_yml == ["a=1", "b=2", "c=3"]
    assert for_basicsr("train", arguments) == ["train", "-opt", "o.yml", "--launcher", "none", "--local_rank", "1"]
    with pytest.raises(UserError, match=r"--wibble; see .*esc_arch\.test --help"):
        read_arguments(["-opt", "o.yml", "--wibble"], False)


@pytest.mark.parametrize("value", ["no", "false", "on"])
def test_texts_are_no_truth_values_of_arguments(tiny_options: Options, value: str) -> None:
    """Any text would count as true: `--force_yml network_g:use_ln=no`."""
    tiny_options["network_g"]["use_ln"] = value
    with pytest.raises(UserError, match=f"network_g:use_ln is '{value}', but must be true or false"):
        check_options(parsed(tiny_options))


@pytest.mark.parametrize("name", ["flashbias_rank", "dim"])
def test_texts_are_no_numbers_of_arguments(tiny_options: Options, name: str) -> None:
    tiny_options["network_g"][name] = "48x"
    with pytest.raises(UserError, match=f"network_g:{name} is '48x', but must be a whole number"):
        check_options(parsed(tiny_options))


@pytest.mark.parametrize("loss", ["mesa_opt", "wave_opt", "gan_opt", "ldl_opt"])
def test_losses_that_the_model_does_not_read_are_told(tiny_options: Options, loss: str) -> None:
    arguments = {"gan_type": "vanilla"} if loss == "gan_opt" else {}
    tiny_options["train"][loss] = {"type": "GANLoss" if arguments else "L1Loss", **arguments}
    told = " ".join(check_options(parsed({**tiny_options, "model_type": "ESCModel"})))
    assert f"train:{loss} (not read by ESCModel)" in told


def test_patches_of_data_sets_that_make_lq_fit_the_scale(tiny_options: Options) -> None:
    tiny_options["datasets"]["train"].update(type="DownsampleImageDataset", gt_size=33)
    with pytest.raises(UserError, match="gt_size is 33, which scale 2 does not divide; choose 32 or 34"):
        check_options(parsed(tiny_options))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("esc", "neosr's is ESCReal with use_dysample: true"),
        ("escrealm", "ESCRealM with upsampler: transpose.conv, mid_dim: 64 and unshuffle_mod: false"),
        ("escrealm_xl", "dim: 128, pdim: 32"),
        ("MambaIRv2", "the form of the light option files is here, MambaIRv2Light"),
        ("compact", "it is SRVGGNetCompact here"),
        ("plksr_tiny", r"PLKSR with the arguments of options/peers/test_PLKSR_tiny_x2\.yml"),
    ],
)
def test_networks_that_others_call_so_are_not_taken_for_misspelt_ones(
    tiny_options: Options, name: str, words: str
) -> None:
    tiny_options["network_g"]["type"] = name
    with pytest.raises(UserError, match=words) as caught:
        check_options(parsed(tiny_options))
    assert "did you mean" not in str(caught.value)
