"""Draws PSNR against latency as SVG within the page: in its colours, with names that are text."""

from __future__ import annotations

import math
from html import escape

from esc_arch.compare.bubbles import Box, Bubble, Chart, is_wide, mebibytes, overlap, round_sizes

WIDTH, HEIGHT = 760, 440
LEFT, TOP, RIGHT, BOTTOM = 64, 16, 620, 372  # of the frame
RADIUS = 27.0  # of the largest bubble
MARGIN = 0.14  # of the range, around the bubbles
LETTER, LINE = 6.6, 14  # width of a letter and height of a line of names, about
COLOURS = 10
DIRECTIONS = [(0, -1), (1, 0), (-1, 0), (0, 1), (1, -1), (-1, -1), (1, 1), (-1, 1)]  # of a name, from its bubble
ANCHORS = {1: "start", 0: "middle", -1: "end"}


class Axis:
    """From values to places.

    Args:
        values: what must be seen.
        ends: the places of its ends.
        logarithmic: the scale.
    """

    def __init__(self, values: list[float], ends: tuple[float, float], logarithmic: bool = False) -> None:
        self.logarithmic = logarithmic
        low, high = self._of(min(values)), self._of(max(values))
        room = MARGIN * (high - low) or 0.05 * abs(high) or 1.0
        self.low, self.high, self.ends = low - room, high + room, ends

    def _of(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value

    def place(self, value: float) -> float:
        """Return the place of a value."""
        part = (self._of(value) - self.low) / (self.high - self.low)
        return self.ends[0] + part * (self.ends[1] - self.ends[0])

    def ticks(self) -> list[tuple[float, str]]:
        """Return round values and how they are written."""
        if self.logarithmic:
            decades = range(math.floor(self.low), math.ceil(self.high) + 1)
            values = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
            return [(value, f"{value:g}") for value in values if self.low <= math.log10(value) <= self.high]
        step = _round_step(self.high - self.low)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        digits = max(-math.floor(math.log10(step)), 0)
        return [(number * step, f"{number * step:.{digits}f}") for number in range(first, last + 1)]


def drawn(chart: Chart, number: int) -> str:
    """Draw a chart.

    Args:
        chart: what it shows.
        number: of the chart on the page.

    Returns:
        an element `svg`; all texts are escaped.
    """
    times = [bubble.latency for bubble in chart.bubbles]
    quartiles = [end for bubble in chart.bubbles for end in bubble.quartiles]
    across = Axis([*times, *quartiles], (LEFT, RIGHT), is_wide(times))
    up = Axis([bubble.psnr for bubble in chart.bubbles], (BOTTOM, TOP))
    names = ", ".join(bubble.label for bubble in chart.bubbles)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="chart-{number}">',
        f'<title id="chart-{number}">{escape(chart.up)} against {escape(chart.across)}: {escape(names)}</title>',
        *_frame(chart, across, up),
        *_baselines(chart, up),
        *_bubbles(chart, across, up),
        *_sizes(chart),
        "</svg>",
    ]
    return "\n".join(parts)


def _frame(chart: Chart, across: Axis, up: Axis) -> list[str]:
    lines = []
    for value, text in across.ticks():
        x = across.place(value)
        lines.append(f'<path class="grid" d="M{x:.1f} {TOP}V{BOTTOM}"/>')
        lines.append(_text(x, BOTTOM + 16, text, "middle"))
    for value, text in up.ticks():
        y = up.place(value)
        lines.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{RIGHT}"/>')
        lines.append(_text(LEFT - 6, y + 4, text, "end"))
    middle = (LEFT + RIGHT) / 2
    return [
        *lines,
        f'<path class="frame" d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}V{TOP}Z"/>',
        _text(middle, BOTTOM + 38, chart.across, "middle"),
        _text(middle, BOTTOM + 54, chart.device, "middle"),
        f'<g transform="rotate(-90 14 {(TOP + BOTTOM) / 2})">'
        + _text(14, (TOP + BOTTOM) / 2 + 4, chart.up, "middle")
        + "</g>",
    ]


def _baselines(chart: Chart, up: Axis) -> list[str]:
    """Draw networks without latency as lines, or name them at the edge of the frame when they are outside of it."""
    lines = []
    for label, psnr in chart.baselines.items():
        y = min(max(up.place(psnr), TOP), BOTTOM)
        where = " (below)" if psnr < up.low else " (above)" if psnr > up.high else ""
        if not where:
            lines.append(f'<path class="baseline" d="M{LEFT} {y:.1f}H{RIGHT}"/>')
        below = y < (TOP + BOTTOM) / 2
        lines.append(_text(LEFT + 6, y + (13 if below else -5), f"{label}: {psnr:.2f} dB{where}", "start", "quiet"))
    return lines


def _bubbles(chart: Chart, across: Axis, up: Axis) -> list[str]:
    circles, names = [], []
    taken: list[Box] = []
    places = []
    for index, bubble in enumerate(chart.bubbles):
        x, y, radius = across.place(bubble.latency), up.place(bubble.psnr), RADIUS * math.sqrt(chart.share(bubble))
        places.append((x, y, radius, bubble.label))
        taken.append((x - radius, y - radius, x + radius, y + radius))
        first, last = (across.place(end) for end in bubble.quartiles)
        circles.append(
            f'<g class="c{index % COLOURS}"><title>{escape(_told(bubble))}</title>'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>'
            f'<path d="M{first:.1f} {y:.1f}H{last:.1f}M{first:.1f} {y - 3:.1f}v6M{last:.1f} {y - 3:.1f}v6"/></g>'
        )
    for x, y, radius, label in places:
        names.append(_name(x, y, radius, label, taken))
    return [*circles, *names]


def _name(x: float, y: float, radius: float, label: str, taken: list[Box]) -> str:
    """Write a name beside its bubble, where it covers no name and no bubble, if there is such a place."""
    width = LETTER * len(label)
    frame = (LEFT, TOP, WIDTH, BOTTOM)
    found: list[tuple[float, float, float, str, Box]] = []
    for far in (1, 2.2):
        for right, down in DIRECTIONS:
            tx, ty = x + right * (radius * far + 4), y + down * (radius * far + LINE / 2) + 4
            left = tx - width * (1 - right) / 2
            box = (left, ty - LINE + 3, left + width, ty + 3)
            outside = 1 - overlap(box, frame) / (width * LINE)
            cost = sum(overlap(box, other) for other in taken) + 1e6 * outside + far
            found.append((cost, tx, ty, ANCHORS[right], box))
    _, tx, ty, anchor, box = min(found, key=lambda candidate: candidate[0])
    taken.append(box)
    return _text(tx, ty, label, anchor)


def _sizes(chart: Chart) -> list[str]:
    """Explain the bubbles by two of round sizes, beside the frame."""
    if chart.bubbles[0].memory is None:
        return []
    x, y = RIGHT + 24 + RADIUS, TOP + 10.0
    lines = [_text(x, y, "peak memory", "middle", "quiet")]
    for size in round_sizes(chart.most):
        radius = RADIUS * math.sqrt(size / chart.most)
        y += radius + 12
        lines.append(f'<circle class="size" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>')
        y += radius + LINE
        lines.append(_text(x, y, mebibytes(size), "middle", "quiet"))
    return lines


def _told(bubble: Bubble) -> str:
    memory = "" if bubble.memory is None else f", {bubble.memory:.0f} MiB"
    return f"{bubble.label}: {bubble.psnr:.3f} dB, {bubble.latency:.2f} ms{memory}"


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{escape(text)}</text>'


def _round_step(length: float) -> float:
    """Return the distance of about six ticks, 1, 2 or 5 times a power of ten."""
    least = length / 7
    power = 10.0 ** math.floor(math.log10(least))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= least)
