"""Builds the small parts of a training with their arguments: losses, optimizers, schedules and metrics."""

from __future__ import annotations

import inspect
import os
import pickle
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import torch

from esc_arch.checks.arguments import check_arguments
from esc_arch.checks.losses import try_loss
from esc_arch.checks.names import hint, meant
from esc_arch.checks.table import GAN_MODELS, LOSSES_OF, NAMES, SECTIONS
from esc_arch.common.errors import UserError, first_line

Options = dict[str, Any]
FAULTS = (
    ValueError,
    TypeError,
    AssertionError,
    ArithmeticError,
    RuntimeError,
    ImportError,
    LookupError,
    AttributeError,
)
NO_TEACHERS = ("gan_opt", "ldl_opt", "mesa_opt", "feature_matching_opt")  # losses that do not suffice
SEVERAL_SCALES = ("HiFaceGANDiscriminator",)
OF_WEIGHTS = (OSError, pickle.UnpicklingError, EOFError, RuntimeError)  # URLError is an OSError
GIVEN_TO_METRICS = ("img", "img2")  # by BasicSR, not by the option file
OF_EVERY_METRIC = ("type", "better")
# options in the section of a loss that a model takes out before the loss is built
READ_BY_MODELS = {
    ("ESRModel", "mesa_opt"): ("start_ratio",),
    ("RealHATGANModel", "gan_opt"): ("use_gp", "gp_lambda"),
}


def check_parts(opt: Options) -> list[str]:
    """Build what a training is made of besides the networks and the data, and look at the metrics.

    Args:
        opt: parsed options; they are not changed.

    Returns:
        sentences about what is allowed, but hardly meant.

    Raises:
        UserError: naming the part that cannot be built, or the argument at fault.
    """
    told = _check_metrics((opt.get("val") or {}).get("metrics") or {}, opt)
    if opt["is_train"]:
        told += _check_losses(opt)
        _check_optimizers(opt)
    return told


def _check_losses(opt: Options) -> list[str]:
    from basicsr.losses import build_loss
    from basicsr.utils.registry import LOSS_REGISTRY

    train, told = opt["train"], list[str]()
    sections = [name for name in NAMES["train:*_opt"] if train.get(name)]
    for name in sections:
        own = READ_BY_MODELS.get((opt["model_type"], name), ())
        arguments, where = {key: value for key, value in train[name].items() if key not in own}, f"train:{name}"
        section = dict(arguments)
        kind = arguments.pop("type")
        if kind not in LOSS_REGISTRY:
            raise UserError(f"{where}:type: {kind!r} is unknown{hint(kind, LOSS_REGISTRY.keys())}.")
        check_arguments(arguments, LOSS_REGISTRY.get(kind), where)
        try:
            loss = build_loss(section)
        except (*OF_WEIGHTS, *FAULTS) as error:
            if isinstance(error, OF_WEIGHTS) and not isinstance(error, NotImplementedError):
                raise _without_vgg(where, arguments, error) from error
            raise UserError(f"{where}: {kind} cannot be built: {first_line(error)}") from error
        told += try_loss(loss, kind, where, (opt.get("network_d") or {}).get("type") in SEVERAL_SCALES)
    from basicsr.models.sr_model import SRModel
    from basicsr.utils.registry import MODEL_REGISTRY

    model = MODEL_REGISTRY.get(opt["model_type"])
    if opt["model_type"] in LOSSES_OF["gan_opt"]:
        for part in ("train:gan_opt", "network_d", "train:optim_d"):
            if not (opt if part == "network_d" else train).get(part.rpartition(":")[2]):
                raise UserError(f"the option {part} is missing, which {opt['model_type']} needs.")
    if not issubclass(model, SRModel):
        return told
    if opt["model_type"] in GAN_MODELS:
        return told
    if not any(train.get(name) for name in sections if name not in NO_TEACHERS):
        raise UserError("train: no loss is given; add pixel_opt, as the files in options/ have it.")
    return told


def _without_vgg(where: str, arguments: Options, error: BaseException) -> UserError:
    from basicsr.archs.vgg_arch import VGG_PRETRAIN_PATH

    name = os.path.basename(VGG_PRETRAIN_PATH)
    return UserError(
        f"{where}: the weights of {arguments.get('vgg_type', 'vgg19')} cannot be loaded ({first_line(error)}); put "
        f"{name} of torchvision into {os.path.dirname(VGG_PRETRAIN_PATH)}/, or remove {where.rpartition(':')[2]}."
    )


def _check_optimizers(opt: Options) -> None:
    """Build the optimizers on one number, as the model would, and the schedule on them."""
    from basicsr.models.base_model import BaseModel
    from basicsr.utils.registry import MODEL_REGISTRY

    model = MODEL_REGISTRY.get(opt["model_type"])
    train = opt["train"]
    optimizers = []
    for name in NAMES["train:optim_*"]:
        if not train.get(name) or (name == "optim_d" and "network_d" not in opt):
            continue
        arguments, where = dict(train[name]), f"train:{name}"
        kind = arguments.pop("type")
        if issubclass(getattr(torch.optim, kind, type), torch.optim.Optimizer):
            check_arguments(arguments, getattr(torch.optim, kind), where, ("params",))
        try:
            parameter = torch.nn.Parameter(torch.zeros(1))
            get_optimizer = getattr(model, "get_optimizer", BaseModel.get_optimizer)
            optimizers.append(get_optimizer(SimpleNamespace(opt=opt), kind, [parameter], **arguments))
            if opt["num_gpu"] == 0:  # some arguments are for GPUs, where this one is not
                _try_step(get_optimizer(SimpleNamespace(opt=opt), kind, [parameter], **arguments), parameter)
        except NotImplementedError as error:
            known = [
                n for n, c in vars(torch.optim).items() if inspect.isclass(c) and n not in ("Optimizer", "lr_scheduler")
            ]
            close = meant(str(kind), known)
            advice = f"did you mean {close!r}" if close and close != kind else "Adam is known to every model"
            raise UserError(f"{where}:type: {kind!r} is unknown to {opt['model_type']}; {advice}.") from error
        except FAULTS as error:
            raise UserError(f"{where}: {kind} cannot be used: {first_line(error).rstrip('.')}.") from error
    _check_schedule(opt, optimizers)


def _try_step(optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter) -> None:
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()


def _check_schedule(opt: Options, optimizers: list[Any]) -> None:
    from basicsr.models import lr_scheduler
    from basicsr.models.base_model import BaseModel

    where, schedule = "train:scheduler", dict(opt["train"]["scheduler"])
    kind = schedule.pop("type")
    classes = {"MultiStepLR": lr_scheduler.MultiStepRestartLR, "MultiStepRestartLR": lr_scheduler.MultiStepRestartLR}
    classes["CosineAnnealingRestartLR"] = lr_scheduler.CosineAnnealingRestartLR
    if kind in classes:
        check_arguments(schedule, classes[kind], where, ("optimizer", "last_epoch"), kind)
    stand_in = SimpleNamespace(opt={"train": deepcopy(opt["train"])}, optimizers=optimizers, schedulers=[])
    try:
        BaseModel.setup_schedulers(stand_in)
    except NotImplementedError as error:
        raise UserError(f"{where}:type: {kind!r} is unknown{hint(str(kind), classes)}.") from error
    except FAULTS as error:
        raise UserError(f"{where}: {kind} cannot be built: {first_line(error)}") from error


def _check_metrics(metrics: Options, opt: Options) -> list[str]:
    from basicsr.utils.registry import METRIC_REGISTRY

    from esc_arch.metrics import load_metric
    from esc_arch.metrics.pyiqa_metric import FOLDER_METRICS, OF_FOLDERS

    told = []
    for name, section in metrics.items():
        where, kind = f"val:metrics:{name}", section["type"]
        if kind not in METRIC_REGISTRY:
            raise UserError(f"{where}:type: {kind!r} is unknown{hint(str(kind), METRIC_REGISTRY.keys())}.")
        arguments = {key: value for key, value in section.items() if key not in OF_EVERY_METRIC}
        lower = kind == "calculate_niqe"
        if kind == "calculate_pyiqa":
            if "metric" not in section:
                raise UserError(f"val: metrics: {name} has no option metric; add the name of a metric of pyiqa.")
            if section["metric"] in FOLDER_METRICS:
                raise UserError(f"{where}: metric {section['metric']} {OF_FOLDERS}")
            lower = bool(load_metric(section["metric"], section.get("device", "cpu")).lower_better)  # with its weights
        known = [key for key in SECTIONS["val:metrics:*"] if key not in OF_EVERY_METRIC]
        check_arguments(arguments, METRIC_REGISTRY.get(kind), where, GIVEN_TO_METRICS)
        for key in arguments:
            if key not in inspect.signature(METRIC_REGISTRY.get(kind)).parameters:
                close = meant(key, known)
                advice = f" (did you mean {close!r}?)" if close and close != key else ""
                told.append(f"{where}:{key} is not read by {kind}{advice}.")
        if section.get("crop_border", 0) is None and opt["model_type"] != "ESCLTEModel":
            raise UserError(f"{where}:crop_border is empty, but must be a whole number of at least 0.")
        better = section.get("better", "higher")
        if lower != (better == "lower") and (lower or kind in ("calculate_psnr", "calculate_ssim")):
            right = "lower" if lower else "higher"
            told.append(
                f"{where}:better is {better}, but a {right} value is better; the best figure will be the worst."
            )
    return told


def needs_gt(section: Options) -> bool:
    """Tell whether a metric of an option file compares with GT."""
    from basicsr.utils.registry import METRIC_REGISTRY

    from esc_arch.metrics.pyiqa_metric import load_metric
    from esc_arch.metrics.pyiqa_metric import needs_gt as pyiqa_needs_gt

    if section["type"] == "calculate_pyiqa":
        return pyiqa_needs_gt(load_metric(section["metric"], section.get("device", "cpu")))
    parameter = inspect.signature(METRIC_REGISTRY.get(section["type"])).parameters.get("img2")
    return parameter is not None and parameter.default is parameter.empty
