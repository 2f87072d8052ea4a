"""Writes the comparison as one HTML page that needs nothing else: tables to sort, charts, and pictures under a slider.

The page holds its style, its script and its pictures, and its Content-Security-Policy allows these alone, by their
hashes: it fetches nothing, and what stands in names of networks or data sets is never run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from html import escape
from importlib.resources import files
from typing import Any

from esc_arch.common.whole_files import replacing
from esc_arch.compare.bubbles import charts
from esc_arch.compare.crops import embedded, scenes
from esc_arch.compare.paper_table import sections
from esc_arch.compare.runner import Plan
from esc_arch.compare.svg import drawn
from esc_arch.compare.table import cells, groups, notes

FILE = "comparison.html"
TEMPLATE = files("esc_arch.compare") / "template"
# what cells hold besides text: 28.43, x4, +0.012, 12.0 - 13.2, 3.7x less
NUMBER = re.compile(r"x?([+-]?\d+(?:\.\d+)?)(?: - \d+(?:\.\d+)?|x less)?")
MISSING = ("", "-", "failed")


def write(summary: dict[str, Any], plan: Plan, name: str | None = None) -> str:
    """Write `comparison.html` to the folder of the results.

    Args:
        summary: see `summarise`.
        plan: what was compared, whose result pictures are shown.
        name: data set of the charts, None for the one that most networks have.

    Returns:
        the path of the file.

    Raises:
        UserError: it cannot be written, or a result picture cannot be read.
    """
    style, script = ((TEMPLATE / file).read_text(encoding="utf-8") for file in ("page.css", "page.js"))
    shown, side = embedded(scenes(plan))
    environment = ", ".join(f"{key} {value}" for key, value in summary["environment"].items() if value is not None)
    remarks = [*notes(summary), f"Measured on: {environment}."]
    parts = {
        "policy": f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'",
        "style": style,
        "script": script,
        "tables": "\n".join(_tables(summary)),
        "charts": _charts(summary, name),
        "pictures": _pictures(shown, side, plan.pictures),
        "notes": "\n".join(f"<li>{escape(remark)}</li>" for remark in remarks),
        "data": json.dumps(shown).replace("<", "\\u003c"),
    }
    page = (TEMPLATE / "page.html").read_text(encoding="utf-8")
    page = re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], page)
    file = os.path.join(plan.folder, FILE)
    with replacing(file) as stream:
        stream.write(page.encode())
    return file


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _tables(summary: dict[str, Any]) -> list[str]:
    blocks = [(title or "Networks", cells(lines)) for title, lines in groups(summary["networks"])]
    return [_table(title, rows) for title, rows in [*blocks, *sections(summary)]]


def _table(title: str, rows: list[list[str]]) -> str:
    head, *body = rows
    numeric = [_is_numeric([row[column] for row in body]) for column in range(len(head))]
    heads = "".join(f'<th scope="col"><button type="button">{escape(name)}</button></th>' for name in head)
    lines = ""
    for row in body:
        first, *others = (_cell(text, is_number) for text, is_number in zip(row, numeric, strict=True))
        lines += f'<tr><th scope="row"{first}</th>' + "".join(f"<td{cell}</td>" for cell in others) + "</tr>\n"
    return (
        f'<h3>{escape(title)}</h3>\n<div class="wide" role="region" tabindex="0" aria-label="{escape(title)}">'
        f'<table class="sortable"><thead><tr>{heads}</tr></thead>\n<tbody>\n{lines}</tbody></table></div>'
    )


def _is_numeric(column: list[str]) -> bool:
    present = [text for text in column if text not in MISSING]
    return bool(present) and all(NUMBER.fullmatch(text) for text in present)


def _cell(text: str, is_number: bool) -> str:
    """Write a cell from its attributes on; numbers bring the value that they are sorted by."""
    if not is_number:
        return f">{escape(text)}"
    match = NUMBER.fullmatch(text)
    return f' class="number" data-value="{match[1] if match else ""}">{escape(text)}'


def _charts(summary: dict[str, Any], name: str | None) -> str:
    found = charts(summary, name)
    if not found:
        return "<p>No chart: it needs a network with both PSNR and latency.</p>"
    figures = []
    for number, chart in enumerate(found):
        title = escape(chart.title)
        caption = f"<figcaption>{title}: bubbles are as large as the peak memory.</figcaption>"
        figures.append(
            f'<figure class="wide" tabindex="0" aria-label="{title}">{drawn(chart, number)}{caption}</figure>'
        )
    return "\n".join(figures)


def _pictures(shown: list[dict[str, Any]], side: int, most: int) -> str:
    """Say what pictures there are; the script builds the rest from the data."""
    if not shown:
        reason = "none were asked for (--pictures 0)" if not most else "no network has weights and a data set"
        return f"<p>No result pictures: {reason}.</p>"
    return (
        f"<p>Of each data set the first {most} image{'s' * (most > 1)}; of each the square of up to {side} pixels in "
        "which the pictures differ most from each other, without any loss.</p>\n"
        '<div id="viewer"><noscript>The slider needs JavaScript.</noscript></div>'
    )
