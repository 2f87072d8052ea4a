"""Crops of pictures by several networks side by side, with PSNR and SSIM, as papers print them."""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.ndimage import uniform_filter

from esc_arch.analyze import style
from esc_arch.analyze.networks import Subject
from esc_arch.analyze.photographs import Array, Box, Photograph, central, to_array, to_tensor
from esc_arch.analyze.places import add_place_argument, common_scale, require_inside
from esc_arch.analyze.result import Job, Result, Step
from esc_arch.common.errors import UserError

MODULES = ()
OF_GRADIENTS = False
SIDE = 0
CROP = 48  # GT pixels, where no crop is given
SMALLEST = 11  # of the windows of SSIM


class Version(NamedTuple):
    """A picture as one method gives it.

    Attributes:
        label: of the method.
        pixels: (H, W, 3) in [0, 1], of 8 bits.
        of_crop: PSNR in dB and SSIM of the crop, None without GT and for GT itself.
        of_whole: those of the whole picture, its border cropped by the scale.
    """

    label: str
    pixels: Array
    of_crop: tuple[float, float] | None
    of_whole: tuple[float, float] | None


class Shown(NamedTuple):
    """One picture in all versions."""

    name: str
    crop: Box
    versions: list[Version]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this figure can be told."""
    default = f"the {CROP} x {CROP} where the networks differ most"
    add_place_argument(parser, "--crop", f"in GT pixels, of every picture ({default})")


def prepare(args: argparse.Namespace, subjects: list[Subject], photographs: list[Photograph]) -> Job:
    """Check what was given.

    Raises:
        UserError: the networks have different scales, or the crop is not in a picture.
    """
    scale = common_scale(subjects)
    pictures = []
    for photograph in photographs:
        lq, gt = central(photograph.lq(scale), args.side), photograph.gt(scale)
        gt = None if gt is None else central(gt, scale * args.side)
        height, width = (scale * side for side in lq.shape[:2])
        if args.crop is None and min(height, width) < SMALLEST:
            raise UserError(
                f"{photograph.name} is smaller than {SMALLEST} pixels a side; choose a larger picture or --side."
            )
        if args.crop is not None:
            require_inside(args.crop, width, height, photograph.name, "--crop", SMALLEST)
        try:
            enlarged = bicubic(lq, scale)
        except RuntimeError as error:  # the border that BasicSR mirrors is wider than the picture
            small = f"{lq.shape[1]} x {lq.shape[0]} LQ pixels"
            raise UserError(
                f"{photograph.name}: {small} are too few for bicubic; choose a larger picture or --side."
            ) from error
        pictures.append((photograph.name, lq, gt, enlarged))

    def run(step: Step) -> Result:
        shown = []
        for name, lq, gt, enlarged in pictures:
            outputs = {"bicubic": enlarged}
            for subject in subjects:
                with torch.no_grad():
                    outputs[subject.title] = in_8_bits(to_array(subject(to_tensor(lq, subject.device))))
                step()
            shown.append(_versions(name, outputs, None if gt is None else in_8_bits(gt), args.crop, scale))
        return _result(shown, scale)

    return Job(len(subjects) * len(pictures), run)


def bicubic(lq: Array, scale: int) -> Array:
    """Enlarge `lq` (h, w, 3) by MATLAB's bicubic, in 8 bits."""
    from basicsr.utils.matlab_functions import imresize

    return in_8_bits(imresize(lq.copy(), scale) if scale > 1 else lq)


def in_8_bits(image: Array) -> Array:
    """Round an image in [0, 1] to what a PNG holds."""
    return (np.clip(image, 0, 1) * 255).round().astype(np.float32) / np.float32(255)


def scores(image: Array, gt: Array, border: int) -> tuple[float, float]:
    """Return PSNR in dB and SSIM of the Y channel, by BasicSR.

    Args:
        image, gt: (H, W, 3), RGB in [0, 1].
        border: pixels that are cropped from each side.
    """
    from basicsr.metrics import calculate_psnr, calculate_ssim

    bgr = [np.ascontiguousarray((part[..., ::-1] * 255).round().astype(np.uint8)) for part in (image, gt)]
    psnr = calculate_psnr(*bgr, crop_border=border, test_y_channel=True)
    return float(psnr), float(calculate_ssim(*bgr, crop_border=border, test_y_channel=True))


def most_different(images: list[Array], width: int, height: int) -> Box:
    """Find where images (H, W, 3) differ most from each other.

    Args:
        images: at least two of them.
        width, height: of the crop that is found, no larger than the images.
    """
    variance = np.var(np.stack(images).astype(np.float64), axis=0).mean(axis=2)
    mean = uniform_filter(variance, (height, width), mode="constant")
    rows, columns = (side - length for side, length in zip(variance.shape, (height, width), strict=True))
    inside = mean[height // 2 : height // 2 + rows + 1, width // 2 : width // 2 + columns + 1]
    top, left = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(left), int(top), width, height


def _versions(name: str, outputs: dict[str, Array], gt: Array | None, crop: Box | None, scale: int) -> Shown:
    images = list(outputs.values())
    if crop is None:
        # bicubic differs from all networks: it counts only where there is but one
        compared = images[1:] if len(images) > 2 else images
        crop = most_different(compared, min(CROP, images[0].shape[1]), min(CROP, images[0].shape[0]))
    versions = [] if gt is None else [Version("GT", gt, None, None)]
    for label, image in outputs.items():
        if gt is None:
            versions.append(Version(label, image, None, None))
        else:
            border = scale if min(gt.shape[:2]) >= SMALLEST + 2 * scale else 0
            whole = scores(image, gt, border)
            versions.append(Version(label, image, scores(cut(image, crop), cut(gt, crop), 0), whole))
    return Shown(name, crop, versions)


def cut(image: Array, crop: Box) -> Array:
    """Take a part of an image (H, W, 3)."""
    left, top, width, height = crop
    return image[top : top + height, left : left + width]


def _result(shown: list[Shown], scale: int) -> Result:
    entries: list[dict[str, Any]] = []
    arrays: dict[str, Array] = {}
    sentences = []
    for number, picture in enumerate(shown):
        methods: list[dict[str, Any]] = []
        for version in picture.versions:
            arrays[f"crop_{number}_{len(methods)}"] = cut(version.pixels, picture.crop)
            entry: dict[str, Any] = {"method": version.label}
            for key, values in (("crop", version.of_crop), ("whole", version.of_whole)):
                if values is not None:
                    finite = values[0] if np.isfinite(values[0]) else None  # of equal pictures, PSNR has no end
                    entry |= {f"psnr_of_{key}": finite, f"ssim_of_{key}": values[1]}
            methods.append(entry)
            if version.of_crop is not None and version.of_whole is not None:
                sentences.append(
                    f"{picture.name}, {version.label}: PSNR-Y {version.of_crop[0]:.2f} dB and SSIM-Y "
                    f"{version.of_crop[1]:.4f} of the crop, {version.of_whole[0]:.2f} dB and "
                    f"{version.of_whole[1]:.4f} of the whole."
                )
        entries.append({"picture": picture.name, "crop": list(picture.crop), "methods": methods})
    return Result(_draw(shown), arrays, {"scale": scale, "pictures": entries}, sentences)


def _draw(shown: list[Shown]) -> Any:
    count = len(shown[0].versions)
    rows = 1 if count <= 3 else 2
    columns = -(-count // rows)
    width = style.COLUMN if columns <= 2 else style.PAGE
    across = columns + 1.5
    height = width / across + 0.3
    figure, grid = style.pairs_of_panels(len(shown), rows, columns, height, width, 1.5)
    for picture, (whole, crops) in zip(shown, grid, strict=True):
        style.show(whole, picture.versions[0].pixels)
        style.mark(whole, *picture.crop)
        whole.set_xlabel(style.wrapped(picture.name, width * 1.5 / across))
        for place, panel in enumerate(crops):
            if place >= count:
                panel.axis("off")
                continue
            version = picture.versions[place]
            style.show(panel, cut(version.pixels, picture.crop))
            numbers = "" if version.of_crop is None else f"\n{version.of_crop[0]:.2f} / {version.of_crop[1]:.4f}"
            if version.label == "GT":
                numbers = "\nPSNR / SSIM"
            panel.set_xlabel(style.wrapped(version.label, width / across) + numbers)
    return figure
