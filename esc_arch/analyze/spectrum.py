"""Which frequencies live in the features of each layer.

Source: Park and Kim, "How Do Vision Transformers Work?" (ICLR 2022), Fig. 2: log amplitude of the Fourier transform.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch

from esc_arch.analyze import style
from esc_arch.analyze.layers import Layer, add_layers_argument, find_layers, watched, without_padding
from esc_arch.analyze.networks import Subject
from esc_arch.analyze.photographs import Array, Photograph, central, to_tensor
from esc_arch.analyze.places import require_sides
from esc_arch.analyze.result import Job, Result, Step

MODULES = ()
OF_GRADIENTS = False
SIDE = 64
SMALLEST = 8  # LQ pixels of a side, for a few frequencies
BINS = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this figure can be told."""
    add_layers_argument(parser)


def prepare(args: argparse.Namespace, subjects: list[Subject], photographs: list[Photograph]) -> Job:
    """Check what was given.

    Raises:
        UserError: a network has no layers, or a picture is too small.
    """
    layers = [find_layers(subject, args.layers) for subject in subjects]
    require_sides(photographs, subjects, args.side, SMALLEST)

    def run(step: Step) -> Result:
        found = []
        for subject, own in zip(subjects, layers, strict=True):
            found.append(spectra(subject, own, photographs, args.side, step))
        return _result(subjects, layers, found, photographs)

    return Job(len(subjects) * len(photographs), run)


def spectra(subject: Subject, layers: list[Layer], photographs: list[Photograph], side: int, step: Step) -> Array:
    """Average the spectra of the features of all pictures, (layers, BINS)."""
    total = np.zeros((len(layers), BINS))
    for photograph in photographs:
        lq = to_tensor(central(photograph.lq(subject.scale), side), subject.device)
        with torch.no_grad(), watched(subject, layers) as features:
            subject(lq)
        images = [without_padding(image, lq, subject.window) for image in features.images]
        total += [amplitudes(image[0].cpu().numpy()) for image in images]
        step()
    return total / len(photographs)


def frequencies() -> Array:
    """The middle of each bin, in cycles per pixel."""
    return (np.arange(BINS) + 0.5) / BINS / 2


def amplitudes(image: Array) -> Array:
    """Average the amplitudes of the Fourier transform over channels and directions.

    Args:
        image: (C, h, w); its mean is taken off, and its borders are faded out (Hann), or they would add frequencies.

    Returns:
        (BINS,), from 0 to 0.5 cycles per pixel; diagonal frequencies beyond are left. A bin without any frequency, in
        a small image, is interpolated.
    """
    height, width = image.shape[1:]
    fading = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
    centred = image.astype(np.float64) - image.mean(axis=(1, 2), keepdims=True, dtype=np.float64)
    amplitude = np.abs(np.fft.fft2(centred * fading)).mean(axis=0) / fading.sum()
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    radius[0, 0] = np.inf  # the mean
    number = np.minimum((radius * 2 * BINS).clip(0, BINS + 1).astype(int), BINS)
    counts = np.bincount(number.ravel(), minlength=BINS + 1)[:BINS]
    sums = np.bincount(number.ravel(), amplitude.ravel(), minlength=BINS + 1)[:BINS]
    known = counts > 0
    return np.interp(np.arange(BINS), np.flatnonzero(known), sums[known] / counts[known])


def _logarithm(values: Array) -> Array:
    return np.log10(np.maximum(values, np.finfo(np.float64).tiny))


def _result(
    subjects: list[Subject], layers: list[list[Layer]], found: list[Array], photographs: list[Photograph]
) -> Result:
    entries: list[dict[str, Any]] = []
    sentences = []
    for subject, own, values in zip(subjects, layers, found, strict=True):
        logarithm = _logarithm(values)
        falls = logarithm[:, -1] - logarithm[:, 0]
        entries.append({"network": subject.title, "layers": [layer.name for layer in own], "falls": falls.tolist()})
        sentences.append(
            f"{subject.title}: from the lowest to the highest frequencies the amplitude falls by "
            f"{-falls[0]:.2f} powers of ten in the first of {len(own)} layers, by {-falls[-1]:.2f} in the last."
        )
    arrays: dict[str, Array] = {"cycles_per_pixel": frequencies()}
    arrays |= {f"amplitudes_{number}": values for number, values in enumerate(found)}
    summary = {"pictures": [photograph.name for photograph in photographs], "networks": entries}
    return Result(_draw(subjects, found), arrays, summary, sentences)


def _draw(subjects: list[Subject], found: list[Array]) -> Any:
    import matplotlib

    columns = len(subjects)
    width = style.COLUMN if columns <= 2 else style.PAGE
    figure, axes = style.panels(1, columns, 2.2, width, sharey=True)
    for subject, values, own in zip(subjects, found, axes[0], strict=True):
        logarithm = _logarithm(values)
        for number, line in enumerate(logarithm):
            depth = number / max(len(logarithm) - 1, 1)
            own.plot(frequencies(), line - line[0], color=matplotlib.colormaps[style.OTHER_MAP](depth))
        own.set_title(style.wrapped(subject.title, width / columns))
        own.set_xlabel("cycles per pixel")
        own.grid(alpha=0.3, linewidth=0.5)
    axes[0, 0].set_ylabel("log10 of relative amplitude")
    scale = matplotlib.cm.ScalarMappable(cmap=style.OTHER_MAP)
    bar = figure.colorbar(scale, ax=list(axes.flat), fraction=0.05, ticks=[0, 1])
    bar.ax.set_yticklabels(["first\nlayer", "last\nlayer"])
    return figure
