"""The effective receptive field: how far the pixels lie that change one pixel of the output.

Source: Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks" (NIPS 2016).
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch

from esc_arch.analyze import style
from esc_arch.analyze.networks import Subject
from esc_arch.analyze.photographs import Array, Photograph, central, to_tensor
from esc_arch.analyze.places import require_sides
from esc_arch.analyze.result import Job, Result, Step
from esc_arch.common.errors import UserError

MODULES = ()
OF_GRADIENTS = True
SIDE = 64
SHARES = (0.5, 0.9, 0.99)
SMALLEST = 3  # LQ pixels of a side
DECADES = 5  # powers of ten below the largest gradient that are shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this figure can be told, which is nothing of its own."""


def prepare(args: argparse.Namespace, subjects: list[Subject], photographs: list[Photograph]) -> Job:
    """Check what was given.

    Raises:
        UserError: pictures are too small, or of different sizes, so that they cannot be averaged.
    """
    require_sides(photographs, subjects, args.side, SMALLEST)
    for subject in subjects:
        sizes = {}
        for photograph in photographs:
            height, width = central(photograph.lq(subject.scale), args.side).shape[:2]
            sizes[height, width] = photograph.name
        if len(sizes) > 1:
            several = ", ".join(f"{name} {width} x {height}" for (height, width), name in sizes.items())
            raise UserError(f"--side: the pictures have different LQ sizes ({several}); choose a smaller --side.")

    def run(step: Step) -> Result:
        found = []
        for subject in subjects:
            parts = []
            for photograph in photographs:
                lq = central(photograph.lq(subject.scale), args.side)
                parts.append(gradients(subject, to_tensor(lq, subject.device)))
                step()
            found.append(np.mean(parts, axis=0))
        return _result(subjects, found, photographs)

    return Job(len(subjects) * len(photographs), run)


def gradients(subject: Subject, lq: torch.Tensor) -> Array:
    """How much each pixel of the input changes the pixel in the middle of the output.

    Args:
        subject: the network.
        lq: (1, 3, h, w); the pixel belongs to the one at (h // 2, w // 2).

    Returns:
        (h, w), the absolute values of the gradients, of all colours of both.
    """
    lq = lq.clone().requires_grad_(True)
    out = subject(lq)
    row, column = (side // 2 * subject.scale + subject.scale // 2 for side in lq.shape[-2:])
    total = torch.zeros(lq.shape[-2:], dtype=torch.float64, device=lq.device)
    for channel in range(out.shape[1]):
        (gradient,) = torch.autograd.grad(out[0, channel, row, column], lq, retain_graph=channel + 1 < out.shape[1])
        total += gradient[0].double().abs().sum(0)
    return total.cpu().numpy()


def side_of(values: Array, share: float) -> int:
    """Return the side of the smallest square around the middle that holds a share of the sum of `values`.

    Args:
        values: (h, w), none of them negative.
        share: in (0, 1].

    Returns:
        an odd number of pixels; what lies outside of the picture counts for nothing.
    """
    row, column = (side // 2 for side in values.shape)
    rows, columns = (np.abs(np.arange(side) - middle) for side, middle in zip(values.shape, (row, column), strict=True))
    distance = np.maximum(rows[:, None], columns[None])
    within = np.cumsum(np.bincount(distance.ravel(), values.ravel()))
    return 2 * int(np.searchsorted(within, share * within[-1] * (1 - 1e-12))) + 1


def _result(subjects: list[Subject], found: list[Array], photographs: list[Photograph]) -> Result:
    entries: list[dict[str, Any]] = []
    sentences = []
    for subject, field in zip(subjects, found, strict=True):
        if not field.any():
            raise UserError(f"{subject.label} has no gradients: its output does not depend on its input.")
        sides = {f"{share:.0%}": side_of(field, share) for share in SHARES}
        entries.append({"network": subject.title, "sides": sides})
        shown = ", ".join(f"{share} within {side} x {side}" for share, side in sides.items())
        sentences.append(f"{subject.title}: {shown} LQ pixels, of {field.shape[1]} x {field.shape[0]}.")
    arrays = {f"gradients_{number}": field for number, field in enumerate(found)}
    summary = {"pictures": [photograph.name for photograph in photographs], "networks": entries}
    return Result(_draw(subjects, found), arrays, summary, sentences)


def _draw(subjects: list[Subject], found: list[Array]) -> Any:
    columns = len(subjects)
    width = style.COLUMN if columns <= 3 else style.PAGE
    figure, axes = style.panels(1, columns, 0.8 * width / columns + 0.5, width)
    image = None
    for subject, field, own in zip(subjects, found, axes[0], strict=True):
        with np.errstate(divide="ignore"):
            decades = np.clip(np.log10(field / field.max()), -DECADES, 0)
        image = style.show(own, decades, cmap=style.MAP, vmin=-DECADES, vmax=0)
        own.set_title(style.wrapped(subject.title, width / columns))
        row, column = (side // 2 for side in field.shape)
        sides = [side_of(field, share) for share in SHARES]
        for side in sides:
            style.mark(own, column - side // 2, row - side // 2, side, side)
        shares = " / ".join(f"{100 * share:.0f}" for share in SHARES)
        own.set_xlabel(f"sides of {shares} %:\n{' / '.join(map(str, sides))} LQ pixels")
    bar = figure.colorbar(image, ax=list(axes.flat), fraction=0.05, ticks=[-DECADES, 0])
    bar.ax.set_yticklabels([f"1e-{DECADES}", "1"])
    return figure
