"""Checks an option file against the networks, checkpoints and data it names, before training or testing starts.

BasicSR would find these mistakes too, but late, and with a stack trace from inside a worker process.
"""

from __future__ import annotations

import math
import os
import warnings
from typing import Any

import numpy as np
from torch import nn

from esc_arch.archs import ESCLTE
from esc_arch.archs.scale import SCALE_ARGUMENTS
from esc_arch.checks.agreement import check_agreement
from esc_arch.checks.batches import check_batches
from esc_arch.checks.checkpoints import check_pretrained
from esc_arch.checks.data import Checked, check_dataset
from esc_arch.checks.decoding import one_thread
from esc_arch.checks.lmdb import show
from esc_arch.checks.names import check_registered
from esc_arch.checks.networks import build_checked, check_takes
from esc_arch.checks.parts import check_parts, needs_gt
from esc_arch.checks.table import DEGRADING_MODELS, NAMES
from esc_arch.checks.values import read_values
from esc_arch.common.errors import UserError, first_line
from esc_arch.layers.attention import WindowAttention
from esc_arch.layers.flash_bias import FROM_SCRATCH, FlashBiasAttention

Options = dict[str, Any]

UNTRAINED = (
    "path:pretrain_network_g names no checkpoint, so the results are those of an untrained network and mean nothing."
)
CHANNEL_ARGUMENTS = ("num_in_ch", "in_channels", "in_chans", "in_ch", "n_colors", "num_channels")
RGB = 3  # channels
ANY_WINDOW = 96  # pixels of a side that most windows divide
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
    from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, MODEL_REGISTRY

    opt, told = read_values(opt, opt["is_train"])
    if not opt["is_train"] and "train" in opt["datasets"]:
        raise UserError("datasets:train: patches are no pictures to test on; remove it, or call it test_1.")
    if not opt["datasets"]:
        raise UserError("datasets holds nothing to test; add a data set called test_1, as the files in options/ do.")
    if not opt["is_train"] and not (opt["val"].get("metrics") or opt["val"]["save_img"]):
        told.append("val: nothing is compared and nothing saved; give metrics, or set save_img to true.")
    check_registered(opt["model_type"], MODEL_REGISTRY, "model_type")
    for key in [key for key in opt if key in NAMES["network_*"]]:
        check_registered(opt[key].get("type"), ARCH_REGISTRY, f"{key}:type")
    for phase, dataset in opt["datasets"].items():
        check_registered(dataset["type"], DATASET_REGISTRY, f"datasets:{phase}:type")
    check_batches(opt)
    told += check_agreement(opt)
    _check_model_options(opt)
    told += check_parts(opt)
    networks = {key: build_checked(opt[key], key) for key in opt if key in NAMES["network_*"]}
    _check_scale(opt, networks["network_g"])
    told += [note for key, network in networks.items() for note in _without_effect(key, opt[key], network)]
    if not _resumes(opt):
        for key, network in networks.items():
            converted = check_pretrained(opt["path"], key, network)
            told += [] if opt["is_train"] else converted
            if key == "network_g" and not opt["is_train"] and not opt["path"].get(f"pretrain_{key}"):
                told += [UNTRAINED] if any(True for _ in network.parameters()) else []
            if opt["is_train"] and not opt["path"].get(f"pretrain_{key}"):
                _check_learns_positions(key, network)
    checked = {phase: check_dataset(data, f"datasets:{phase}", decode) for phase, data in opt["datasets"].items()}
    if opt["is_train"]:
        _check_patches(opt, networks, checked["train"])
    else:
        _check_enlarges(opt, networks["network_g"])
    for phase, found in checked.items():
        told += found.notes
        if phase != "train":
            _check_channels(opt, networks["network_g"], phase, found.channels)
            _check_metrics_on(opt, phase, found)
            _check_whole_images(opt, networks["network_g"], phase, found)
    return told


def _without_effect(key: str, section: Options, network: nn.Module) -> list[str]:
    """Tell of a rank for a network with a table of positions, where FlashBias may be meant."""
    if section.get("flashbias_rank") is None or not any(
        type(module) is WindowAttention for module in network.modules()
    ):
        return []
    return [f"{key}:flashbias_rank has no effect on a table of positions (is attn_type: FlashBias meant?)."]


def _check_learns_positions(key: str, network: nn.Module) -> None:
    if any(isinstance(module, FlashBiasAttention) for module in network.modules()):
        raise UserError(f"{key}: {FROM_SCRATCH}, which path:pretrain_{key} names.")


def _check_patches(opt: Options, networks: dict[str, nn.Module], found: Checked) -> None:
    """Check that the networks take the patches of a training, and that results are as large as GT."""
    from basicsr.models.sr_model import SRModel
    from basicsr.utils.registry import MODEL_REGISTRY

    lq, gt, scale = found.lq, found.gt, opt.get("scale")
    if opt["model_type"] in DEGRADING_MODELS and opt.get("high_order_degradation", True):
        gt = opt["gt_size"], opt["gt_size"]
        lq = gt[0] // opt["scale"], gt[1] // opt["scale"]
    if lq is None or gt is None or not issubclass(MODEL_REGISTRY.get(opt["model_type"]), SRModel):
        return
    channels = found.channels
    made = check_takes(networks["network_g"].train(), opt["network_g"], lq, "network_g", "LQ patches", channels)
    if made is not None and made[0] != channels:
        raise UserError(
            f"network_g: {opt['network_g']['type']} makes {made[0]} channels of LQ patches, but those of GT have "
            f"{channels}; make datasets:train:color and the arguments of the network agree."
        )
    if made is not None and made[1:] != gt:
        raise UserError(
            f"network_g: {opt['network_g']['type']} makes {show(made[1:])} pixels of an LQ patch of {show(lq)}, but GT "
            f"has {show(gt)}; make scale ({scale}) and the arguments of the network agree."
        )
    if "network_d" in networks:
        check_takes(networks["network_d"].train(), opt["network_d"], gt, "network_d", "GT patches", channels)


def _check_enlarges(opt: Options, network: nn.Module) -> None:
    """Check that a network enlarges as much as the options of a test say, whatever its argument for that is called."""
    from basicsr.models.sr_model import SRModel
    from basicsr.utils.registry import MODEL_REGISTRY

    scale, section = opt.get("scale"), opt["network_g"]
    model = MODEL_REGISTRY.get(opt["model_type"])
    if not isinstance(scale, int) or not issubclass(model, SRModel) or isinstance(network, ESCLTE):
        return
    channels = next((section[name] for name in CHANNEL_ARGUMENTS if name in section), RGB)
    size = ANY_WINDOW, ANY_WINDOW
    try:
        made = check_takes(network.eval(), section, size, "network_g", "an image", channels)
    except UserError:  # of clips, or of something else that is no image of this size
        return
    if made is not None and made[1:] != (scale * ANY_WINDOW, scale * ANY_WINDOW):
        raise UserError(
            f"network_g: {section['type']} makes {show(made[1:])} pixels of an image of {show(size)}; make scale "
            f"({scale}) and the arguments of the network agree."
        )


def _check_channels(opt: Options, network: nn.Module, phase: str, channels: int) -> None:
    """Check that the network takes images with the channels of a data set, where one of the two is of one channel."""
    from basicsr.models.sr_model import SRModel
    from basicsr.utils.registry import MODEL_REGISTRY

    section = opt["network_g"]
    is_unusual = channels != RGB or any(section.get(name, RGB) != RGB for name in CHANNEL_ARGUMENTS)
    if not is_unusual or not issubclass(MODEL_REGISTRY.get(opt["model_type"]), SRModel):
        return

    def takes(number: int) -> bool:
        try:
            check_takes(network.eval(), section, (ANY_WINDOW, ANY_WINDOW), "network_g", "an image", number)
        except UserError:
            return False
        return True

    other = RGB if channels == 1 else 1
    if not takes(channels) and takes(other):
        raise UserError(
            f"network_g: {section['type']} takes images of {other} channel{'s' if other > 1 else ''}, but those of "
            f"datasets:{phase} have {channels}; make datasets:{phase}:color and the arguments of the network agree."
        )


def _check_whole_images(opt: Options, network: nn.Module, phase: str, found: Checked) -> None:
    """Check that the network takes images of any size where the model does not pad them to whole windows."""
    from basicsr.models.sr_model import SRModel
    from basicsr.utils.registry import MODEL_REGISTRY

    model, scale = MODEL_REGISTRY.get(opt["model_type"]), opt.get("scale")
    if getattr(model, "test", None) is not SRModel.test or not isinstance(scale, int):
        return
    for height, width in found.results:
        size = height // scale, width // scale
        try:
            check_takes(
                network.eval(), opt["network_g"], size, "network_g", f"an image of datasets:{phase}", found.channels
            )
        except UserError as error:
            raise UserError(
                f"{str(error).rpartition(';')[0]}; model_type ESCModel pads images to what it takes."
            ) from error


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
            _try_metric(section, (*size, found.channels), opt["datasets"][phase], where, phase)


def _try_metric(section: Options, kind: tuple[int, int, int], dataset: Options, where: str, phase: str) -> None:
    """Let a metric compare noise of a height, a width and channels."""
    if section.get("crop_border", 0) is None:  # ESCLTEModel fills it in
        section = {**section, "crop_border": math.ceil(dataset["scale"])}
    *size, channels = kind
    reason = _why_no_figure(section, size, channels)
    if reason:
        is_size = min(size) < LARGE_ENOUGH and not _why_no_figure(section, [LARGE_ENOUGH] * 2, channels)
        cause = f" on the smallest results of datasets:{phase}, {size[1]}x{size[0]} pixels" if is_size else ""
        advice = "remove the metric, or the smallest images" if is_size else "correct its arguments, or remove it"
        raise UserError(f"{where}: {section['type']} fails{cause} ({reason}); {advice}.")


def _why_no_figure(section: Options, size: list[int], channels: int) -> str:
    """Say what keeps a metric from comparing images, or nothing."""
    from basicsr.metrics import calculate_metric

    shape = tuple(min(side, LARGE_ENOUGH) for side in size) + ((RGB,) if channels == RGB else ())  # as tensor2img
    noise = np.random.default_rng(0)
    data = {name: noise.integers(0, 256, shape, np.uint8) for name in ("img", "img2")}
    try:
        with one_thread(), np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of NumPy, about what comes out as no number
            figure = calculate_metric(data, section)
    except UserError:
        raise
    except Exception as error:  # whatever a metric makes of too few pixels
        return first_line(error)
    return "" if math.isfinite(figure) else "the figure is no number"


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
