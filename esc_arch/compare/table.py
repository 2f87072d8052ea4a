"""Writes the comparison as a table: for the terminal, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import os
import textwrap
from typing import Any

from esc_arch.common.whole_files import replacing
from esc_arch.compare.paper_table import claims_separated, sections, sources

Line = dict[str, Any]
NOTE_WIDTH = 60
NOTHING, FAILED = "-", "failed"
# of metrics that are not between 0 and 1
DIGITS = {"psnr": 3, "niqe": 3, "musiq": 2, "fid": 2, "sfid": 2, "fid_dinov2": 2, "inception_score": 3}


def columns(lines: list[Line]) -> list[str]:
    """Name the data sets that any network has a result or a problem on, in the order of the option files."""
    names: dict[str, None] = {}
    for line in lines:
        known = line["quality"].keys() | line["problems"].keys()
        names.update(dict.fromkeys(name for name in line["sets"] if name in known))
    return list(names)


def metrics(lines: list[Line], name: str) -> list[str]:
    """Name the metrics that any network has a result of on a data set, PSNR and SSIM first."""
    found: dict[str, None] = {}
    for line in lines:
        found.update(dict.fromkeys(line["quality"].get(name, {})))
    found.pop("images", None)
    return list(found) or ["psnr", "ssim"]


def groups(lines: list[Line]) -> list[tuple[str, list[Line]]]:
    """Part the networks by scale and dtype, for a table each; one that could not be used goes into the last.

    Returns:
        titles and networks; the title is empty when there is one group alone.
    """
    parted: dict[tuple[int, str], list[Line]] = {}
    for line in sorted((line for line in lines if line["scale"]), key=lambda line: line["scale"]):
        parted.setdefault((line["scale"], line["dtype"]), []).append(line)
    lost = [line for line in lines if not line["scale"]]
    if lost:
        last = list(parted)[-1] if parted else (0, "")
        parted[last] = parted.get(last, []) + lost
    return [(f"x{scale}, {dtype}" if len(parted) > 1 else "", part) for (scale, dtype), part in parted.items()]


def terminal(summary: dict[str, Any]) -> str:
    """Lay the tables out in plain text, with the last column folded."""
    blocks = [(title, cells(lines)) for title, lines in groups(summary["networks"])]
    text = [f"{title}\n{_plain(rows)}" if title else _plain(rows) for title, rows in [*blocks, *sections(summary)]]
    return "\n\n".join([*text, "\n".join(notes(summary))])


def markdown(summary: dict[str, Any]) -> str:
    """Write the tables in Markdown, with what the figures mean and the machine below them."""
    blocks = [(title, cells(lines)) for title, lines in groups(summary["networks"])]
    text = [f"### {title}\n\n{_piped(rows)}" if title else _piped(rows) for title, rows in blocks + sections(summary)]
    environment = ", ".join(f"{name} {value}" for name, value in summary["environment"].items() if value is not None)
    below = [f"- {sentence}" for sentence in (*notes(summary), f"Measured on: {environment}.")]
    return "\n\n".join([*text, "\n".join(below)]) + "\n"


def notes(summary: dict[str, Any]) -> list[str]:
    """Say what the figures mean, and how far they compare with the paper's."""
    return [*summary["conventions"], *sources(summary), *([summary["paper"]] if "paper" in summary else [])]


def comma_separated(summary: dict[str, Any]) -> str:
    """Write the figures unrounded, a network in a row; what was not measured is empty."""
    scored = [(name, metric) for name in columns(summary["networks"]) for metric in metrics(summary["networks"], name)]
    own = ["label", "file", "type", "scale", "dtype", "parameters", "macs"]
    ratios = ["latency", "paper_latency", "memory", "paper_memory"]
    head = [*own, "latency_median_ms", "latency_q1_ms", "latency_q3_ms", "memory_mib"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*head, *(f"{metric}_{name}" for name, metric in scored),
                     *(f"{ratio}_over_esc" for ratio in ratios), "note"])  # fmt: skip
    for line in summary["networks"]:
        latency = line.get("latency_ms", {})
        scores = [line["quality"].get(name, {}).get(metric) for name, metric in scored]
        figures = [line.get(name) for name in own]
        times = [latency.get(name) for name in ("median", "q1", "q3")]
        relative = [line.get("relative_to_esc", {}).get(ratio) for ratio in ratios]
        writer.writerow([*figures, *times, line.get("memory_mib"), *scores, *relative, note(line)])
    return text.getvalue()


def write(summary: dict[str, Any], folder: str) -> list[str]:
    """Write `comparison.md`, `.csv`, `.json` and, if there are claims, `claims.csv` to a folder; return their paths."""
    texts = {
        "comparison.md": markdown(summary),
        "comparison.csv": comma_separated(summary),
        "comparison.json": json.dumps(summary, indent=1) + "\n",
    }
    if summary["claims"]:
        texts["claims.csv"] = claims_separated(summary["claims"])
    files = []
    for name, text in texts.items():
        file = os.path.join(folder, name)
        with replacing(file) as stream:
            stream.write(text.encode())
        files.append(file)
    return files


def note(line: Line) -> str:
    """Say what went wrong with a network, and what else is to be known of it."""
    problems = [f"{task}: {problem}" if task else problem for task, problem in line["problems"].items()]
    return " ".join(f"{sentence.rstrip('.')}." for sentence in (*problems, line["remark"]) if sentence)


def cells(lines: list[Line]) -> list[list[str]]:
    """Write the figures of networks as text, below a head."""
    scored = [(name, metrics(lines, name)) for name in columns(lines)]
    head = ["network", "scale", "params (K)", "MACs (G)", "latency (ms)", "quartiles", "memory (MiB)"]
    head += [
        title for name, (first, *others) in scored for title in (f"{name} {first.upper()}", *map(str.upper, others))
    ]
    body = []
    for line in lines:
        dead = bool({"", "parameters"} & line["problems"].keys())

        def cell(task: str, text: str | None, line: Line = line, dead: bool = dead) -> str:
            return text or (FAILED if dead or task in line["problems"] else NOTHING)

        latency, macs, memory = line.get("latency_ms"), line.get("macs"), line.get("memory_mib")
        parameters = line.get("parameters")
        row = [
            line["label"],
            f"x{line['scale']}" if line["scale"] else NOTHING,
            cell("parameters", None if parameters is None else f"{parameters / 1e3:.1f}"),
            cell("macs", None if macs is None else f"{macs / 1e9:.2f}"),
            cell("speed", latency and _milliseconds(latency["median"])),
            cell("speed", latency and f"{_milliseconds(latency['q1'])} - {_milliseconds(latency['q3'])}"),
            cell("speed", None if memory is None else f"{memory:.0f}"),
        ]
        for name, names in scored:
            scores = line["quality"].get(name, {})
            row += [
                cell(name, f"{scores[metric]:.{DIGITS.get(metric, 4)}f}" if metric in scores else None)
                for metric in names
            ]
        body.append([*row, note(line)])
    return [[*head, "note"], *body]


def _plain(rows: list[list[str]]) -> str:
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]) - 1)]
    indent = " " * (sum(widths) + 2 * len(widths))
    text = []
    for first, *others, last in rows:
        folded = textwrap.wrap(last, NOTE_WIDTH) or [""]
        aligned = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        text.append("  ".join([first.ljust(widths[0]), *aligned, folded[0]]).rstrip())
        text.extend(indent + line for line in folded[1:])
    return "\n".join(text)


def _piped(rows: list[list[str]]) -> str:
    rule = ["---", *["---:"] * (len(rows[0]) - 2), "---"]
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in (rows[0], rule, *rows[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in escaped)


def _milliseconds(time: float) -> str:
    return f"{time:.2f}" if time < 10 else f"{time:.1f}"
