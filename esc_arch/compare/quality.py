"""Scores a network on a data set with BasicSR's models, data sets and metrics."""

from __future__ import annotations

from contextlib import nullcontext
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from esc_arch.archs.merging import merge_branches
from esc_arch.checks.checkpoints import load_exactly
from esc_arch.checks.data import check_dataset
from esc_arch.checks.options import build_checked
from esc_arch.common.errors import UserError
from esc_arch.compare.job import Job
from esc_arch.compare.kept_images import keeping
from esc_arch.compare.options import Row
from esc_arch.weights.files import read_recorded
from esc_arch.weights.recorded import differing

Options = dict[str, Any]


def score(job: Job, name: str) -> dict[str, Any]:
    """Run BasicSR's validation.

    Args:
        job: the network and how to run it; the dtype counts, torch.compile does not. Its album of this data set, if
            there is one, is filled.
        name: one of the data sets of the row.

    Returns:
        `psnr` in dB and `ssim`, both of the Y channel, and the further metrics of the row, averaged over the images,
        and their number `images`. Where there is no GT, what needs none. `remark` where the network has other arguments
        than it was trained with.

    Raises:
        UserError: the data set, the checkpoint, the model type or a metric cannot be used.
    """
    from basicsr.data import build_dataloader, build_dataset
    from basicsr.models import build_model
    from basicsr.utils.registry import MODEL_REGISTRY

    from esc_arch.metrics import score_folder

    row, dataset = job.row, dict(job.row.sets[name])
    has_gt = dataset.get("dataroot_gt") is not None
    metrics, of_folders = _metrics(job, has_gt), _folder_metrics(job, has_gt)
    if not metrics and not of_folders:
        raise UserError(f"{row.file}: datasets: {name} has no dataroot_gt, so there is nothing to compare with.")
    check_dataset(dataset, f"{row.file}: datasets: {name}")
    remark = trained_otherwise(row, with_weights(row))
    opt = _options(job, dataset, metrics)
    if opt["model_type"] not in MODEL_REGISTRY:
        raise UserError(f"{row.file}: model_type {opt['model_type']!r} is unknown.")
    torch.manual_seed(0)
    model = build_model(opt)
    merge_branches(model.get_bare_model(model.net_g))
    album = job.albums.get(name)
    loader = build_dataloader(build_dataset(dataset), dataset, num_gpu=0, dist=False, sampler=None, seed=0)
    try:
        with keeping(model) if of_folders else nullcontext(("", "")) as (results, gt):
            with job.autocast(), album.filled_by(model) if album else nullcontext():
                model.validation(loader, current_iter=0, tb_logger=None, save_img=False)
            together = {
                name: score_folder(name, results, gt if has_gt else None, job.protocol.device) for name in of_folders
            }
    except AssertionError as error:
        if not str(error).startswith("Image shapes are different"):
            raise
        raise UserError(
            f"{row.file}: scale is {row.scale}, but the network enlarges by another factor; make scale and the "
            "arguments of network_g agree."
        ) from error
    single = {metric: float(value) for metric, value in model.metric_results.items()}
    return {**single, **together, "images": len(loader), **({"remark": remark} if remark else {})}


def trained_otherwise(row: Row, network: nn.Module) -> str:
    """Say in what the network of a row differs from the one that its checkpoint was trained with, or nothing."""
    if row.weights is None:
        return ""
    names = network.state_dict().keys()
    others = differing(read_recorded(row.weights, entry=row.param_key, names=names)[1], network)
    return f"trained with {', '.join(others)}" if others else ""


def _metrics(job: Job, has_gt: bool) -> Options:
    """Write the section `metrics`: PSNR and SSIM cropped as the option file says, the others of whole images."""
    from esc_arch.metrics.pyiqa_metric import FOLDER_METRICS, load_metric, needs_gt

    row = job.row
    own = (row.content.get("val") or {}).get("metrics") or {}
    crops = [metric["crop_border"] for metric in own.values() if metric.get("crop_border") is not None]
    common = {"crop_border": crops[0] if crops else row.scale, "test_y_channel": True}
    metrics: Options = {}
    if has_gt:
        metrics["psnr"] = {"type": "calculate_psnr", **common}
        metrics["ssim"] = {"type": "calculate_ssim", **common}
    for name in row.metrics:
        if name in FOLDER_METRICS:
            continue
        if name == "niqe":  # BasicSR's comes with its parameters
            metrics[name] = {"type": "calculate_niqe", "crop_border": 0}
        elif has_gt or not needs_gt(load_metric(name, job.protocol.device)):
            metrics[name] = {"type": "calculate_pyiqa", "metric": name, "device": job.protocol.device}
    return metrics


def _folder_metrics(job: Job, has_gt: bool) -> list[str]:
    """Name the metrics of the row that score all images together, and see whether they can be had."""
    from esc_arch.metrics.pyiqa_metric import FOLDER_METRICS, load_metric

    names = [name for name in job.row.metrics if name in FOLDER_METRICS and (has_gt or not FOLDER_METRICS[name])]
    for name in names:
        load_metric(name, job.protocol.device)
    return names


def _options(job: Job, dataset: Options, metrics: Options) -> Options:
    """Complete an option file as BasicSR's `parse_options` does for testing, with the metrics of the comparison."""
    row = job.row
    opt = deepcopy(row.content)
    opt.setdefault("model_type", "SRModel")
    opt.update(
        name=str(opt.get("name", row.label)),
        scale=row.scale,
        num_gpu=1 if job.protocol.device == "cuda" else 0,
        is_train=False,
        auto_resume=False,
        dist=False,
        rank=0,
        world_size=1,
        datasets={"test": dataset},
        path={
            "pretrain_network_g": row.weights,
            "param_key_g": row.param_key,
            "strict_load_g": (opt.get("path") or {}).get("strict_load_g", True),
        },
        val={
            "save_img": False,
            "suffix": None,
            "metrics": metrics,
        },
    )
    return opt


def with_weights(row: Row) -> nn.Module:
    """Build the network of a row with its checkpoint, if it has one.

    Raises:
        UserError: the checkpoint is not of this network and scale, even where the network would convert it.
    """
    network = build_checked(row.network, f"{row.file}: network_g")
    if row.weights is None:
        return network
    strict = (row.content.get("path") or {}).get("strict_load_g", True)
    load_exactly(network, row.weights, row.param_key, row.file, row.scale, strict=strict)
    return network
