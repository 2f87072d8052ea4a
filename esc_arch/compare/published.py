"""What was published of networks: parameters, latency and memory, PSNR and SSIM; read from `published.yml`."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

Line = dict[str, Any]
TOLERANCE = 0.02  # dB, what rounding of the data and of the figure explains
BENCHMARKS = {"bsd100": "b100", "bsds100": "b100"}  # other names of data sets


@dataclass(frozen=True)
class Scores:
    """PSNR and SSIM of a network after one training.

    Attributes:
        source: where they were printed.
        figures: PSNR in dB and SSIM by scale and data set, in lower case; None where one was not printed.
        mark: part of the name of option file or checkpoint that tells this training from the usual one; may be empty.
        misprints: scale, data set and `psnr` or `ssim` of what is likely a mistake of print.
    """

    source: str
    figures: dict[int, dict[str, tuple[float | None, float | None]]]
    mark: str = ""
    misprints: frozenset[tuple[int, str, str]] = frozenset()


@dataclass(frozen=True)
class Published:
    """A network in its published configuration; the dictionaries are by scale.

    Attributes:
        name: as in papers.
        type: as in option files.
        parameters: their number; with the type it tells a published configuration from others.
        latency_ms: milliseconds, as far as published; see `paper`.
        memory_mb: megabytes, likewise.
        in_table: it is a row of the paper's Table 2.
        quality: PSNR and SSIM, by training.
    """

    name: str
    type: str
    parameters: dict[int, int]
    latency_ms: dict[int, float] = field(default_factory=dict)
    memory_mb: dict[int, int] = field(default_factory=dict)
    in_table: bool = False
    quality: tuple[Scores, ...] = ()


def _read() -> tuple[Published, ...]:
    content = yaml.safe_load((Path(__file__).parent / "published.yml").read_text(encoding="utf-8"))
    networks = []
    for name, entry in content["networks"].items():
        quality = tuple(_scores(scores, content["sources"]) for scores in entry.pop("quality", ()))
        networks.append(Published(name, **entry, quality=quality))
    return tuple(networks)


def _scores(entry: dict[Any, Any], sources: dict[str, str]) -> Scores:
    figures = {
        scale: {name.lower(): (psnr, *(ssim or [None])) for name, (psnr, *ssim) in sets.items()}
        for scale, sets in entry.items()
        if isinstance(scale, int)
    }
    misprints = frozenset(
        (scale, name.lower(), figure)
        for scale, sets in entry.get("misprints", {}).items()
        for name, figure in sets.items()
    )
    return Scores(sources[entry["source"]], figures, entry.get("mark", ""), misprints)


NETWORKS = _read()
REFERENCE = NETWORKS[-1]


@functools.cache
def named(name: str) -> Published:
    """Return the network of this name."""
    return next(network for network in NETWORKS if network.name == name)


def published(line: Line) -> Published | None:
    """Return the published network that a measured line is, None for any other."""
    count, scale = line.get("parameters"), line.get("scale")
    if count is None or scale is None:
        return None
    of_type = (network for network in NETWORKS if network.type == line.get("type"))
    return next((network for network in of_type if network.parameters.get(scale) == count), None)


def set_beside(lines: list[Line]) -> None:
    """Add to every scored network its `published`: for each data set what was published beside what was measured.

    Args:
        lines: the networks, see `summarise`; they are changed. `published` is a list of dictionaries with the data
            `set`, the `source`, for `psnr` (dB) and `ssim` the `published` figure, the `measured` one, their
            `difference` and whether it is a likely `misprint`, and `differs`: PSNR by more than `TOLERANCE`.
    """
    for line in lines:
        network = published(line)
        scores = _of_this_training(network, line) if network else None
        if scores is None:
            continue
        found = [_beside(scores, line["scale"], name, values) for name, values in line["quality"].items()]
        if beside := [comparison for comparison in found if comparison is not None]:
            line["published"] = beside


def _of_this_training(network: Published, line: Line) -> Scores | None:
    names = " ".join(os.path.basename(line.get(key) or "") for key in ("file", "weights")).lower()
    marked = [scores for scores in network.quality if scores.mark and scores.mark.lower() in names]
    return next(iter([*marked, *(scores for scores in network.quality if not scores.mark)]), None)


def _beside(scores: Scores, scale: int, name: str, measured: dict[str, float]) -> dict[str, Any] | None:
    key = BENCHMARKS.get(name.lower(), name.lower())
    figures = dict(zip(("psnr", "ssim"), scores.figures.get(scale, {}).get(key, (None, None)), strict=True))
    comparison: dict[str, Any] = {"set": name, "source": scores.source, "differs": False}
    for metric, figure in figures.items():
        if figure is not None and metric in measured:
            comparison[metric] = {
                "published": figure,
                "measured": measured[metric],
                "difference": measured[metric] - figure,
                "misprint": (scale, key, metric) in scores.misprints,
            }
    if "psnr" in comparison:
        comparison["differs"] = round(abs(comparison["psnr"]["difference"]), 6) > TOLERANCE
    return comparison if {"psnr", "ssim"} & comparison.keys() else None
