"""Draws PSNR against latency, with bubbles as large as the memory."""

from __future__ import annotations

import math
import os
from typing import Any, NamedTuple

from esc_arch.common.whole_files import replacing

LARGEST = 1300  # area of the largest bubble in square points
DIRECTIONS = [(0, 1), (1, 0), (-1, 0), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)]  # of a name, from its bubble
BAR = 4  # pixels kept free around an error bar
HORIZONTAL = {1: "left", 0: "center", -1: "right"}
VERTICAL = {1: "bottom", 0: "center", -1: "top"}
Box = tuple[float, float, float, float]  # left, bottom, right, top


class Point(NamedTuple):
    """A bubble: where, the ends of its bar, its radius in points, its name and its colour."""

    x: float
    ends: tuple[float, float]
    y: float
    radius: float
    label: str
    colour: str


def draw(summary: dict[str, Any], folder: str, name: str | None = None) -> list[str]:
    """Draw a picture for every scale, `psnr_latency_xS.png`, and dtype, `psnr_latency_xS_fp16.png`, if several.

    Args:
        summary: see `summarise`.
        folder: where to put it.
        name: data set of the PSNR, None for the one that most networks have.

    Returns:
        the paths of the pictures; none where no network has both PSNR and latency.

    Raises:
        ImportError: matplotlib is missing.
    """
    files = []
    dtypes = {line["dtype"] for line in summary["networks"]}
    for scale, dtype in sorted({(line["scale"], line["dtype"]) for line in summary["networks"] if line["scale"]}):
        lines = [line for line in summary["networks"] if (line["scale"], line["dtype"]) == (scale, dtype)]
        names = [found for line in lines if "latency_ms" in line for found in line["quality"]]
        chosen = name or max(dict.fromkeys(names), key=names.count, default=None)
        if chosen in names:
            file = f"psnr_latency_x{scale}{f'_{dtype}' if len(dtypes) > 1 else ''}.png"
            files.append(_draw(summary, lines, str(chosen), os.path.join(folder, file)))
    return files


def _draw(summary: dict[str, Any], lines: list[dict[str, Any]], name: str, file: str) -> str:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("matplotlib is missing; pip install 'esc_arch[compare]'") from error

    scored = [line for line in lines if "psnr" in line["quality"].get(name, {})]
    bubbles = [line for line in scored if "latency_ms" in line]
    bubbles.sort(key=lambda line: -(line["memory_mib"] or 0))  # small ones in front of large ones
    figure = Figure(figsize=(7.4, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    most = (bubbles[0]["memory_mib"] or 0) or 1
    points = []
    for index, line in enumerate(bubbles):
        latency, psnr = line["latency_ms"], line["quality"][name]["psnr"]
        area = LARGEST * max(line["memory_mib"] or 0, most / 100) / most
        spread = [[latency["median"] - latency["q1"]], [latency["q3"] - latency["median"]]]
        colour = f"C{index % 10}"
        axes.scatter(latency["median"], psnr, area, color=colour, alpha=0.55, edgecolors="white")
        axes.errorbar(latency["median"], psnr, xerr=spread, color=colour, elinewidth=1, capsize=2)
        ends = latency["q1"], latency["q3"]
        points.append(Point(latency["median"], ends, psnr, math.sqrt(area / math.pi), line["label"], colour))
    _scale_axes(axes, points)
    device = summary["environment"]["gpu"] or summary["environment"]["cpu"]
    scale = lines[0]["scale"]
    height, width = summary["protocol"]["input"][f"x{scale}"]
    axes.set_xlabel(f"latency in ms, input {height} x {width}, {lines[0]['dtype']}\non {device}")
    axes.set_ylabel(f"PSNR-Y in dB on {name}, x{scale}")
    _add_baselines(axes, {line["label"]: line["quality"][name]["psnr"] for line in scored if line not in bubbles})
    _add_sizes(figure, axes, most)
    _add_names(figure, axes, points)
    with replacing(file) as stream:
        figure.savefig(stream, format="png", dpi=200)
    return file


def _scale_axes(axes: Any, points: list[Point]) -> None:
    from matplotlib.ticker import ScalarFormatter

    times = [point.x for point in points]
    if max(times) > 8 * min(times):
        axes.set_xscale("log", subs=[2, 5])
        for formatter in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            formatter(ScalarFormatter())
    axes.margins(0.18)
    axes.set_ylim(axes.get_ylim())  # baselines far below must not press the networks together
    axes.grid(alpha=0.3, which="both")
    axes.set_axisbelow(True)


def _add_baselines(axes: Any, baselines: dict[str, float]) -> None:
    """Draw networks without latency as lines, or name them at the edge of the picture when they are outside of it."""
    lowest, highest = axes.get_ylim()
    for label, psnr in baselines.items():
        if lowest <= psnr <= highest:
            axes.axhline(psnr, color="grey", linestyle="--", linewidth=1, zorder=0)
        where = " (below)" if psnr < lowest else " (above)" if psnr > highest else ""
        upper = psnr > (lowest + highest) / 2
        axes.annotate(
            f"{label}: {psnr:.2f} dB{where}",
            (0.01, min(max(psnr, lowest), highest)),
            (0, -3 if upper else 3),
            xycoords=axes.get_yaxis_transform(),
            textcoords="offset points",
            va="top" if upper else "bottom",
            color="grey",
            size=8,
        )


def _add_sizes(figure: Any, axes: Any, most: float) -> None:
    """Explain the bubbles by two of round sizes, beside the picture, where they cover nothing."""
    top = 10 ** math.floor(math.log10(most))
    sizes = [top * (most // top), top * (most // top) / 4]
    handles = [axes.scatter([], [], LARGEST * size / most, color="grey", alpha=0.4) for size in sizes]
    style = {"fontsize": 8, "title_fontsize": 8, "labelspacing": 3, "borderpad": 1, "handlelength": 4.5}
    labels = [f"{size:.3g} MiB" if size < 1000 else f"{size:.0f} MiB" for size in sizes]
    figure.legend(handles, labels, title="peak memory\n", loc="outside right upper", **style)


def _add_names(figure: Any, axes: Any, points: list[Point]) -> None:
    """Write the name of every bubble beside it, where it covers no name and no bubble, if there is such a place."""
    figure.draw_without_rendering()
    frame = axes.get_window_extent()
    taken: list[Box] = [text.get_window_extent().extents for text in axes.texts]
    for point in points:
        (x, y), pixels = axes.transData.transform((point.x, point.y)), point.radius * figure.dpi / 72
        taken.append((x - pixels, y - pixels, x + pixels, y + pixels))
        (left, _), (right, _) = (axes.transData.transform((end, point.y)) for end in point.ends)
        taken.append((left - BAR, y - BAR, right + BAR, y + BAR))
    for point in points:
        candidates: list[tuple[float, int, Any, Box]] = []
        for far in (1, 2.2):
            for right, up in DIRECTIONS:
                text = axes.annotate(
                    point.label,
                    (point.x, point.y),
                    (right * (point.radius * far + 3), up * (point.radius * far + 3)),
                    textcoords="offset points",
                    size=8,
                    color=point.colour,
                    ha=HORIZONTAL[right],
                    va=VERTICAL[up],
                    in_layout=False,
                )
                box = text.get_window_extent(figure.canvas.get_renderer())
                inside = _overlap(box.extents, frame.extents) / (box.width * box.height)
                cost = sum(_overlap(box.extents, other) for other in taken) + 1e6 * (1 - inside) + far
                candidates.append((cost, len(candidates), text, box.extents))
        candidates.sort(key=lambda candidate: candidate[:2])
        taken.append(candidates[0][3])
        for _, _, text, _ in candidates[1:]:
            text.remove()


def _overlap(a: Box, b: Box) -> float:
    """Return the area that two boxes share."""
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
