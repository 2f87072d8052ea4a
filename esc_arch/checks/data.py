"""Checks that a dataset of an option file is there, whole, and pairs."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from esc_arch.bridge import shared_lmdb
from esc_arch.checks.clips import CLIPS, frames_of
from esc_arch.checks.decoding import Size, Whole, decode_files, one_thread
from esc_arch.checks.likeness import check_likeness
from esc_arch.checks.lmdb import check_lmdb, show, thumbnails_in
from esc_arch.checks.names import check_registered
from esc_arch.checks.partners import ROOTS, check_keys, unpaired
from esc_arch.checks.remarks import (
    Image,
    dark,
    files_of,
    folders_in,
    given_twice,
    holds_images,
    images_of,
    left_below,
    listed_by,
    listed_twice,
)
from esc_arch.checks.table import PAIRED, SHRINKING
from esc_arch.common.errors import UserError, first_line, some

Options = dict[str, Any]
RGB = 3  # channels
LMDB_SAMPLE = 100  # pairs of LMDBs that are compared, evenly spread
ADVICE = "prepare the data as datasets/README.md says"


@dataclass
class Checked:
    """What a check found of a data set.

    Attributes:
        count: images, or pairs of them.
        results: smallest height and smallest width of what the network makes of the images, where they are known.
        has_gt: whether an item holds GT.
        lq, gt: height and width of the first item, where it holds images.
        channels: of an image.
        notes: sentences about what is odd, but no mistake for certain.
        images: what tells them apart.
    """

    count: int = 0
    results: list[Size] = field(default_factory=list)
    has_gt: bool = True
    lq: Size | None = None
    gt: Size | None = None
    channels: int = RGB
    notes: list[str] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)


def check_dataset(dataset: Options, where: str, decode: bool = True) -> Checked:
    """Check one section of `datasets`.

    Args:
        dataset: the section, as BasicSR's `parse_options` completes it; it is not changed.
        where: name of the section, for messages.
        decode: decode all pictures, of an LMDB a sample.

    Raises:
        UserError: naming the option, folder or files at fault and what to do.
    """
    from basicsr.utils.registry import DATASET_REGISTRY

    from esc_arch.data.several_roots import one_root_each

    check_registered(dataset.get("type"), DATASET_REGISTRY, f"{where}:type")
    try:
        sections = one_root_each(dataset)
    except ValueError as error:
        raise UserError(f"{where}: {error}.") from error
    found = [_check_one_root(section, where, decode) for section in sections]
    results = [size for part in found for size in part.results]
    has_gt = all(part.has_gt for part in found)
    count, first = sum(part.count for part in found), found[0]
    notes = [note for part in found for note in part.notes]
    notes += given_twice([image for part in found for image in part.images], where)
    return Checked(count, _smallest(results), has_gt, first.lq, first.gt, first.channels, notes)


def _check_one_root(dataset: Options, where: str, decode: bool) -> Checked:
    kind = dataset["type"]
    backend = (dataset.get("io_backend") or {}).get("type")
    sizes: dict[str, dict[str, Size]] = {}
    for root in ROOTS:
        folder = dataset.get(root)
        if folder is not None:
            _check_root(folder, f"{where}:{root}", backend)
            if backend == "lmdb":
                sizes[root] = check_lmdb(folder, f"{where}:{root}", decode)
    if len(sizes) == len(ROOTS) and kind in PAIRED:
        check_keys(sizes, where)
    # clips are decoded before they are kept in memory
    is_cached = kind in CLIPS and dataset.get("cache_data")
    built, count = _build({**dataset, "cache_data": False} if is_cached else dataset, where)
    paths: Any = frames_of(dataset, built) if kind in CLIPS else getattr(built, "paths", None)
    if not isinstance(paths, list):
        return Checked(count, images=images_of(dataset, None))  # of somebody's own
    pictures = _decoded(paths, where) if decode and not sizes else None
    found = _sizes_of(sizes, pictures)
    if found is not None and (kind in PAIRED or (kind in CLIPS and not sizes)):
        _check_pairs(dataset, paths, found, where)
    elif found is not None and kind in SHRINKING:
        _check_shrinks(dataset, paths, found, where)
    if found is not None and kind == "BicubicDataset" and dataset["phase"] == "train":
        for path in paths:
            _check_patch_fits(dataset, path, found[path], where)
    notes = _check_likeness(dataset, paths, pictures, where) if decode and kind in PAIRED else []
    with contextlib.ExitStack() as stack:
        stack.enter_context(_as_before())
        for root in sizes:
            stack.enter_context(shared_lmdb.opened(dataset[root]))  # closed again, as it was
        if is_cached and decode:
            built, _ = _build(dataset, where)
        item = _first_item(built, dataset, where) if decode else {}
    has_gt = "gt" in item if decode else kind != "SingleImageDataset"
    lq, gt = _image_size(item, "lq"), _image_size(item, "gt")
    if kind in CLIPS:
        channels = item["lq"].shape[-3] if decode else RGB
        return Checked(count, channels=channels, images=images_of(dataset, None))
    channels = item["lq"].shape[-3] if lq is not None else 1 if dataset.get("color") == "y" else RGB
    notes += listed_twice(dataset, paths, where)
    if not sizes:
        notes += left_below(dataset, paths, where) + (dark(paths, where) if decode else [])
    return Checked(count, _results(dataset, paths, found), has_gt, lq, gt, channels, notes, images_of(dataset, paths))


def _image_size(item: Options, name: str) -> Size | None:
    image = item.get(name)
    return (image.shape[-2], image.shape[-1]) if isinstance(image, torch.Tensor) and image.dim() == 3 else None


def _check_root(folder: Any, where: str, backend: Any) -> None:
    if os.path.isfile(folder):
        raise UserError(f"{where}: {folder} is a file; give the folder that holds the images, or an LMDB.")
    if not os.path.isdir(folder):
        raise UserError(
            f"{where}: {folder} does not exist; {ADVICE}, correct the path, or remove this data set from the file."
        )
    lost = [entry.path for entry in os.scandir(folder) if entry.is_symlink() and not os.path.exists(entry.path)]
    if lost:
        raise UserError(f"{where}: a link leads nowhere: {some(sorted(lost))}; repair or remove it.")
    is_lmdb = os.path.isfile(os.path.join(folder, "data.mdb"))
    if backend == "disk" and is_lmdb:
        raise UserError(f"{where}: {folder} is an LMDB, but io_backend:type is disk; set it to lmdb.")
    if backend == "lmdb" and not folder.rstrip("/").endswith(".lmdb"):
        raise UserError(f"{where}: {folder} is no LMDB (its name must end with .lmdb), but io_backend:type is lmdb.")


def _build(dataset: Options, where: str) -> tuple[Any, int]:
    """Let BasicSR build the dataset, which finds missing files; return it and the number of its images."""
    from basicsr.utils.registry import DATASET_REGISTRY

    try:
        built = DATASET_REGISTRY.get(dataset["type"])(deepcopy(dataset))
        count = len(built)
    except KeyError as error:
        raise UserError(f"{where}: the option {error} is missing.") from error
    except OSError as error:
        raise UserError(f"{where}: {error.filename} cannot be read ({error.strerror}); correct the path.") from error
    except (ValueError, AssertionError, TypeError, AttributeError) as error:
        raise UserError(f"{where}: {unpaired(dataset) or first_line(error).rstrip('.')}.") from error
    listed = listed_by(dataset)
    if count == 0 and listed:
        raise UserError(f"{where}: {listed} names no images; name one in each line, or remove the option.")
    if count == 0:
        folder = str(dataset.get("dataroot_gt") or dataset.get("dataroot_lq"))
        below = [path for path in folders_in(folder) if holds_images(path)]
        found = f"no images, but those in {some(below, 3)}; name these" if below else f"no images; {ADVICE}"
        raise UserError(f"{where}: {folder} holds {found}.")
    return built, count


def _sizes_of(
    lmdb: dict[str, dict[str, Size]], pictures: dict[str, Whole] | None
) -> dict[str, Size] | dict[tuple[str, str], Size] | None:
    """Return the size of each image: by path, or in an LMDB by (option, key); None where they are not known."""
    if lmdb:
        by_key: dict[Any, Size] = {(root, key): size for root, sizes in lmdb.items() for key, size in sizes.items()}
        only = next(iter(lmdb.values()))
        by_key.update(only)  # of data sets of one root
        return by_key
    return None if pictures is None else {path: picture.size for path, picture in pictures.items()}


def _decoded(paths: list[Any], where: str) -> dict[str, Whole]:
    """Decode all files of a data set, which must all be whole."""
    findings = decode_files([file for path in paths for file in files_of(path)], where)
    if findings.faults:
        wrong = [f"{path} {fault}" for path, fault in findings.faults.items()]
        one = len(wrong) == 1
        what = "a file cannot be read as an image" if one else f"{len(wrong)} files cannot be read as images"
        raise UserError(f"{where}: {what}: {some(wrong)}; repair or remove {'it' if one else 'them'}.")
    return findings.whole


def _check_likeness(
    dataset: Options, paths: list[dict[str, str]], pictures: dict[str, Whole] | None, where: str
) -> list[str]:
    """Check that LQ shows what GT shows, of LMDBs in a sample; return what is odd."""
    if pictures is not None:
        files = [(pair["gt_path"], pair["lq_path"]) for pair in paths]
        return check_likeness(((gt, lq, pictures[gt].thumbnail, pictures[lq].thumbnail) for gt, lq in files), where)
    keys = [pair["gt_path"] for pair in paths]
    gt, lq = (thumbnails_in(dataset[root], keys[:: -(-len(keys) // LMDB_SAMPLE)]) for root in ROOTS)
    return check_likeness(((f"{key} of dataroot_gt", f"{key} of dataroot_lq", gt[key], lq[key]) for key in gt), where)


def _first_item(built: Any, dataset: Options, where: str) -> Options:
    """Let the data set make its first item, which reads the rest of its options."""
    try:
        with one_thread():
            item: Options = built[0]
    except KeyError as error:
        raise UserError(f"{where}: the option {error} is missing, which {dataset['type']} reads.") from error
    except Exception as error:  # whatever a data set may make of its options
        reason = first_line(error).rstrip(".")
        if isinstance(error, MemoryError) or "allocate" in reason:
            side = dataset.get("gt_size")
            raise UserError(
                f"{where}: the first image, or patches of gt_size {side}, do not fit into memory ({reason}); choose a "
                "smaller gt_size, or cut the images."
            ) from error
        raise UserError(f"{where}: {dataset['type']} cannot read its first image: {reason}.") from error
    return item


def _check_pairs(dataset: Options, paths: list[dict[str, str]], sizes: Any, where: str) -> None:
    if "scale" not in dataset:
        raise UserError(f"{where}: the option scale is missing at the top level of the file.")
    scale, is_training = dataset["scale"], dataset["phase"] == "train"
    wrong = []
    for pair in paths:
        if len(pair) < 2:  # a frame beside the one whose GT is read
            continue
        gt_path, lq_path = pair["gt_path"], pair["lq_path"]
        gt = sizes.get(("dataroot_gt", gt_path)) or sizes[gt_path]
        lq = sizes.get(("dataroot_lq", lq_path)) or sizes[lq_path]
        # outside training BasicSR cuts GT to the size of LQ, whose size was rounded down when it was made
        spare = [g - scale * q for g, q in zip(gt, lq, strict=True)]
        if any(s < 0 or s >= (1 if is_training else scale) for s in spare):
            wrong.append(f"{gt_path} ({show(gt)}) and {lq_path} ({show(lq)})")
        elif is_training:
            _check_patch_fits(dataset, gt_path, gt, where)
    if wrong:
        raise UserError(
            f"{where}: {some(wrong, 3)} do not pair at scale {scale}; check scale, dataroot_gt and dataroot_lq."
        )


def _check_shrinks(dataset: Options, paths: list[str], sizes: Any, where: str) -> None:
    """Check that images have a pixel left once they are shrunk."""
    scale = dataset.get("scale") or 1
    most = max(scale) if isinstance(scale, list | tuple) else scale
    small = [f"{path} ({show(sizes[path])})" for path in paths if min(sizes[path]) < most]
    if small and dataset["type"] != "DownsampleImageDataset":  # which continues them
        raise UserError(f"{where}: {some(small, 3)} cannot be shrunk by scale {scale}; remove what is so small.")


def _check_patch_fits(dataset: Options, path: str, size: Size, where: str) -> None:
    if min(size) < dataset["gt_size"]:
        raise UserError(
            f"{where}: {path} ({show(size)}) is smaller than gt_size {dataset['gt_size']}; remove it or choose a "
            "smaller gt_size."
        )


def _results(dataset: Options, paths: list[Any], sizes: Any) -> list[Size]:
    """Return the sizes of the results, outside training."""
    scale = dataset.get("scale")
    if sizes is None or dataset["phase"] == "train" or not isinstance(scale, int | float):
        return []
    results = []
    for path in paths:
        lq = path["lq_path"] if isinstance(path, dict) else path
        height, width = sizes.get(("dataroot_lq", lq)) or sizes[lq]
        if dataset["type"] in SHRINKING:
            height, width = int(height / scale), int(width / scale)
        results.append((round(height * scale), round(width * scale)))
    return results


def _smallest(sizes: list[Size]) -> list[Size]:
    """Return the sizes with the smallest height and with the smallest width."""
    return sorted({min(sizes), min(sizes, key=lambda size: size[::-1])}) if sizes else []


@contextlib.contextmanager
def _as_before() -> Iterator[None]:
    """Keep the random numbers that a training draws as they would be without the check."""
    plain, numbers = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(plain)
            np.random.set_state(numbers)
