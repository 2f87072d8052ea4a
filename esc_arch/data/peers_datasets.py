"""Data sets that the option files of ESC and HAT name and BasicSR lacks; both make LQ from GT."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from basicsr.data.transforms import augment, paired_random_crop
from basicsr.utils import bgr2ycbcr
from basicsr.utils.matlab_functions import imresize
from basicsr.utils.registry import DATASET_REGISTRY
from PIL import Image as Pillow
from torchvision.transforms.functional import normalize

from esc_arch.data.gt_images import GTImages, Image, random_crop, to_tensor


class _MadePairs(GTImages):
    """GT images, from each of which `make` makes a pair.

    Options beside those of `GTImages`:
        scale: a whole number.
        gt_size: side of a GT patch.
        use_hflip, use_rot: flip and rotate patches.
        color: `y` for the luma alone; empty for RGB.
        mean, std: with which `lq` and `gt` are normalised; empty for values in [0, 1].

    An item holds `lq` (3, h, w) and `gt` (3, S * h, S * w), RGB, and `lq_path` and `gt_path`, both the path of GT.
    """

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Read image `index` and make an item of it."""
        path = self.paths[index]
        images = self.make(self.read(path), path)
        if self.opt.get("color") == "y":
            images = tuple(bgr2ycbcr(image, y_only=True)[..., None] for image in images)
        lq, gt = (to_tensor(np.ascontiguousarray(image)) for image in images)
        mean, std = self.opt.get("mean"), self.opt.get("std")
        if mean is not None or std is not None:
            for image in (lq, gt):
                normalize(image, mean or torch.zeros(len(image)), std or torch.ones(len(image)), inplace=True)
        return {"lq": lq, "gt": gt, "lq_path": path, "gt_path": path}

    def make(self, gt: Image, path: str) -> tuple[Image, Image]:
        """Make LQ and GT from an image as it was read."""
        raise NotImplementedError


@DATASET_REGISTRY.register()
class DownsampleImageDataset(_MadePairs):
    """Random patches of GT, shrunk by Pillow's antialiased bicubic, which rounds to 8 bit and is not MATLAB's.

    ESC trains with it on DFLIP (ESC, ICCV 2025). Whatever the phase, patches are cropped and augmented: it is for
    training. An image smaller than the patch is continued by reflection.
    """

    def make(self, gt: Image, path: str) -> tuple[Image, Image]:
        """Crop and augment a patch, and shrink it."""
        side, scale = self.opt["gt_size"], self.opt["scale"]
        missing = [max(side - length, 0) for length in gt.shape[:2]]
        if any(missing):
            gt = cv2.copyMakeBorder(gt, 0, missing[0], 0, missing[1], cv2.BORDER_REFLECT_101)
        gt = augment(random_crop(gt, side, path), self.opt["use_hflip"], self.opt["use_rot"])
        whole = Pillow.fromarray(np.rint(gt * 255).astype(np.uint8))
        small = whole.resize((side // scale, side // scale), Pillow.Resampling.BICUBIC)
        return np.asarray(small, dtype=np.float32) / np.float32(255), gt


@DATASET_REGISTRY.register()
class ImageNetPairedDataset(_MadePairs):
    """Images of any size, shrunk by MATLAB's bicubic without rounding, from which patches are cropped in training.

    HAT is pre-trained with it on ImageNet (HAT, CVPR 2023). GT is cut to a multiple of the scale first; a side
    shorter than the patch is enlarged to it, bilinearly.
    """

    def make(self, gt: Image, path: str) -> tuple[Image, Image]:
        """Shrink an image, and in training crop and augment a patch of both."""
        side, scale = self.opt.get("gt_size", 0), self.opt["scale"]
        height, width = (length - length % scale for length in gt.shape[:2])
        size = max(height, side), max(width, side)
        gt = gt[:height, :width]
        if size != (height, width):
            gt = cv2.resize(gt, (size[1], size[0]))
        gt = np.ascontiguousarray(gt)
        lq = np.ascontiguousarray(imresize(gt, 1 / scale), dtype=np.float32)
        if self.opt["phase"] == "train":
            gt, lq = paired_random_crop(gt, lq, side, scale, path)
            gt, lq = augment([gt, lq], self.opt["use_hflip"], self.opt["use_rot"])
        return lq, gt[: lq.shape[0] * scale, : lq.shape[1] * scale]
