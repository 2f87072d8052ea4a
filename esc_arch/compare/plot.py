"""Draws PSNR against latency, with bubbles as large as the memory."""

from __future__ import annotations

import math
import os
from typing import Any, NamedTuple

from esc_arch.common.whole_files import replacing
from esc_arch.compare.bubbles import Chart, charts, is_wide, mebibytes, overlap, round_sizes

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
    return [_draw(chart, os.path.join(folder, chart.file)) for chart in charts(summary, name)]


def _draw(chart: Chart, file: str) -> str:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("matplotlib is missing; pip install 'esc_arch[compare]'") from error

    figure = Figure(figsize=(7.4, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    points = []
    for index, bubble in enumerate(chart.bubbles):
        area, colour = LARGEST * chart.share(bubble), f"C{index % 10}"
        spread = [[bubble.latency - bubble.quartiles[0]], [bubble.quartiles[1] - bubble.latency]]
        axes.scatter(bubble.latency, bubble.psnr, area, color=colour, alpha=0.55, edgecolors="white")
        axes.errorbar(bubble.latency, bubble.psnr, xerr=spread, color=colour, elinewidth=1, capsize=2)
        radius = math.sqrt(area / math.pi)
        points.append(Point(bubble.latency, bubble.quartiles, bubble.psnr, radius, bubble.label, colour))
    _scale_axes(axes, points)
    axes.set_xlabel(f"{chart.across}\n{chart.device}")
    axes.set_ylabel(chart.up)
    _add_baselines(axes, chart.baselines)
    _add_sizes(figure, axes, chart.most)
    _add_names(figure, axes, points)
    with replacing(file) as stream:
        figure.savefig(stream, format="png", dpi=200)
    return file


def _scale_axes(axes: Any, points: list[Point]) -> None:
    from matplotlib.ticker import ScalarFormatter

    times = [point.x for point in points]
    if is_wide(times):
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
    sizes = round_sizes(most)
    handles = [axes.scatter([], [], LARGEST * size / most, color="grey", alpha=0.4) for size in sizes]
    style = {"fontsize": 8, "title_fontsize": 8, "labelspacing": 3, "borderpad": 1, "handlelength": 4.5}
    labels = [mebibytes(size) for size in sizes]
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
                inside = overlap(box.extents, frame.extents) / (box.width * box.height)
                cost = sum(overlap(box.extents, other) for other in taken) + 1e6 * (1 - inside) + far
                candidates.append((cost, len(candidates), text, box.extents))
        candidates.sort(key=lambda candidate: candidate[:2])
        taken.append(candidates[0][3])
        for _, _, text, _ in candidates[1:]:
            text.remove()
