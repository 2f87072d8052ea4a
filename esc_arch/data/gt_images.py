"""Reading GT images, of which data sets here make LQ themselves."""

from __future__ import annotations

import os
import random
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from basicsr.data.data_util import paths_from_folder, paths_from_lmdb
from basicsr.utils import FileClient, imfrombytes, img2tensor
from torch.utils.data import Dataset

from esc_arch.common.image_lists import listed_images, listed_keys

Options = dict[str, Any]
Image = np.ndarray[Any, np.dtype[np.float32]]  # (H, W, 3), BGR in [0, 1]


class GTImages(Dataset):  # type: ignore[type-arg]
    """The GT images of a folder or an LMDB, or those of a list.

    Options of the section in the option file:
        dataroot_gt: a folder of images, or a `.lmdb` of BasicSR.
        io_backend: `type: disk` or `type: lmdb`.
        meta_info_file: a text file, the first word of whose lines is the name of an image; empty for all images.

    Args:
        opt: the section.

    Raises:
        OSError: the folder or the list cannot be read.
        ValueError: the list names an image that is not in the LMDB.
    """

    def __init__(self, opt: Options) -> None:
        super().__init__()
        self.opt = opt
        self.backend = dict(opt["io_backend"])
        self.client: FileClient | None = None
        root, listed = opt["dataroot_gt"], opt.get("meta_info_file")
        if self.backend["type"] == "lmdb":
            self.backend.update(db_paths=[root], client_keys=["gt"])
            self.paths = paths_from_lmdb(root)
            if listed:
                self.paths = listed_keys(listed, set(self.paths))
        elif listed:
            self.paths = [os.path.join(root, name) for name in listed_images(listed)]
        else:
            self.paths = sorted(paths_from_folder(root))

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.paths)

    def read(self, path: str) -> Image:
        """Read one of `self.paths`."""
        if self.client is None:  # in the process that reads
            options = deepcopy(self.backend)
            self.client = FileClient(options.pop("type"), **options)
        return imfrombytes(self.client.get(path, "gt"), float32=True)


def random_crop(image: Image, side: int, path: str) -> Image:
    """Crop a square of `side` pixels at random.

    Raises:
        ValueError: the image is smaller; `path` is named.
    """
    height, width = image.shape[:2]
    if min(height, width) < side:
        raise ValueError(f"{path} ({width}x{height}) is smaller than the GT patch of {side} pixels")
    top, left = random.randint(0, height - side), random.randint(0, width - side)
    return image[top : top + side, left : left + side]


def to_tensor(image: Image) -> torch.Tensor:
    """Turn an image (H, W, 3) into a tensor (3, H, W), RGB."""
    return img2tensor(image, bgr2rgb=True, float32=True)
