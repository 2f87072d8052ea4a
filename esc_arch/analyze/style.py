"""How figures look: as wide as one or two columns of a paper, in type that can be read there, in safe colours."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from esc_arch.analyze.photographs import Array

COLUMN, PAGE = 3.25, 6.875  # inches, of two-column papers
TYPE = 7  # points, the smallest type
CHARACTER = 0.6 * TYPE / 72  # inches, about as wide as a letter is
RULES = {
    "font.size": TYPE,
    "axes.titlesize": TYPE,
    "axes.labelsize": TYPE,
    "xtick.labelsize": TYPE,
    "ytick.labelsize": TYPE,
    "legend.fontsize": TYPE,
    "axes.linewidth": 0.5,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2,
    "ytick.major.size": 2,
    "lines.linewidth": 1,
    "axes.titlepad": 3,
    "pdf.fonttype": 42,  # letters stay letters, as publishers ask
    "image.interpolation": "nearest",
}
MAP, OTHER_MAP, SIGNED_MAP = "viridis", "cividis", "PuOr"  # all told apart by the colour-blind
MARK = "#d55e00"  # vermilion of Okabe and Ito
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#000000", "#f0e442")


@contextmanager
def styled() -> Iterator[None]:
    """Let what is drawn within look so."""
    import matplotlib

    with matplotlib.rc_context(RULES):
        yield


def panels(rows: int, columns: int, height: float, width: float | None = None, **options: Any) -> tuple[Any, Array]:
    """Make a figure of panels.

    Args:
        rows, columns: their number.
        height: of a row in inches, for a figure as wide as a column; wider figures are scaled.
        width: of the figure in inches; None for one column, two where panels would get too small.
        options: of `Figure.subplots`.

    Returns:
        the figure, and its axes (rows, columns).
    """
    figure = _figure(width or (COLUMN if columns <= 4 else PAGE), height * rows)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def pairs_of_panels(
    pairs: int, rows: int, columns: int, height: float, width: float, ratio: float
) -> tuple[Any, list[tuple[Any, list[Any]]]]:
    """Make a figure of large panels, each with small ones at its right.

    Args:
        pairs: number of large panels, below each other.
        rows, columns: of small ones beside each.
        height: of a row of small ones, in inches.
        width: of the figure, in inches.
        ratio: how much wider a large one is than a small one.

    Returns:
        the figure, and for each pair the large panel and the small ones.
    """
    figure = _figure(width, height * rows * pairs)
    grid = figure.add_gridspec(pairs * rows, columns + 1, width_ratios=[ratio, *[1] * columns])
    found = []
    for pair in range(pairs):
        first = pair * rows
        whole = figure.add_subplot(grid[first : first + rows, 0])
        places = [(first + row, column) for row in range(rows) for column in range(1, columns + 1)]
        found.append((whole, [figure.add_subplot(grid[place]) for place in places]))
    return figure, found


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def wrapped(text: str, inches: float) -> str:
    """Break a label into lines that fit into a width."""
    letters = max(int(inches / CHARACTER), 6)
    spaced = text.replace("_", "_\u200b").replace("-", "-\u200b")
    lines = textwrap.wrap(spaced.replace("\u200b", " \u200b"), letters, break_long_words=True, break_on_hyphens=False)
    return "\n".join(line.replace(" \u200b", "").replace("\u200b", "") for line in lines)


def bare(axes: Any) -> None:
    """Take the ticks off a picture, and leave its labels."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def show(axes: Any, image: Array, **options: Any) -> Any:
    """Show a picture without ticks; colours are clipped to [0, 1]."""
    bare(axes)
    if image.ndim == 3:
        image = np.clip(image, 0, 1)
    return axes.imshow(image, **options)


def mark(axes: Any, left: float, top: float, width: float, height: float) -> None:
    """Draw a frame around pixels of a picture."""
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, fill=False, color=MARK, linewidth=1))


def over(grey: Array, values: Array, colours: str = MAP, decades: float = 3) -> Array:
    """Lay a map over a picture, the larger the more of its colour, in the scale of the logarithm.

    Args:
        grey: (h, w) in [0, 1].
        values: (h, w), not negative.
        colours: a map of matplotlib.
        decades: how many powers of ten below the largest value are told apart.

    Returns:
        (h, w, 3) in [0, 1].
    """
    import matplotlib

    largest = float(values.max())
    smallest = np.finfo(np.float64).tiny
    share = np.clip(1 + np.log10(np.maximum(values / (largest or 1), smallest)) / decades, 0, 1)
    coloured = matplotlib.colormaps[colours](share)[..., :3]
    alpha = np.clip(2 * share, 0, 0.85)[..., None]
    return alpha * coloured + (1 - alpha) * grey[..., None]
