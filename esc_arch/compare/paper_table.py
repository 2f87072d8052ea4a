"""Lays out the comparison with the paper: ratios to ESC, and claims with their verdict."""

from __future__ import annotations

import csv
import io
from typing import Any

Section = tuple[str, list[list[str]]]
NOTHING = "-"


def sections(summary: dict[str, Any]) -> list[Section]:
    """Return titles and tables, of text below a head; nothing where nothing is to be compared."""
    related = [line for line in summary["networks"] if "relative_to_esc" in line]
    found: list[Section] = []
    if related:
        head = ["network", "scale", "dtype", "latency / ESC", "paper's", "memory / ESC", "paper's"]
        found.append(("Relative to ESC", [head, *(_relation(line) for line in related)]))
    if summary["claims"]:
        head = ["claim of the paper", "dtype", "quantity", "claimed", "measured", "verdict"]
        found.append(("Claims", [head, *(_claim(result) for result in summary["claims"])]))
    return found


def claims_separated(claims: list[dict[str, Any]]) -> str:
    """Write the claims as CSV, unrounded; what was not measured is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(claims[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(claims)
    return text.getvalue()


def _relation(line: dict[str, Any]) -> list[str]:
    ratios = line["relative_to_esc"]
    shown = [_ratio(ratios[name]) for name in ("latency", "paper_latency", "memory", "paper_memory")]
    return [line["label"], f"x{line['scale']}", line["dtype"], *shown]


def _claim(result: dict[str, Any]) -> list[str]:
    less = [NOTHING if ratio is None else f"{ratio:.1f}x less" for ratio in (result["claimed"], result["measured"])]
    return [result["claim"], result["dtype"], result["quantity"], *less, result["verdict"]]


def _ratio(ratio: float | None) -> str:
    return NOTHING if ratio is None else f"{ratio:.2f}"
