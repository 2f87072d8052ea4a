"""Metrics of pyiqa that score all images of a folder together, most of them against those of another: FID."""

from __future__ import annotations

import os
from typing import Any

import torch

from esc_arch.common.errors import UserError
from esc_arch.metrics.pyiqa_metric import FOLDER_METRICS, load_metric

FEWEST = 2  # images, of which a covariance is made


def score_folder(metric: str, results: str, gt: str | None = None, device: str = "cpu") -> float:
    """Score a folder of images by a metric of pyiqa, such as the Frechet Inception Distance (FID).

    FID (Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", 2017) fits
    a normal distribution to the features of each folder, and is their distance; of few images it means little. Names
    and numbers of images need not agree. pyiqa resizes as clean-fid does.

    Args:
        metric: `fid`, `sfid`, `fid_dinov2` or `inception_score` (its mean).
        results: folder of images, searched with all that is below.
        gt: folder of GT, likewise; not needed by `inception_score`.
        device: where to compute.

    Raises:
        UserError: the metric cannot be used, a folder is missing, or holds fewer than two images.
    """
    if metric not in FOLDER_METRICS:
        raise UserError(f"metric {metric} scores single images; of folders are {', '.join(FOLDER_METRICS)}.")
    if FOLDER_METRICS[metric] and gt is None:
        raise UserError(f"metric {metric} compares with GT, and there is none; name a folder of it.")
    model = load_metric(metric, device)
    folders = [results, gt] if gt is not None and FOLDER_METRICS[metric] else [results]
    for folder in folders:
        _check_number(metric, folder)
    try:
        with torch.no_grad():
            score = model(*folders, num_workers=0, verbose=False)
    except (ValueError, RuntimeError, OSError, TypeError) as error:  # the last, where its SciPy is too new
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"metric {metric} of {results}: pyiqa cannot compute it ({reason}).") from error
    return float(score["inception_score_mean"] if isinstance(score, dict) else score)


def _check_number(metric: str, folder: str) -> None:
    from pyiqa.utils.img_util import scandir_images

    if not os.path.isdir(folder):
        raise UserError(f"metric {metric}: {folder} is no folder; it scores a folder of images.")
    images: list[Any] = scandir_images(folder)
    if len(images) < FEWEST:
        raise UserError(f"metric {metric}: {folder} holds {len(images)} images, but at least {FEWEST} are needed.")
