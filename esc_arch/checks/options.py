"""Checks an option file against the networks, checkpoints and data it names, before training or testing starts.

BasicSR would find these mistakes too, but late, and with a stack trace from inside a worker process.
"""

from __future__ import annotations

import difflib
import inspect
import os
import pickle
from collections.abc import Iterable
from typing import Any

from torch import nn

from esc_arch.checks.checkpoints import check_pretrained
from esc_arch.checks.data import check_dataset
from esc_arch.common.errors import UserError

Options = dict[str, Any]

REQUIRED = {
    True: (
        "name model_type datasets:train network_g path train:total_iter train:optim_g:type train:scheduler:type "
        "logger:print_freq logger:save_checkpoint_freq logger:use_tb_logger"
    ),
    False: "name model_type datasets network_g path val:save_img",
}
SCALE_ARGUMENTS = ("upscaling_factor", "upscale", "up_scale", "upsampling", "scale")  # of ESC and its peers
REQUIRED_OF_DEGRADATION = (
    "resize_prob resize_range gaussian_noise_prob noise_range poisson_scale_range gray_noise_prob jpeg_range "
    "second_blur_prob resize_prob2 resize_range2 gaussian_noise_prob2 noise_range2 poisson_scale_range2 "
    "gray_noise_prob2 jpeg_range2 gt_size scale"
)
REQUIRED_OF_DEGRADING_MODEL = {
    "RealESRNetModel": "gt_usm",
    "RealESRGANModel": "l1_gt_usm percep_gt_usm gan_gt_usm network_d train:gan_opt train:optim_d:type",
}
REQUIRED_OF_TRAINING_SET = "gt_size batch_size_per_gpu num_worker_per_gpu use_hflip use_rot"


def check_options(opt: Options) -> None:
    """Check parsed options.

    Args:
        opt: what BasicSR's `parse_options` returns; it is not changed.

    Raises:
        UserError: naming the option at fault and what to do.
    """
    from basicsr.utils.registry import MODEL_REGISTRY

    _require_options(opt, REQUIRED[opt["is_train"]].split())
    if opt["is_train"]:
        training_set = opt["datasets"]["train"]
        _require_options(training_set, REQUIRED_OF_TRAINING_SET.split(), "datasets:train:")
    if opt.get("val") is not None:
        _require_options(opt, ["val:save_img", *(["val:val_freq"] if opt["is_train"] else ["val:suffix"])])
    _check_name(opt["model_type"], MODEL_REGISTRY, "model_type")
    _check_model_options(opt)
    if opt["is_train"]:
        _check_degradation(opt)
    for phase, dataset in opt["datasets"].items():
        check_dataset(dataset, f"datasets:{phase}")
    resuming = _resumes(opt)
    for key in [key for key in opt if key.startswith("network_")]:
        network = build_checked(opt[key], key)
        if key == "network_g":
            _check_scale(opt, network)
        if not resuming:
            check_pretrained(opt["path"], key, network)
    if opt["is_train"] and opt["train"].get("perceptual_opt"):
        _check_perceptual_loss(opt["train"]["perceptual_opt"])


def build_checked(network_opt: Options, where: str) -> nn.Module:
    """Build a network from its section of the option file.

    Args:
        network_opt: `type` and the constructor arguments.
        where: name of the section, for messages.

    Returns:
        the network.

    Raises:
        UserError: the type is unknown, or an argument is unknown, missing or out of range.
    """
    from basicsr.utils.registry import ARCH_REGISTRY

    arguments = dict(network_opt)
    name = arguments.pop("type", None)
    _check_name(name, ARCH_REGISTRY, f"{where}:type")
    factory = ARCH_REGISTRY.get(name)
    parameters = inspect.signature(factory).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for argument in arguments:
        # a network that ignores unknown arguments would ignore a misspelt one too
        misspelt = difflib.get_close_matches(argument, parameters, n=1, cutoff=0.8) if takes_any else True
        if argument not in parameters and misspelt:
            raise UserError(f"{where}: {name} has no argument {argument!r}{_hint(argument, parameters)}.")
    empty = inspect.Parameter.empty
    for argument, parameter in parameters.items():
        positional = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if positional and parameter.default is empty and argument not in arguments:
            raise UserError(f"{where}: the argument {argument!r} of {name} is missing.")
    try:
        return factory(**arguments)
    except (ValueError, TypeError, AssertionError, ArithmeticError, RuntimeError, ImportError, LookupError) as error:
        raise UserError(f"{where}: {name} cannot be built: {_first_line(error)}") from error


def _check_model_options(opt: Options) -> None:
    from basicsr.utils.registry import MODEL_REGISTRY

    from esc_arch.metrics import load_metric
    from esc_arch.models.esc_model import ESCModel, amp_dtype

    model = MODEL_REGISTRY.get(opt["model_type"])
    try:
        dtype = amp_dtype(opt)
    except ValueError as error:
        raise UserError(f"amp: {error}.") from error
    if (dtype is not None or opt.get("compile")) and not issubclass(model, ESCModel):
        raise UserError(f"amp and compile are options of model_type ESCModel, not of {opt['model_type']}.")
    for name, metric in ((opt.get("val") or {}).get("metrics") or {}).items():
        if metric.get("type") == "calculate_pyiqa":
            if "metric" not in metric:
                raise UserError(f"val: metrics: {name} has no option metric; add the name of a metric of pyiqa.")
            load_metric(metric["metric"])  # with its weights, which are hours away from the first validation


def _check_degradation(opt: Options) -> None:
    """Check what the models of Real-ESRGAN read while they train."""
    model = opt["model_type"]
    if model not in REQUIRED_OF_DEGRADING_MODEL or not opt.get("high_order_degradation", True):
        return
    _require_options(opt, [*REQUIRED_OF_DEGRADING_MODEL[model].split(), *REQUIRED_OF_DEGRADATION.split()])
    pool, batch = opt.get("queue_size", 180), opt["datasets"]["train"]["batch_size_per_gpu"]
    if pool % batch:
        raise UserError(f"queue_size {pool} must be a multiple of batch_size_per_gpu {batch}; change one of them.")
    if 400 % opt["scale"]:  # the side of the images that RealESRGANDataset makes
        raise UserError(
            f"scale: {model} cuts GT to 400 pixels, which scale {opt['scale']} does not divide; use 1, 2 or 4."
        )


def _check_perceptual_loss(loss: Options) -> None:
    """Build the perceptual loss, whose weights torchvision downloads unless they are there."""
    from basicsr.archs.vgg_arch import VGG_PRETRAIN_PATH
    from basicsr.losses import build_loss

    try:
        build_loss(loss)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:  # URLError is an OSError
        name = os.path.basename(VGG_PRETRAIN_PATH)
        raise UserError(
            f"train:perceptual_opt: the weights of {loss.get('vgg_type', 'vgg19')} cannot be loaded "
            f"({_first_line(error)}); put {name} of torchvision into {os.path.dirname(VGG_PRETRAIN_PATH)}/, or remove "
            "perceptual_opt."
        ) from error


def _check_scale(opt: Options, network: nn.Module) -> None:
    scale = opt.get("scale")
    given = {name: opt["network_g"][name] for name in SCALE_ARGUMENTS if name in opt["network_g"]}
    given = given or {"upscaling_factor": getattr(network, "upscaling_factor", None)}
    for name, factor in given.items():
        if factor is not None and scale is not None and factor != scale:
            raise UserError(f"scale is {scale} but network_g:{name} is {factor}; make them equal.")


def _resumes(opt: Options) -> bool:
    """Tell whether BasicSR will ignore the pretrained networks because it resumes."""
    if opt["path"].get("resume_state"):
        return True
    folder = opt["path"].get("training_states", "")
    return bool(opt["auto_resume"] and os.path.isdir(folder) and any(n.endswith(".state") for n in os.listdir(folder)))


def _require_options(opt: Options, names: Iterable[str], prefix: str = "") -> None:
    for name in names:
        section: Any = opt
        for key in name.split(":"):
            if not isinstance(section, dict) or key not in section:
                raise UserError(f"the option {prefix}{name} is missing; see the files in options/ for an example.")
            section = section[key]


def _check_name(name: Any, registry: Any, where: str) -> None:
    if name not in registry and f"{name}_basicsr" not in registry:
        raise UserError(f"{where}: {name!r} is unknown{_hint(str(name), registry.keys())}.")


def _hint(name: str, choices: Iterable[str]) -> str:
    lowered = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.5)
    return (
        f"; did you mean {lowered[close[0]]!r}" if close else f"; choose one of {', '.join(sorted(lowered.values()))}"
    )


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
