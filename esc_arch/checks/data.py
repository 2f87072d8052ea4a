"""Checks that a dataset of an option file is there, whole, and pairs."""

from __future__ import annotations

import os
import re
from copy import deepcopy
from typing import Any

from PIL import Image, UnidentifiedImageError

from esc_arch.bridge import shared_lmdb
from esc_arch.common.errors import UserError

Options = dict[str, Any]
Size = tuple[int, int]  # height, width

_META_LINE = re.compile(r"^(?P<key>[^.]+)\.\S+ \((?P<height>\d+),(?P<width>\d+),\d+\)")


def check_dataset(dataset: Options, where: str) -> None:
    """Check one section of `datasets`.

    Args:
        dataset: the section, as BasicSR's `parse_options` completes it; it is not changed.
        where: name of the section, for messages.

    Raises:
        UserError: naming the option, folder or file at fault and what to do.
    """
    from basicsr.utils.registry import DATASET_REGISTRY

    kind = dataset.get("type")
    if kind not in DATASET_REGISTRY and f"{kind}_basicsr" not in DATASET_REGISTRY:  # as Registry.get looks
        known = ", ".join(sorted(DATASET_REGISTRY.keys()))
        raise UserError(f"{where}:type: {kind!r} is unknown; choose one of {known}.")
    for root in ("dataroot_gt", "dataroot_lq"):
        folder = dataset.get(root)
        for path in folder if isinstance(folder, list) else [folder]:
            if path is not None and not os.path.isdir(path):
                raise UserError(
                    f"{where}:{root}: {path} does not exist; prepare the data as datasets/README.md says, correct the "
                    "path, or remove this data set from the file."
                )
    backend = dataset.get("io_backend") or {}
    sizes: dict[str, dict[str, Size]] = {}
    if backend.get("type") == "lmdb":
        for root in ("dataroot_gt", "dataroot_lq"):
            if dataset.get(root) is not None:
                sizes[root] = read_lmdb_sizes(dataset[root], f"{where}:{root}")
    paths = _build(dataset, where)
    if dataset["type"] == "PairedImageDataset":
        _check_pairs(dataset, paths, sizes, where)
    elif dataset["type"] == "BicubicDataset":
        _check_gt(dataset, paths, sizes, where)


def read_lmdb_sizes(folder: str, where: str) -> dict[str, Size]:
    """Read the sizes of all images of an LMDB written by BasicSR, and check that the database is whole.

    Args:
        folder: the `.lmdb` folder.
        where: name of the option, for messages.

    Returns:
        height and width by key.

    Raises:
        UserError: a file is missing, truncated, or does not agree with `meta_info.txt`.
    """
    import lmdb

    again = "prepare it again as datasets/README.md says"
    data, meta = os.path.join(folder, "data.mdb"), os.path.join(folder, "meta_info.txt")
    for file in (data, meta):
        if not os.path.isfile(file):
            raise UserError(f"{where}: {file} is missing, so {folder} is not a whole LMDB; {again}.")
    sizes: dict[str, Size] = {}
    with open(meta) as lines:
        for line in lines:
            match = _META_LINE.match(line)
            if match is None:
                raise UserError(f"{where}: {meta} has a line that BasicSR cannot read ({line.strip()!r}); {again}.")
            sizes[match["key"]] = int(match["height"]), int(match["width"])
    try:
        with shared_lmdb.opened(folder) as database:
            pages = database.info()["last_pgno"] + 1
            entries = database.stat()["entries"]
            needed = pages * database.stat()["psize"]
    except lmdb.Error as error:
        raise UserError(f"{where}: {folder} is damaged ({error}); {again}.") from error
    if os.path.getsize(data) < needed:
        raise UserError(f"{where}: {data} is truncated ({os.path.getsize(data)} of {needed} bytes); {again}.")
    if entries != len(sizes):
        raise UserError(f"{where}: {folder} has {entries} images but meta_info.txt lists {len(sizes)}; {again}.")
    return sizes


def _build(dataset: Options, where: str) -> list[Any]:
    """Let BasicSR build the dataset, which finds missing files; return its paths, or pairs of paths."""
    from basicsr.utils.registry import DATASET_REGISTRY

    try:
        built = DATASET_REGISTRY.get(dataset["type"])(deepcopy(dataset))
        count = len(built)
    except KeyError as error:
        raise UserError(f"{where}: the option {error} is missing.") from error
    except (OSError, ValueError, AssertionError, TypeError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        hint = "; every GT needs its LQ, named by filename_tmpl" if "dataroot_lq" in dataset else ""
        raise UserError(f"{where}: {reason}{hint}.") from error
    if count == 0:
        folder = dataset.get("dataroot_gt") or dataset.get("dataroot_lq")
        raise UserError(f"{where}: {folder} holds no images; prepare the data as datasets/README.md says.")
    return getattr(built, "paths", [])


def _check_pairs(dataset: Options, paths: list[dict[str, str]], lmdb_sizes: dict[str, Any], where: str) -> None:
    if "scale" not in dataset:
        raise UserError(f"{where}: the option scale is missing at the top level of the file.")
    scale, is_training = dataset["scale"], dataset["phase"] == "train"
    for pair in paths:
        gt_path, lq_path = pair["gt_path"], pair["lq_path"]
        if lmdb_sizes:
            gt, lq = lmdb_sizes["dataroot_gt"][gt_path], lmdb_sizes["dataroot_lq"][lq_path]
        else:
            gt, lq = _image_size(gt_path, where), _image_size(lq_path, where)
        # outside training BasicSR cuts GT to the size of LQ, whose size was rounded down when it was made
        spare = [g - scale * q for g, q in zip(gt, lq, strict=True)]
        if any(s < 0 or s >= (1 if is_training else scale) for s in spare):
            raise UserError(
                f"{where}: {gt_path} ({_show(gt)}) and {lq_path} ({_show(lq)}) do not pair at scale {scale}; check "
                "scale, dataroot_gt and dataroot_lq."
            )
        if is_training:
            _check_patch_fits(dataset, gt_path, gt, where)


def _check_gt(dataset: Options, paths: list[str], lmdb_sizes: dict[str, Any], where: str) -> None:
    """Check the images of a dataset that makes LQ itself."""
    for path in paths:
        size = lmdb_sizes["dataroot_gt"][path] if lmdb_sizes else _image_size(path, where)
        if dataset["phase"] == "train":
            _check_patch_fits(dataset, path, size, where)


def _check_patch_fits(dataset: Options, path: str, size: Size, where: str) -> None:
    if min(size) < dataset["gt_size"]:
        raise UserError(
            f"{where}: {path} ({_show(size)}) is smaller than gt_size {dataset['gt_size']}; remove it or choose a "
            "smaller gt_size."
        )


def _image_size(path: str, where: str) -> Size:
    try:
        with Image.open(path) as image:  # reads the header only
            return image.height, image.width
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise UserError(f"{where}: {path} cannot be read as an image ({error}); repair or remove it.") from error


def _show(size: Size) -> str:
    return f"{size[1]}x{size[0]}"
