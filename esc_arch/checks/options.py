"""Checks an option file against the networks, checkpoints and data it names, before training or testing starts.

BasicSR would find these mistakes too, but late, and with a stack trace from inside a worker process.
"""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
from torch import nn

from esc_arch.checks.agreement import check_agreement
from esc_arch.checks.checkpoints import check_pretrained
from esc_arch.checks.data import Checked, check_dataset
from esc_arch.checks.decoding import Size, one_thread
from esc_arch.checks.names import check_registered
from esc_arch.checks.parts import check_arguments, check_parts, first_line, needs_gt
from esc_arch.checks.table import NAMES
from esc_arch.checks.values import read_values
from esc_arch.common.errors import UserError

Options = dict[str, Any]

SCALE_ARGUMENTS = ("upscaling_factor", "upscale", "up_scale", "upsampling", "scale")  # of ESC and its peers
LARGE_ENOUGH = 256  # pixels of a side that every metric can do with


def check_options(opt: Options, decode: bool = True) -> list[str]:
    """Check parsed options.

    Args:
        opt: what BasicSR's `parse_options` returns; it is not changed.
        decode: decode all images of the data sets.

    Returns:
        sentences about what is allowed, but hardly meant or without effect.

    Raises:
        UserError: naming the option at fault and what to do.
    """
    from basicsr.utils.registry import MODEL_REGISTRY

    opt, told = read_values(opt, opt["is_train"])
    if not opt["is_train"] and "train" in opt["datasets"]:
        raise UserError("datasets:train: patches are no pictures to test on; remove it, or call it test_1.")
    check_registered(opt["model_type"], MODEL_REGISTRY, "model_type")
    for key in [key for key in opt if key in NAMES["network_*"]]:
        check_registered(opt[key].get("type"), _networks(), f"{key}:type")
    told += check_agreement(opt)
    _check_model_options(opt)
    told += check_parts(opt)
    for key in [key for key in opt if key in NAMES["network_*"]]:
        network = build_checked(opt[key], key)
        if key == "network_g":
            _check_scale(opt, network)
        if not _resumes(opt):
            check_pretrained(opt["path"], key, network)
    checked = {phase: check_dataset(data, f"datasets:{phase}", decode) for phase, data in opt["datasets"].items()}
    for phase, found in checked.items():
        if phase != "train":
            _check_metrics_on(opt, phase, found)
    return told


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
    arguments = dict(network_opt)
    name = arguments.pop("type", None)
    check_registered(name, _networks(), f"{where}:type")
    factory = _networks().get(name)
    check_arguments(arguments, factory, where, takes=str(name))
    try:
        return factory(**arguments)
    except (ValueError, TypeError, AssertionError, ArithmeticError, RuntimeError, ImportError, LookupError) as error:
        raise UserError(f"{where}: {name} cannot be built: {first_line(error)}") from error


def _networks() -> Any:
    from basicsr.utils.registry import ARCH_REGISTRY

    return ARCH_REGISTRY


def _check_metrics_on(opt: Options, phase: str, found: Checked) -> None:
    """Check that the metrics can compare what there is: with GT, and with enough pixels."""
    for name, section in ((opt.get("val") or {}).get("metrics") or {}).items():
        where = f"val:metrics:{name}"
        if not found.has_gt and needs_gt(section):
            raise UserError(
                f"{where}: {section['type']} compares with GT, which datasets:{phase} does not have; remove the "
                "metric or the data set, or choose a metric without reference such as calculate_niqe."
            )
        for size in found.results:
            _try_metric(section, size, opt["datasets"][phase], where, phase)


def _try_metric(section: Options, size: Size, dataset: Options, where: str, phase: str) -> None:
    """Let a metric compare noise of a size."""
    from basicsr.metrics import calculate_metric

    if section.get("crop_border", 0) is None:  # ESCLTEModel fills it in
        section = {**section, "crop_border": math.ceil(dataset["scale"])}
    shape = (*(min(side, LARGE_ENOUGH) for side in size), 3)
    noise = np.random.default_rng(0)
    data = {name: noise.integers(0, 256, shape, np.uint8) for name in ("img", "img2")}
    reason = "the figure is no number"
    try:
        with one_thread(), np.errstate(all="ignore"):
            figure = calculate_metric(data, section)
    except UserError:
        raise
    except Exception as error:  # whatever a metric makes of too few pixels
        figure, reason = math.nan, first_line(error)
    if not math.isfinite(figure):
        large = min(size) >= LARGE_ENOUGH
        cause = "" if large else f" on the smallest results of datasets:{phase}, {size[1]}x{size[0]} pixels"
        advice = "correct its arguments" if large else "remove the metric, or the smallest images"
        raise UserError(f"{where}: {section['type']} fails{cause} ({reason}); {advice}.")


def _check_model_options(opt: Options) -> None:
    from basicsr.utils.registry import MODEL_REGISTRY

    from esc_arch.models.esc_model import ESCModel

    model = MODEL_REGISTRY.get(opt["model_type"])
    if (opt.get("amp") or opt.get("compile")) and not issubclass(model, ESCModel):
        raise UserError(f"amp and compile are options of model_type ESCModel, not of {opt['model_type']}.")
    if hasattr(model, "check"):
        try:
            model.check(opt)
        except ValueError as error:
            raise UserError(f"{error}.") from error


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
