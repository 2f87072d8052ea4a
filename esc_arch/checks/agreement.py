"""Checks options against one another: values that are each allowed, and together are not."""

from __future__ import annotations

import importlib.util
import re
from typing import Any

from esc_arch.checks.names import hint
from esc_arch.checks.table import PAIRED, SHRINKING
from esc_arch.common.errors import UserError

Options = dict[str, Any]

REQUIRED_OF_DEGRADATION = (
    "resize_prob resize_range gaussian_noise_prob noise_range poisson_scale_range gray_noise_prob jpeg_range "
    "second_blur_prob resize_prob2 resize_range2 gaussian_noise_prob2 noise_range2 poisson_scale_range2 "
    "gray_noise_prob2 jpeg_range2 gt_size scale"
)
REQUIRED_OF_DEGRADING_MODEL = {
    "RealESRNetModel": "gt_usm",
    "RealESRGANModel": "l1_gt_usm percep_gt_usm gan_gt_usm network_d train:gan_opt train:optim_d:type",
}
REQUIRED_OF_DEGRADING_MODEL["RealHATMSEModel"] = REQUIRED_OF_DEGRADING_MODEL["RealESRNetModel"]
REQUIRED_OF_DEGRADING_MODEL["RealHATGANModel"] = REQUIRED_OF_DEGRADING_MODEL["RealESRGANModel"]
WHOLE_SCALES = {*PAIRED, *SHRINKING} - {"BicubicDataset"}  # data sets whose patches a whole scale must divide
CROP = 400  # side of the images that RealESRGANDataset makes, in pixels


def check_agreement(opt: Options) -> list[str]:
    """Check that options agree with one another.

    Args:
        opt: options with values read.

    Returns:
        sentences about what is allowed, but hardly meant.

    Raises:
        UserError: naming two options that do not agree.
    """
    told = _check_names(opt)
    if not opt["is_train"]:
        return told
    told += _check_ignored(opt) + _check_normalisation(opt["datasets"])
    _check_patches(opt)
    _check_degradation(opt)
    _check_kernels(opt["datasets"]["train"])
    return told + _check_schedule(opt["train"]) + _check_losses(opt["train"]) + _check_intervals(opt)


def check_scales(opt: Options) -> None:
    """Check that no data set has a scale of its own beside that of the file, by which BasicSR replaces it.

    Args:
        opt: options with values read, before BasicSR completes them.

    Raises:
        UserError: one has.
    """
    scale = opt.get("scale")
    for phase, dataset in opt["datasets"].items():
        if scale is not None and dataset.get("scale", scale) != scale:
            raise UserError(
                f"datasets:{phase}:scale is {dataset['scale']}, but scale at the top of the file, which counts for all "
                f"data sets, is {scale}; make them equal, or remove one of them."
            )


def _check_names(opt: Options) -> list[str]:
    told = []
    if "debug" in opt["name"] and not opt["name"].startswith("debug"):
        told.append("name: BasicSR takes 'debug' in a name for its debug mode, with short intervals; choose another.")
    for phase, dataset in opt["datasets"].items():
        given = [name for name in ("mean", "std") if dataset.get(name) is not None]
        if len(given) == 1:
            lacking = "std" if given == ["mean"] else "mean"
            raise UserError(f"datasets:{phase}:{lacking} is missing, which {given[0]} needs; give both or none.")
        template = dataset.get("filename_tmpl")
        for text in template if isinstance(template, list) else [template]:
            if isinstance(text, str) and not _is_template(text):
                raise UserError(
                    f"datasets:{phase}:filename_tmpl is {text!r}, but must hold {{}} once, for the name of GT."
                )
    seen: dict[str, str] = {}
    for phase, dataset in opt["datasets"].items():
        if phase == "train":
            continue
        if dataset["name"] in seen:
            told.append(
                f"datasets:{phase}:name: {dataset['name']} is the name of datasets:{seen[dataset['name']]} too, so "
                "their figures stand under one name."
            )
        seen.setdefault(dataset["name"], phase)
    return told


def _check_ignored(opt: Options) -> list[str]:
    """Check the networks that resuming leaves out."""
    given = opt["path"].get("ignore_resume_networks") or []
    ignored = [given] if isinstance(given, str) else given
    known = [name for name in opt if name.startswith("network_")]
    for name in ignored:
        if name not in known:
            raise UserError(f"path:ignore_resume_networks: {name!r} is no network of the file{hint(name, known)}.")
    return [
        f"path:ignore_resume_networks: a resumed training does not go on from the weights of {name}, but from "
        f"path:pretrain_{name} or new ones."
        for name in ignored
    ]


def _check_normalisation(datasets: Options) -> list[str]:
    """Look whether the network sees in validation what it sees in training, and makes images of it."""
    told = []
    trained = _normalisation(datasets["train"])
    for phase, dataset in datasets.items():
        given = _normalisation(dataset)
        if given != trained:
            told.append(
                f"datasets:{phase}: mean and std are not those of datasets:train, so the network sees other values "
                "in validation than in training."
            )
        elif phase != "train" and given is not None:
            told.append(
                f"datasets:{phase}: with mean and std, results are compared and saved as they are normalised, and cut "
                "off below 0 and above 1."
            )
    return told


def _normalisation(dataset: Options) -> tuple[Any, Any] | None:
    mean, std = dataset.get("mean"), dataset.get("std")
    return None if mean in (None, [0, 0, 0]) and std in (None, [1, 1, 1]) else (mean, std)


def _is_template(text: str) -> bool:
    try:
        return "\0" in text.format("\0") and len(re.findall(r"\{[^{}]*\}", text)) == 1
    except (IndexError, KeyError, ValueError, AttributeError):
        return False


def _check_patches(opt: Options) -> None:
    training_set, scale = opt["datasets"]["train"], opt.get("scale")
    size = training_set.get("gt_size")
    if training_set["type"] not in WHOLE_SCALES or size is None:
        return
    if scale is None:
        raise UserError("the option scale is missing at the top level of the file.")
    if not isinstance(scale, int):
        raise UserError(f"scale is {scale}, but {training_set['type']} needs a whole number.")
    if size % scale:
        near = size - size % scale or scale
        raise UserError(
            f"datasets:train:gt_size is {size}, which scale {scale} does not divide; choose {near} or {near + scale}."
        )


def _check_degradation(opt: Options) -> None:
    """Check what the models of Real-ESRGAN read while they train."""
    model = opt["model_type"]
    if model not in REQUIRED_OF_DEGRADING_MODEL or not opt.get("high_order_degradation", True):
        return
    for name in [*REQUIRED_OF_DEGRADING_MODEL[model].split(), *REQUIRED_OF_DEGRADATION.split()]:
        place: Any = opt
        for key in name.split(":"):
            if key not in place:
                raise UserError(f"the option {name} is missing; see the files in options/ for an example.")
            place = place[key]
    pool, batch = opt.get("queue_size", 180), opt["datasets"]["train"]["batch_size_per_gpu"]
    gpus = 1 if opt.get("dist") or not isinstance(opt["num_gpu"], int) else max(opt["num_gpu"], 1)
    if pool % (batch * gpus):
        raise UserError(
            f"queue_size {pool} must be a multiple of batch_size_per_gpu {batch}"
            f"{f' times num_gpu {gpus}' if gpus > 1 else ''}; change one of them."
        )
    scale, size = opt["scale"], opt["gt_size"]
    if not isinstance(scale, int) or CROP % scale:
        raise UserError(f"scale: {model} cuts GT to {CROP} pixels, which scale {scale} does not divide; use 1, 2 or 4.")
    if size % scale:
        raise UserError(f"gt_size is {size}, which scale {scale} does not divide; choose a multiple.")
    for name in ("resize_prob", "resize_prob2"):
        if not sum(opt[name]):
            raise UserError(f"{name} is {opt[name]}, but one of the three must be above 0.")


def _check_kernels(training_set: Options) -> None:
    for turn in ("", "2"):
        kernels, shares = training_set.get(f"kernel_list{turn}"), training_set.get(f"kernel_prob{turn}")
        if kernels is None or shares is None:
            continue
        where = f"datasets:train:kernel_prob{turn}"
        if len(kernels) != len(shares):
            raise UserError(f"{where} has {len(shares)} numbers for {len(kernels)} kernels of kernel_list{turn}.")
        if not sum(shares):
            raise UserError(f"{where} is {shares}, but one of the numbers must be above 0.")


def _check_schedule(train: Options) -> list[str]:
    """Check the rate's way through the iterations."""
    total, schedule, told = train["total_iter"], train["scheduler"], []
    warmup = train.get("warmup_iter", -1)
    if warmup > total:
        told.append(
            f"train:warmup_iter is {warmup}, above total_iter {total}, so the rate never reaches the one given."
        )
    if schedule["type"] == "CosineAnnealingRestartLR" and schedule.get("periods"):
        end = sum(schedule["periods"])
        if end < total - 1:
            raise UserError(
                f"train:scheduler:periods end at iteration {end}, before total_iter {total}; make their sum {total}."
            )
        if end > total:
            told.append(
                f"train:scheduler:periods end at iteration {end}, after total_iter {total}, so the rate does not fall "
                "to eta_min."
            )
    late = [iteration for iteration in schedule.get("milestones", []) if iteration > total]
    if late:
        told.append(f"train:scheduler:milestones: {_list(late)} is never reached, because total_iter is {total}.")
    if schedule.get("eta_min", 0) > train["optim_g"]["lr"]:
        lowest, rate = schedule["eta_min"], train["optim_g"]["lr"]
        told.append(f"train:scheduler:eta_min is {lowest}, above the lr {rate} of train:optim_g, so the rate rises.")
    if schedule.get("gamma", 0) > 1:
        told.append(f"train:scheduler:gamma is {schedule['gamma']}, so the rate rises at every milestone.")
    for name in ("net_d_init_iters", "net_d_iters"):
        if train.get(name, 0) > total - (name == "net_d_init_iters"):
            told.append(f"train:{name} is {train[name]} and total_iter {total}, so network_g is never trained.")
    late = [iteration for iteration in schedule.get("restarts", []) if iteration > total]
    if late:
        told.append(f"train:scheduler:restarts: {_list(late)} is never reached, because total_iter is {total}.")
    for name in ("optim_g", "optim_d"):
        if (train.get(name) or {}).get("maximize") is True:
            told.append(f"train:{name}:maximize is true, so the loss is made larger, not smaller.")
    if train["optim_g"]["lr"] == 0:
        told.append("train:optim_g:lr is 0, so nothing is learnt.")
    return told


def _check_losses(train: Options) -> list[str]:
    """Check that something is learnt, and averaged."""
    told = []
    losses = {name: section for name, section in train.items() if name.endswith("_opt") and section}
    if losses and all(section.get("loss_weight", 1) == 0 for section in losses.values()):
        told.append(f"train: loss_weight of {', '.join(losses)} is 0, so nothing is learnt.")
    start, total = train.get("ema_start", 0), train["total_iter"]
    if start and start >= total:
        told.append(f"train:ema_start is {start}, not below total_iter {total}, so no weights are averaged.")
    return told


def _check_intervals(opt: Options) -> list[str]:
    total, told = opt["train"]["total_iter"], []
    validation = [phase for phase in opt["datasets"] if phase != "train"]
    if opt.get("val"):
        every = opt["val"]["val_freq"]
        if every > total:
            told.append(f"val:val_freq is {every}, above total_iter {total}, so only the end is validated.")
        if not validation:
            told.append("val: nothing is validated, because datasets holds no val.")
    elif validation:
        told.append(f"datasets:{validation[0]} is never validated, because the section val is missing.")
    every = opt["logger"]["save_checkpoint_freq"]
    if every > total:
        told.append(f"logger:save_checkpoint_freq is {every}, above total_iter {total}, so only the end is saved.")
    if opt["logger"]["print_freq"] > total:
        told.append(
            f"logger:print_freq is {opt['logger']['print_freq']}, above total_iter {total}, so no loss is shown."
        )
    if opt["logger"]["use_tb_logger"] and not _is_installed("tensorboard"):
        raise UserError("logger:use_tb_logger needs tensorboard; pip install tensorboard, or set it to false.")
    tracked = (opt["logger"].get("wandb") or {}).get("project")
    if tracked and not opt["logger"]["use_tb_logger"]:
        raise UserError("logger:wandb:project needs use_tb_logger: true, which Weights & Biases reads from.")
    if tracked and not _is_installed("wandb"):
        raise UserError("logger:wandb:project needs wandb; pip install wandb, or set project to ~.")
    return told


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _list(numbers: list[int]) -> str:
    return ", ".join(str(number) for number in numbers)
