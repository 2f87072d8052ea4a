"""The kernels of ConvAttn: the large one that all share, before and after averaging, and those computed from pictures.

Source: "Emulating Self-attention with Convolution for Efficient Image Super-Resolution" (ICCV 2025), Sec. 3.3.
"""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from esc_arch.analyze import style
from esc_arch.analyze.networks import Subject
from esc_arch.analyze.photographs import Array, Photograph, central, to_tensor
from esc_arch.analyze.result import Job, Result, Step
from esc_arch.common.errors import UserError
from esc_arch.fast import speedups
from esc_arch.fast.speedups import Speedups
from esc_arch.layers.conv_attn import DYNAMIC_SIZE, PartialConvAttn, average_over_square

MODULES = ()
OF_GRADIENTS = False
SIDE = 64
AVERAGED, DECOMPOSED = "plk_filter", "lk_spatial"  # last parts of names of large kernels
SHOWN = 4  # pictures


class Kernels(NamedTuple):
    """Of one network.

    Attributes:
        name: of the large kernel.
        number: of large kernels, 1 where all ConvAttn share it.
        stored: (P, P, K, K), or (P, 1, K, K) of a decomposed one.
        averaged: the same over the symmetries of the square, None where the network does not average.
        predictors: names and modules that compute dynamic kernels, of every ConvAttn that has one.
    """

    name: str
    number: int
    stored: Array
    averaged: Array | None
    predictors: dict[str, nn.Module]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this figure can be told, which is nothing of its own."""


def prepare(args: argparse.Namespace, subjects: list[Subject], photographs: list[Photograph]) -> Job:
    """Check what was given.

    Raises:
        UserError: a network has no ConvAttn.
    """
    found = [find_kernels(subject) for subject in subjects]
    for subject in subjects:
        for photograph in photographs:
            photograph.lq(subject.scale)

    def run(step: Step) -> Result:
        dynamic = []
        for subject, own in zip(subjects, found, strict=True):
            parts = []
            for photograph in photographs:
                lq = central(photograph.lq(subject.scale), args.side)
                parts.append(dynamic_kernels(subject, own.predictors, to_tensor(lq, subject.device)))
                step()
            dynamic.append(np.stack(parts))
        return _result(subjects, found, dynamic, photographs)

    return Job(len(subjects) * len(photographs), run)


def find_kernels(subject: Subject) -> Kernels:
    """Find the kernels of a network.

    Raises:
        UserError: it has no ConvAttn with a large kernel.
    """
    parameters = dict(subject.network.named_parameters())
    names = [name for name in parameters if name.rpartition(".")[2] in (AVERAGED, DECOMPOSED)]
    if not names:
        raise UserError(f"{subject.label} has no ConvAttn with a large kernel; choose a network of the ESC family.")
    weight = parameters[names[0]].detach().float().cpu()
    averaged = average_over_square(weight).numpy() if names[0].endswith(AVERAGED) else None
    predictors = {}
    for name, module in subject.network.named_modules():
        if isinstance(module, PartialConvAttn):
            predictor = getattr(module.plk, "dwc_proj", None) or getattr(module.plk, "proj", None)
            if isinstance(predictor, nn.Module):
                predictors[name] = predictor
    return Kernels(names[0], len(names), weight.numpy(), averaged, predictors)


def dynamic_kernels(subject: Subject, predictors: dict[str, nn.Module], lq: torch.Tensor) -> Array:
    """Keep the kernels that a network computes from a picture, (ConvAttn, P, 3, 3)."""
    kept: dict[str, Array] = {}

    def keeper(name: str) -> Any:
        def keep(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
            kept[name] = output.float().cpu().numpy().reshape(-1, DYNAMIC_SIZE, DYNAMIC_SIZE)

        return keep

    handles = [module.register_forward_hook(keeper(name)) for name, module in predictors.items()]
    try:
        with torch.no_grad(), speedups.use(Speedups.none()):
            subject(lq)
    finally:
        for handle in handles:
            handle.remove()
    return np.stack([kept[name] for name in predictors]) if predictors else np.zeros((0, 0, 3, 3), np.float32)


def _result(
    subjects: list[Subject], found: list[Kernels], dynamic: list[Array], photographs: list[Photograph]
) -> Result:
    entries: list[dict[str, Any]] = []
    arrays: dict[str, Array] = {}
    sentences = []
    for number, (subject, own, kernels) in enumerate(zip(subjects, found, dynamic, strict=True)):
        arrays[f"large_{number}"], arrays[f"dynamic_{number}"] = own.stored, kernels
        entry: dict[str, Any] = {"network": subject.title, "large_kernel": own.name, "shape": list(own.stored.shape)}
        sentence = f"{subject.title}: {own.name}"
        if own.averaged is not None:
            arrays[f"averaged_{number}"] = own.averaged
            kept = float(np.linalg.norm(own.averaged) / max(float(np.linalg.norm(own.stored)), 1e-30))
            entry["norm_kept_by_averaging"] = kept
            sentence += f" keeps {100 * kept:.1f} % of its norm when it is averaged"
        entry["conv_attn"] = list(own.predictors)
        if own.predictors:
            size = float(np.sqrt((kernels**2).sum(axis=(3, 4)).mean()))
            spread = float(np.sqrt(kernels.var(axis=0).sum(axis=(2, 3)).mean()))
            entry |= {"norm_of_dynamic_kernels": size, "their_spread_over_pictures": spread}
            sentence += f"; dynamic kernels have a norm of {size:.2g}, and differ by {spread:.2g} between pictures"
        else:
            sentence += "; no ConvAttn has a dynamic kernel"
        entries.append(entry)
        sentences.append(sentence + ".")
    summary = {"pictures": [photograph.name for photograph in photographs], "networks": entries}
    return Result(_draw(subjects, found, dynamic, photographs), arrays, summary, sentences)


def mosaic(kernels: Array, columns: int) -> Array:
    """Lay kernels (n, k, k) side by side, `columns` in a row, with a gap of NaN between them."""
    count, size = len(kernels), kernels.shape[-1]
    rows = -(-count // columns)
    whole = np.full((rows * (size + 1) - 1, columns * (size + 1) - 1), np.nan)
    for number, kernel in enumerate(kernels):
        top, left = (size + 1) * (number // columns), (size + 1) * (number % columns)
        whole[top : top + size, left : left + size] = kernel
    return whole


def _draw(subjects: list[Subject], found: list[Kernels], dynamic: list[Array], photographs: list[Photograph]) -> Any:
    figure, axes = style.panels(2 * len(subjects), 4, style.COLUMN / 4 + 0.35)
    for number, (subject, own, kernels) in enumerate(zip(subjects, found, dynamic, strict=True)):
        upper, lower = axes[2 * number], axes[2 * number + 1]
        title = subject.title if own.number == 1 else f"{subject.title}, the first of {own.number} kernels"
        upper[0].set_xlabel(style.wrapped(title, style.COLUMN / 4))
        upper[0].set_ylabel("large")
        panels = [(own.stored, "stored", upper[0], upper[2]), (own.averaged, "averaged", upper[1], upper[3])]
        for weight, what, whole, single in panels:
            if weight is None:
                whole.axis("off")
                single.axis("off")
                continue
            style.show(whole, np.sqrt((weight**2).mean(axis=(0, 1))), cmap=style.MAP)
            whole.set_title(f"{what}, RMS")
            own_channel = np.stack([weight[channel, channel % weight.shape[1]] for channel in range(len(weight))])
            _signed(single, mosaic(own_channel, int(np.ceil(np.sqrt(len(own_channel))))))
            single.set_title(f"{what}, i to i")
        for column, panel in enumerate(lower):
            if column >= min(len(photographs), SHOWN) or not own.predictors:
                panel.axis("off")
                continue
            layers, channels = kernels.shape[1:3]
            # first layers have by far the largest: each is shown on a scale of its own, the same for all pictures
            shown = kernels[column] / np.maximum(np.abs(kernels).max(axis=(0, 2, 3, 4)), 1e-30)[:, None, None, None]
            _signed(panel, mosaic(shown.transpose(1, 0, 2, 3).reshape(-1, 3, 3), layers))
            panel.set_title(style.wrapped(photographs[column].name, style.COLUMN / 4))
            panel.set_xlabel(f"{layers} ConvAttn")
            if column == 0:
                panel.set_ylabel(f"dynamic, {channels} channels")
    return figure


def _signed(axes: Any, image: Array) -> None:
    largest = float(np.nanmax(np.abs(image))) or 1.0
    style.show(axes, image, cmap=style.SIGNED_MAP, vmin=-largest, vmax=largest)
