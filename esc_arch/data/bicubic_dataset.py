"""Training and validation from GT images alone: LQ is made by bicubic when an image is read, at any scale."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from basicsr.data.transforms import augment
from basicsr.utils.matlab_functions import imresize
from basicsr.utils.registry import DATASET_REGISTRY

from esc_arch.data.gt_images import GTImages, Image, random_crop, to_tensor
from esc_arch.layers.lte import pixel_centres


@DATASET_REGISTRY.register()
class BicubicDataset(GTImages):
    """Reads GT from a folder, an LMDB or a list and shrinks it with MATLAB's bicubic, rounded to 8 bit.

    In training a patch is cropped, augmented and shrunk; with a range of scales, each item draws its own. In other
    phases the whole image is shrunk at a fixed scale.

    Options of the section in the option file:
        dataroot_gt, io_backend, meta_info_file: see `GTImages`.
        scale: a number of at least 1, or in training a range [low, high] to draw from uniformly.
        gt_size: side of a GT patch at the largest scale; the LQ patch has gt_size / scale pixels at all scales.
        use_hflip, use_rot: flip and rotate patches.
        queries: in training, give this many pixels of GT with their places, for `ESCLTE`, instead of the whole patch.

    An item holds `lq` (3, h, w) and `gt` (3, H, W), RGB in [0, 1], and their paths; with `queries` Q instead `gt`
    (Q, 3), `coord` (Q, 2) and `cell` (Q, 2), as `ESCLTE.query` takes them.

    Args:
        opt: the section.

    Raises:
        ValueError: an option is out of range.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        super().__init__(opt)
        self.is_training = opt["phase"] == "train"
        scale, self.queries = opt["scale"], opt.get("queries")
        low, high = scale if isinstance(scale, list | tuple) else (scale, scale)
        if not 1 <= low <= high:
            raise ValueError(f"scale must be a number of at least 1, or a range of such numbers, got {scale}")
        self.range = float(low), float(high)
        if self.is_training:
            self.lq_size = int(opt["gt_size"] / high)
            if self.lq_size < 2:
                raise ValueError(f"gt_size must be at least twice the largest scale, got {opt['gt_size']} and {scale}")
            if low != high and not self.queries:
                raise ValueError("a range of scales needs queries, because patches of different sizes make no batch")
            if self.queries and not 1 <= self.queries <= round(self.lq_size * low) ** 2:
                raise ValueError(
                    f"queries must be from 1 to the {round(self.lq_size * low) ** 2} pixels of the smallest GT patch, "
                    f"got {self.queries}"
                )
        elif low != high:
            raise ValueError(f"scale must be one number outside training, got {scale}")

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Read image `index` and make an item of it."""
        path = self.paths[index]
        gt = self.read(path)
        item: dict[str, Any] = {"gt_path": path, "lq_path": path}
        scale = random.uniform(*self.range)
        if not self.is_training:
            height, width = (int(side / scale) for side in gt.shape[:2])
            gt = gt[: round(height * scale), : round(width * scale)]
            lq = shrink(gt, height, width, scale)
            return {**item, "lq": to_tensor(lq), "gt": to_tensor(gt)}
        side = round(self.lq_size * scale)
        gt = augment(random_crop(gt, side, path), self.opt["use_hflip"], self.opt["use_rot"])
        item["lq"] = to_tensor(shrink(gt, self.lq_size, self.lq_size, side / self.lq_size))
        if not self.queries:
            return {**item, "gt": to_tensor(gt)}
        chosen = torch.from_numpy(np.random.choice(side * side, self.queries, replace=False))
        centres = pixel_centres(side, torch.empty(0))
        return {
            **item,
            "gt": to_tensor(gt).flatten(1).t()[chosen],  # (Q, 3)
            "coord": torch.stack([centres[chosen // side], centres[chosen % side]], dim=1),
            "cell": torch.full((self.queries, 2), 2 / side),
        }


def shrink(image: Image, height: int, width: int, scale: float) -> Image:
    """Shrink an image (H, W, 3) by `scale` with MATLAB's bicubic, to 8 bits per channel.

    Args:
        image: values in [0, 1].
        height: of the result; MATLAB's rule may give a row more, which is cut off.
        width: of the result.
        scale: at least 1.

    Returns:
        (height, width, 3), values in [0, 1].
    """
    if scale == 1:
        return image
    small = imresize(np.ascontiguousarray(image), 1 / scale)[:height, :width]
    return np.clip((small * 255).round(), 0, 255) / np.float32(255)
