"""Prepares pairs to judge networks for photographs by: HR images, and LR made of them by the Real-ESRGAN degradation.

The degradation (Wang et al., "Real-ESRGAN", ICCV Workshops 2021, section 3) is drawn at random while training. Here
every image gets one of its own that depends on the seed and its name alone, so that networks are compared on the same.
"""

from __future__ import annotations

import functools
import hashlib
import math
import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from basicsr.data.realesrgan_dataset import RealESRGANDataset
from basicsr.models.realesrnet_model import RealESRNetModel
from basicsr.utils.diffjpeg import DiffJPEG
from basicsr.utils.img_process_util import USMSharp

from esc_arch.bridge import random_states
from esc_arch.checks.agreement import CROP, check_agreement
from esc_arch.checks.option_file import load
from esc_arch.checks.table import DEGRADING_MODELS
from esc_arch.checks.values import read_values
from esc_arch.common.ending import going_on_when_repeated
from esc_arch.common.errors import UserError, printable
from esc_arch.common.whole_files import sweep, try_folder
from esc_arch.prepare.alone import working_alone
from esc_arch.prepare.images import check_names, list_images, read_image, write_png
from esc_arch.prepare.parallel import faults_in_words, run_parallel

Options = dict[str, Any]
ROUNDING = 0.5  # levels, on average, that processors may differ by; another seed differs by several
SCALES = (1, 2, 4)  # which may share HR; 3 does not divide what is degraded


def prepare_degraded(
    folder: Path, name: str, output: Path, option_file: Path, seed: int = 0, workers: int | None = None
) -> None:
    """Make OUTPUT/NAME/HR/IMAGE.png and OUTPUT/NAME/LR_degraded/X{scale}/IMAGEx{scale}.png from HR images.

    HR is the middle of the image, of at most 400 pixels a side; LR is made by BasicSR, as in training. Files that are
    there already are verified, never overwritten.

    Args:
        folder: holds HR images directly in it.
        name: of the set, such as Set14.
        output: folder of the sets, made when missing.
        option_file: of a training on the Real-ESRGAN degradation, whose ranges and scale are taken.
        seed: of the degradations.
        workers: number of processes; None for one per CPU core.

    Raises:
        UserError: an argument or an input image is at fault, or the set holds something else already.
        OSError: reading or writing failed.
    """
    if Path(name).name != name:
        raise UserError(f"--name {name!r} must be a single folder name, such as Set14.")
    options = _read_options(option_file)
    paths, problems = list_images(Path(folder))
    faults = [f"{printable(str(path))} {problem}" for path, problem in problems.items()]
    good = [path for path in paths if path not in problems]
    check_names(good, [path.stem for path in good])
    if not good:
        raise faults_in_words(faults)
    root = Path(output) / name
    for place in (root / "HR", _lq_folder(root, options["scale"])):
        try_folder(str(place))
        sweep(place)
    make = functools.partial(_make, root=root, options=options, seed=seed)
    with working_alone(root), going_on_when_repeated():
        run_parallel(make, good, workers, name, faults)
    print(f"{root}: verified, {len(good)} images, HR and degraded LR x{options['scale']}")


def _read_options(file: Path) -> Options:
    """Read the option file of a training that degrades its images.

    Raises:
        UserError: it is none, or an option is at fault.
    """
    given = load(str(file))
    sections = given.get("datasets")
    training_set = sections.get("train") if isinstance(sections, dict) else None
    kind = training_set.get("type") if isinstance(training_set, dict) else None
    if given.get("model_type") not in DEGRADING_MODELS or kind != "RealESRGANDataset":
        raise UserError(
            f"{file} does not train on the Real-ESRGAN degradation: give an option file with model_type "
            f"{' or '.join(sorted(DEGRADING_MODELS))} and RealESRGANDataset, such as train_ESC_Real_x4_mse.yml."
        )
    options, _ = read_values({**given, "is_train": True, "num_gpu": 0}, is_train=True)
    check_agreement(options)
    return options


def _lq_folder(root: Path, scale: int) -> Path:
    return root / "LR_degraded" / f"X{scale}"


def _make(path: Path, root: Path, options: Options, seed: int) -> list[str]:
    notes: list[str] = []
    scale = options["scale"]
    image = _middle(read_image(path, notes), scale)
    if not image.size:
        raise UserError(f"{printable(str(path))} is too small for scale {scale}: remove it.")
    lq = degrade(image, options, f"{seed} {path.stem}")
    for target, pixels, tolerance in (
        (root / "HR" / f"{path.stem}.png", image, 0.0),
        (_lq_folder(root, scale) / f"{path.stem}x{scale}.png", lq, ROUNDING),
    ):
        if not target.exists():
            write_png(target, pixels)
        elif not _are_alike(read_image(target), pixels, tolerance):
            raise UserError(f"{target} was made of another image, seed or option file: move or delete it.")
    return notes


def _middle(image: np.ndarray, scale: int) -> np.ndarray:
    """Crop an image around its middle to sides that are degraded whole, and that all usual scales divide as well."""
    multiple = math.lcm(scale, *SCALES)
    height, width = (min(length, CROP) // multiple * multiple for length in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return np.ascontiguousarray(image[top : top + height, left : left + width])


def _are_alike(one: np.ndarray, other: np.ndarray, tolerance: float) -> bool:
    return one.shape == other.shape and bool(np.abs(one.astype(np.int16) - other).mean() <= tolerance)


def degrade(image: np.ndarray, options: Mapping[str, Any], seed: str) -> np.ndarray:
    """Degrade an image as a training by these options may.

    Args:
        image: (H, W, 3) uint8, BGR, of at most 400 pixels a side, which the scale divides.
        options: of the training.
        seed: any text; the same one gives the same result. The generators of this process are left as they were.

    Returns:
        (H / scale, W / scale, 3) uint8, BGR.
    """
    scale = options["scale"]
    number = int.from_bytes(hashlib.sha256(seed.encode("utf-8", "surrogateescape")).digest()[:4], "big")
    with random_states.kept():
        random.seed(number)
        np.random.seed(number)
        torch.manual_seed(number)
        item = _OneImage(image, options)[0]
        batch = {key: value[None] for key, value in item.items() if isinstance(value, torch.Tensor)}
        model = _Degrading(options)
        model.feed_data(batch)
    height, width = image.shape[0] // scale, image.shape[1] // scale
    lq = (model.lq[0, :, :height, :width].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    return np.ascontiguousarray(lq[..., ::-1])


class _OneImage(RealESRGANDataset):  # type: ignore[misc]
    """The data set of the training, with a single image that it finds in memory."""

    def __init__(self, image: np.ndarray, options: Mapping[str, Any]) -> None:
        section = {**options["datasets"]["train"], "use_hflip": False, "use_rot": False}
        super().__init__({**section, "dataroot_gt": "", "io_backend": {"type": "disk"}, "meta_info": os.devnull})
        self.image, self.paths, self.file_client = image, ["in memory"], self

    def get(self, *_: object) -> bytes:
        """Return the image as a file, where the data set asks its file client for it."""
        return bytes(cv2.imencode(".png", self.image)[1])


class _Degrading(RealESRNetModel):  # type: ignore[misc]
    """The model of the training, without a network or a pool: what degrades a batch, and nothing else."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        # the second stage of Real-ESRGAN, which has no `gt_usm`, degrades sharpened GT
        self.opt = {"gt_usm": True, **options, "gt_size": CROP}
        self.device, self.is_train = torch.device("cpu"), True
        self.jpeger, self.usm_sharpener = DiffJPEG(differentiable=False), USMSharp()

    def _dequeue_and_enqueue(self) -> None:
        """Keep the pair, which in training goes into the pool."""
