"""Lays out the comparison with what was published: ratios to ESC, PSNR and SSIM, and claims with their verdict."""

from __future__ import annotations

import csv
import io
from typing import Any

from esc_arch.compare.published import TOLERANCE

Section = tuple[str, list[list[str]]]
NOTHING = "-"


def sections(summary: dict[str, Any]) -> list[Section]:
    """Return titles and tables, of text below a head; nothing where nothing is to be compared."""
    related = [line for line in summary["networks"] if "relative_to_esc" in line]
    found: list[Section] = []
    if related:
        head = ["network", "scale", "dtype", "latency / ESC", "paper's", "memory / ESC", "paper's"]
        found.append(("Relative to ESC", [head, *(_relation(line) for line in related)]))
    beside = [(line, comparison) for line in summary["networks"] for comparison in line.get("published", ())]
    if beside:
        figures = [name for metric in ("PSNR", "SSIM") for name in (metric, "published", "difference")]
        head = ["network", "scale", "dtype", "data set", *figures, "note"]
        found.append(("Beside published figures", [head, *(_beside(*pair) for pair in beside)]))
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


def _beside(line: dict[str, Any], comparison: dict[str, Any]) -> list[str]:
    cells, remarks = [], [f"PSNR differs by more than {TOLERANCE} dB"] if comparison["differs"] else []
    for metric, digits in (("psnr", 3), ("ssim", 4)):
        figures = comparison.get(metric)
        if figures is None:
            measured = line["quality"][comparison["set"]].get(metric)
            cells += [NOTHING if measured is None else f"{measured:.{digits}f}", NOTHING, NOTHING]
            continue
        printed = f"{figures['published']:.{2 if metric == 'psnr' else 4}f}"
        cells += [f"{figures['measured']:.{digits}f}", printed, f"{figures['difference']:+.{digits}f}"]
        if figures["misprint"]:
            remarks.append(f"published {metric.upper()} {printed} is likely a misprint")
    return [line["label"], f"x{line['scale']}", line["dtype"], comparison["set"], *cells, "; ".join(remarks)]


def sources(summary: dict[str, Any]) -> list[str]:
    """Say where the published PSNR and SSIM were printed, and how near they may be expected."""
    where: dict[str, dict[str, None]] = {}
    for line in summary["networks"]:
        for comparison in line.get("published", ()):
            where.setdefault(comparison["source"], {})[line["label"]] = None
    cited = "; ".join(f"{', '.join(labels)}: {source}" for source, labels in where.items())
    return [f"Published PSNR and SSIM: {cited}."] if cited else []


def _claim(result: dict[str, Any]) -> list[str]:
    less = [NOTHING if ratio is None else f"{ratio:.1f}x less" for ratio in (result["claimed"], result["measured"])]
    return [result["claim"], result["dtype"], result["quantity"], *less, result["verdict"]]


def _ratio(ratio: float | None) -> str:
    return NOTHING if ratio is None else f"{ratio:.2f}"
