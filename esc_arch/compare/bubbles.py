"""What the pictures of PSNR against latency show: a bubble for each network, as large as its memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

Box = tuple[float, float, float, float]  # left, bottom, right, top
WIDE = 8  # times from the shortest to the longest from which on an axis is logarithmic


@dataclass(frozen=True)
class Bubble:
    """A network: latency in ms with its quartiles, PSNR in dB, and peak memory in MiB, None where it is unknown."""

    label: str
    latency: float
    quartiles: tuple[float, float]
    psnr: float
    memory: float | None


@dataclass(frozen=True)
class Chart:
    """One picture.

    Attributes:
        title: scale and dtype.
        file: name of the PNG.
        across: what the latency is.
        device: on what it was measured.
        up: what the PSNR is.
        bubbles: the networks with latency, those with most memory first, so that small ones lie in front.
        baselines: PSNR of those without.
    """

    title: str
    file: str
    across: str
    device: str
    up: str
    bubbles: list[Bubble]
    baselines: dict[str, float]

    @property
    def most(self) -> float:
        """The largest memory, 1 where none is known."""
        return self.bubbles[0].memory or 1

    def share(self, bubble: Bubble) -> float:
        """Return the area of a bubble as a part of that of the largest, at least a hundredth."""
        return max(bubble.memory or 0, self.most / 100) / self.most


def charts(summary: dict[str, Any], name: str | None = None) -> list[Chart]:
    """Return a chart for every scale and dtype of which networks have both PSNR and latency.

    Args:
        summary: see `summarise`.
        name: data set of the PSNR, None for the one that most networks have.
    """
    found = []
    dtypes = {line["dtype"] for line in summary["networks"]}
    for scale, dtype in sorted({(line["scale"], line["dtype"]) for line in summary["networks"] if line["scale"]}):
        lines = [line for line in summary["networks"] if (line["scale"], line["dtype"]) == (scale, dtype)]
        names = [
            found for line in lines if "latency_ms" in line for found in line["quality"] if _is_scored(line, found)
        ]
        chosen = name or max(dict.fromkeys(names), key=names.count, default=None)
        if chosen in names:
            file = f"psnr_latency_x{scale}{f'_{dtype}' if len(dtypes) > 1 else ''}.png"
            found.append(_chart(summary, lines, str(chosen), file))
    return found


def _chart(summary: dict[str, Any], lines: list[dict[str, Any]], name: str, file: str) -> Chart:
    scale, dtype = lines[0]["scale"], lines[0]["dtype"]
    height, width = summary["protocol"]["input"][f"x{scale}"]
    scored = [line for line in lines if _is_scored(line, name)]
    timed = sorted((line for line in scored if "latency_ms" in line), key=lambda line: -(line["memory_mib"] or 0))
    bubbles = []
    for line in timed:
        latency = line["latency_ms"]
        quartiles = latency["q1"], latency["q3"]
        psnr = line["quality"][name]["psnr"]
        bubbles.append(Bubble(line["label"], latency["median"], quartiles, psnr, line["memory_mib"]))
    return Chart(
        title=f"x{scale}, {dtype}",
        file=file,
        across=f"latency in ms, input {height} x {width}, {dtype}",
        device=f"on {summary['environment']['gpu'] or summary['environment']['cpu']}",
        up=f"PSNR-Y in dB on {name}, x{scale}",
        bubbles=bubbles,
        baselines={line["label"]: line["quality"][name]["psnr"] for line in scored if "latency_ms" not in line},
    )


def _is_scored(line: dict[str, Any], name: str) -> bool:
    """Whether there is a PSNR that can be drawn; that of equal images is infinite."""
    return math.isfinite(line["quality"].get(name, {}).get("psnr", math.inf))


def is_wide(times: list[float]) -> bool:
    """Tell whether times differ so much that their axis is logarithmic."""
    return max(times) > WIDE * min(times)


def round_sizes(most: float) -> list[float]:
    """Return two sizes of memory that explain the bubbles: a round one near the largest, and a quarter of it."""
    top = 10 ** math.floor(math.log10(most))
    return [top * (most // top), top * (most // top) / 4]


def mebibytes(size: float) -> str:
    """Write a size of memory."""
    return f"{size:.3g} MiB" if size < 1000 else f"{size:.0f} MiB"


def overlap(a: Box, b: Box) -> float:
    """Return the area that two boxes share."""
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
