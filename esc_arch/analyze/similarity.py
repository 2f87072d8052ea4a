"""How similar layers are to each other: linear CKA of their features, cosine of their attention maps."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch

from esc_arch.analyze import style
from esc_arch.analyze.attention_maps import Cosines, listened
from esc_arch.analyze.cka import LinearCKA, neighbours
from esc_arch.analyze.layers import Layer, add_layers_argument, find_layers, watched, without_padding
from esc_arch.analyze.networks import Subject
from esc_arch.analyze.photographs import Array, Photograph, central, to_tensor
from esc_arch.analyze.places import require_sides
from esc_arch.analyze.result import Job, Result, Step

MODULES = ()
OF_GRADIENTS = False
SIDE = 64
SMALLEST = 2  # LQ pixels of a side: CKA needs four in all


class Similarity(NamedTuple):
    """Of the layers of one network.

    Attributes:
        layers: names of the layers.
        cka: of all pairs.
        maps: names of the modules with attention maps.
        cosines: of all pairs of maps, None where there are fewer than two.
        left_out: names of layers whose features are of another size than those of most.
    """

    layers: list[str]
    cka: Array
    maps: list[str]
    cosines: Array | None
    left_out: Sequence[str] = ()


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
            found.append(compare_layers(subject, own, photographs, args.side, step))
        return _result(subjects, found, photographs)

    return Job(len(subjects) * len(photographs), run)


def compare_layers(
    subject: Subject, layers: list[Layer], photographs: list[Photograph], side: int, step: Step
) -> Similarity:
    """Compare the layers of a network; memory does not grow with the number of pictures."""
    cka: LinearCKA | None = None
    cosines = Cosines()
    kept: list[int] = []
    for photograph in photographs:
        lq = to_tensor(central(photograph.lq(subject.scale), side), subject.device)
        with torch.no_grad(), listened(subject.network) as attention, watched(subject, layers) as features:
            subject(lq)
        images = [without_padding(image, lq, subject.window) for image in features.images]
        if cka is None:
            sizes = [image.shape[-2:] for image in images]
            common = max(sizes, key=sizes.count)
            # of others, pixels do not correspond
            kept = [number for number, size in enumerate(sizes) if size == common]
            cka = LinearCKA([images[number].shape[1] for number in kept])
        cka.add([images[number][0].flatten(1).t().cpu().numpy() for number in kept])
        cosines.add(attention)
        step()
    assert cka is not None
    names = [layer.name for layer in layers]
    of_maps = cosines.result() if len(cosines.names) > 1 else None
    left_out = [name for number, name in enumerate(names) if number not in kept]
    return Similarity([names[number] for number in kept], cka.result(), cosines.names, of_maps, left_out)


def _result(subjects: list[Subject], found: list[Similarity], photographs: list[Photograph]) -> Result:
    entries: list[dict[str, Any]] = []
    arrays: dict[str, Array] = {}
    sentences = []
    for number, (subject, own) in enumerate(zip(subjects, found, strict=True)):
        near = neighbours(own.cka)
        near_maps = None if own.cosines is None else neighbouring_maps(own)
        arrays[f"cka_{number}"] = own.cka
        if own.cosines is not None:
            arrays[f"cosines_{number}"] = own.cosines
        entries.append(
            {
                "network": subject.title,
                "layers": own.layers,
                "left_out": list(own.left_out),
                "cka_of_neighbours": near,
                "attention_maps": own.maps,
                "cosine_of_neighbours": near_maps,
            }
        )
        sentences.append(f"{subject.title}: {_in_words(own, near, near_maps)}.")
    summary = {"pictures": [photograph.name for photograph in photographs], "networks": entries}
    return Result(_draw(subjects, found), arrays, summary, sentences)


def _in_words(own: Similarity, near: float | None, near_maps: float | None) -> str:
    words = f"CKA of neighbouring layers {_percent(near)} on average, of {len(own.layers)} layers"
    if own.left_out:
        words += f" ({len(own.left_out)} of another size are left out)"
    if own.cosines is None:
        return (
            f"{words}; it has {'no attention maps' if not own.maps else 'one attention map'}, so no cosine between any"
        )
    if near_maps is None:
        return f"{words}; neighbouring attention maps differ in shape, so no cosine between them"
    return f"{words}; cosine of neighbouring attention maps {_percent(near_maps)}, of {len(own.maps)}"


def neighbouring_maps(own: Similarity) -> float | None:
    """Average the cosine between maps that follow each other among those of one kind: their names differ in numbers."""
    kinds: dict[str, list[int]] = {}
    for number, name in enumerate(own.maps):
        module, times, which = name.partition("#")
        kinds.setdefault(re.sub(r"\d+", "", module) + times + which, []).append(number)
    assert own.cosines is not None
    cosines = [own.cosines[a, b] for numbers in kinds.values() for a, b in pairwise(numbers)]
    known = [cosine for cosine in cosines if np.isfinite(cosine)]
    return float(np.mean(known)) if known else None


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.1f} %"


def _draw(subjects: list[Subject], found: list[Similarity]) -> Any:
    count = len(subjects)
    width = style.COLUMN if count <= 3 else style.PAGE
    kinds = 2 if any(own.cosines is not None for own in found) else 1
    across = kinds if count == 1 else count
    figure, axes = style.panels(1 if count == 1 else kinds, across, width / max(across, 2) + 0.25, width)
    of_kinds = axes.T if count == 1 else axes
    image = None
    for column, (subject, own) in enumerate(zip(subjects, found, strict=True)):
        image = _heat(of_kinds[0, column], own.cka, f"layer\nCKA of neighbours\n{_percent(neighbours(own.cka))}")
        of_kinds[0, column].set_title(style.wrapped(subject.title, width / across))
        if kinds == 2 and own.cosines is not None:
            near = _percent(neighbouring_maps(own))
            _heat(of_kinds[1, column], own.cosines, f"attention map\ncosine of neighbours\n{near}")
        elif kinds == 2:
            of_kinds[1, column].axis("off")
            of_kinds[1, column].text(0.5, 0.5, "no maps\nto compare", ha="center", va="center")
    figure.colorbar(image, ax=list(axes.flat), fraction=0.05, ticks=[0, 0.5, 1])
    return figure


def _heat(axes: Any, similarity: Array, label: str) -> Any:
    axes.set_facecolor("0.8")  # of pairs that cannot be compared
    image = axes.imshow(np.clip(similarity, 0, 1), cmap=style.MAP, vmin=0, vmax=1)
    count = len(similarity)
    ticks = sorted({0, count // 2, count - 1})
    axes.set_xticks(ticks, [str(tick + 1) for tick in ticks])
    axes.set_yticks(ticks, [str(tick + 1) for tick in ticks])
    axes.set_xlabel(label)
    return image
