"""All metrics of pyiqa (LPIPS, DISTS, MUSIQ, MANIQA, CLIPIQA and dozens more) as one metric of BasicSR."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from basicsr.utils.registry import METRIC_REGISTRY

from esc_arch.common.errors import UserError
from esc_arch.common.torchvision_operators import define_torchvision_operators

# Those that score all images of a folder together, with whether they compare with GT
FOLDER_METRICS = {"fid": True, "sfid": True, "fid_dinov2": True, "inception_score": False}
OF_FOLDERS = (
    "scores all images of a set together, not one after the other; take it out of val:metrics and give it to python -m "
    "esc_arch.compare --metrics, or call esc_arch.metrics.score_folder."
)
WITH_TEXT = ("clipscore",)  # which compare an image with a caption
Pixels = np.ndarray[Any, Any]


@METRIC_REGISTRY.register()
def calculate_pyiqa(
    img: Pixels, img2: Pixels | None = None, *, metric: str, crop_border: int = 0, device: str = "cpu", **_other: Any
) -> float:
    """Score an image by a metric of pyiqa, as `type: calculate_pyiqa` with `metric: lpips` in an option file.

    Args:
        img: (H, W, 3), BGR in [0, 255], as BasicSR hands it over.
        img2: GT, likewise; not needed by metrics without reference.
        metric: the name in pyiqa.
        crop_border: pixels to cut off on every side.
        device: where to compute.
        _other: what else BasicSR's options of a metric hold.

    Returns:
        the score.

    Raises:
        UserError: the metric cannot be used, needs the GT that is missing, or scores a whole folder (`score_folder`).
    """
    if metric in FOLDER_METRICS:
        raise UserError(f"metric {metric} {OF_FOLDERS}")
    model = load_metric(metric, device)
    images = [_to_tensor(img, crop_border)]
    if needs_gt(model):
        if img2 is None:
            raise UserError(f"metric {metric} compares with GT, and there is none; choose one without reference.")
        images.append(_to_tensor(img2, crop_border))
    with torch.no_grad():
        return float(model(*images))


@functools.cache
def load_metric(name: str, device: str = "cpu") -> Any:
    """Load a metric of pyiqa, which downloads the weights that it needs the first time.

    Args:
        name: the name in pyiqa.
        device: where to compute.

    Raises:
        UserError: pyiqa is not installed, does not know the metric, or cannot get its weights.
    """
    define_torchvision_operators()
    try:
        import pyiqa
    except ImportError as error:
        raise UserError(
            f"metric {name} needs pyiqa ({error}); pip install 'esc_arch[metrics]', or leave the metric out."
        ) from error
    known = [known for known in pyiqa.list_models() if known not in WITH_TEXT]
    if name not in known:
        raise UserError(f"metric {name} is unknown to pyiqa, or not of images; choose from {', '.join(known)}.")
    try:
        torch.empty(1, device=device)
    except Exception as error:  # of the name, or the driver
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"metric {name}: its device {device} cannot be used ({reason}); leave device out.") from error
    try:
        return pyiqa.create_metric(name, device=torch.device(device))
    except Exception as error:  # whatever the downloads of a dozen hosts raise
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"metric {name}: its weights cannot be fetched ({type(error).__name__}: {reason}); run this once with a "
            "connection to the internet, or leave the metric out."
        ) from error


def needs_gt(model: Any) -> bool:
    """Tell whether a metric of pyiqa compares with GT."""
    return model.metric_mode == "FR"


def _to_tensor(img: Pixels, border: int) -> torch.Tensor:
    """Make (1, 3, H, W), RGB in [0, 1], of (H, W, 3), BGR in [0, 255]."""
    if border:
        img = img[border:-border, border:-border]
    rgb = np.ascontiguousarray(img[..., ::-1].transpose(2, 0, 1), dtype=np.float32)
    return torch.from_numpy(rgb)[None] / 255
