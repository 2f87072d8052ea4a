"""Prepares validation data: HR images and their LR versions in the folders that the option files name."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from esc_arch.common.errors import UserError
from esc_arch.prepare.images import (
    crop_to_multiple,
    downscale,
    image_size,
    list_images,
    read_image,
    remove_partial_files,
    write_png,
)
from esc_arch.prepare.parallel import run_parallel

_SUFFIXES = (r"_SRF_\d+_HR", r"_HR")


@dataclass(frozen=True)
class Pair:
    """An input image and the name it gets in the benchmark, without extension."""

    path: Path
    name: str


def prepare_benchmark(
    folder: Path, name: str, output: Path, scales: Sequence[int] = (2, 3, 4), workers: int | None = None
) -> None:
    """Make OUTPUT/NAME/HR/IMAGE.png and OUTPUT/NAME/LR_bicubic/X{scale}/IMAGEx{scale}.png from HR images.

    HR keeps all pixels; LR is made from HR cropped to a multiple of the scale, and BasicSR crops HR to LR x scale when
    it validates. Files that are there already are verified, never overwritten: HR must have the pixels of the input, LR
    the right size.

    Args:
        folder: holds HR images, and only those, directly in it; may be OUTPUT/NAME/HR itself. A `_HR` or `_SRF_2_HR` at
            the end of all names is dropped.
        name: name of the benchmark, such as Set5.
        output: folder of the benchmarks, made when missing.
        scales: LR is made for each of them.
        workers: number of processes; None for one per CPU core.

    Raises:
        UserError: an argument or an input image is at fault, or the benchmark holds something else already.
        OSError: reading or writing failed.
    """
    scales = sorted(set(scales))
    if not scales or scales[0] < 2:
        raise UserError(f"--scales must be whole numbers from 2 on, not {scales}.")
    if Path(name).name != name:
        raise UserError(f"--name {name!r} must be a single folder name, such as Set5.")
    root = Path(output) / name
    pairs = _survey(Path(folder), scales[-1])
    expected = {root / "HR": {f"{pair.name}.png" for pair in pairs}}
    expected |= {_lq_folder(root, scale): {f"{pair.name}x{scale}.png" for pair in pairs} for scale in scales}
    for place, names in expected.items():
        place.mkdir(parents=True, exist_ok=True)
        for extra in sorted({path.name for path in place.iterdir() if not path.name.startswith(".")} - names):
            raise UserError(f"{place / extra} does not belong to the images of {folder}: move or delete it.")
    run_parallel(functools.partial(_make, root=root, scales=scales), pairs, workers, name)
    for place in expected:
        remove_partial_files(place)
    print(f"{root}: verified, {len(pairs)} images, HR and LR x{', x'.join(map(str, scales))}")


def _lq_folder(root: Path, scale: int) -> Path:
    return root / "LR_bicubic" / f"X{scale}"


def _survey(folder: Path, largest_scale: int) -> list[Pair]:
    paths = list_images(folder)
    for path in paths:
        if path.stem.endswith("_LR"):
            raise UserError(f"{path} looks like an LR image by its name: give a folder with HR images only.")
        if min(image_size(path)) < 2 * largest_scale:
            raise UserError(f"{path} is too small for scale {largest_scale}: remove it.")
    names = [path.stem for path in paths]
    for suffix in _SUFFIXES:
        stripped = [re.sub(rf"{suffix}$", "", name) for name in names]
        if all(short and short != name for short, name in zip(stripped, names, strict=True)):
            names = stripped
    owners: dict[str, Path] = {}
    for path, name in zip(paths, names, strict=True):
        if name in owners:
            raise UserError(f"{owners[name]} and {path} would both be stored as {name}.png: rename or remove one.")
        owners[name] = path
    return [Pair(path, name) for name, path in owners.items()]


def _make(pair: Pair, root: Path, scales: Sequence[int]) -> None:
    image = read_image(pair.path)
    gt = root / "HR" / f"{pair.name}.png"
    if not gt.exists():
        write_png(gt, image)
    if not np.array_equal(read_image(gt), image):
        raise UserError(f"{gt} has other pixels than {pair.path}: move or delete it.")
    for scale in scales:
        lq = _lq_folder(root, scale) / f"{pair.name}x{scale}.png"
        if not lq.exists():
            write_png(lq, downscale(crop_to_multiple(image, scale), scale))
        height, width = read_image(lq).shape[:2]
        if (height, width) != (image.shape[0] // scale, image.shape[1] // scale):
            raise UserError(
                f"{lq} is {height} x {width}, not {image.shape[0]} x {image.shape[1]} / {scale}: move or delete it."
            )
