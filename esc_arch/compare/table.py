"""Writes the comparison as a table: for the terminal, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import os
import textwrap
from typing import Any

Line = dict[str, Any]
NOTE_WIDTH = 60
NOTHING, FAILED = "-", "failed"


def columns(lines: list[Line]) -> list[str]:
    """Name the data sets that any network has a result or a problem on, in the order of the option files."""
    names: dict[str, None] = {}
    for line in lines:
        known = line["quality"].keys() | line["problems"].keys()
        names.update(dict.fromkeys(name for name in line["sets"] if name in known))
    return list(names)


def terminal(summary: dict[str, Any]) -> str:
    """Lay the table out in plain text, with the note of every network folded."""
    head, body = _cells(summary["networks"])
    rows = [head, *body]
    widths = [max(len(row[index]) for row in rows) for index in range(len(head) - 1)]
    text = []
    for row in rows:
        note = textwrap.wrap(row[-1], NOTE_WIDTH) or [""]
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=False)),
        ]
        indent = " " * (sum(widths) + 2 * len(widths))
        text.append("  ".join([*cells, note[0]]).rstrip())
        text.extend(indent + line for line in note[1:])
    return "\n".join([*text, "", *summary["conventions"]])


def markdown(summary: dict[str, Any]) -> str:
    """Write the table in Markdown, with what the figures mean and the machine below it."""
    head, body = _cells(summary["networks"])
    rule = ["---", *["---:"] * (len(head) - 2), "---"]
    rows = [[cell.replace("|", "\\|") for cell in row] for row in (head, rule, *body)]
    environment = ", ".join(f"{name} {value}" for name, value in summary["environment"].items() if value is not None)
    notes = [f"- {sentence}" for sentence in (*summary["conventions"], f"Measured on: {environment}.")]
    return "\n".join(["| " + " | ".join(row) + " |" for row in rows] + ["", *notes, ""])


def comma_separated(summary: dict[str, Any]) -> str:
    """Write the figures unrounded, a network in a row; what was not measured is empty."""
    sets = columns(summary["networks"])
    own = ["label", "file", "type", "scale", "parameters", "macs"]
    head = [*own, "latency_median_ms", "latency_q1_ms", "latency_q3_ms", "memory_mib"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*head, *(f"{metric}_{name}" for name in sets for metric in ("psnr", "ssim")), "note"])
    for line in summary["networks"]:
        latency = line.get("latency_ms", {})
        scores = [line["quality"].get(name, {}).get(metric) for name in sets for metric in ("psnr", "ssim")]
        figures = [line.get(name) for name in own]
        times = [latency.get(name) for name in ("median", "q1", "q3")]
        writer.writerow([*figures, *times, line.get("memory_mib"), *scores, note(line)])
    return text.getvalue()


def write(summary: dict[str, Any], folder: str) -> list[str]:
    """Write `comparison.md`, `.csv` and `.json` into a folder; return their paths."""
    texts = {
        "md": markdown(summary),
        "csv": comma_separated(summary),
        "json": json.dumps(summary, indent=1) + "\n",
    }
    files = []
    for suffix, text in texts.items():
        file = os.path.join(folder, f"comparison.{suffix}")
        with open(file + ".partial", "w", encoding="utf-8") as target:
            target.write(text)
        os.replace(file + ".partial", file)
        files.append(file)
    return files


def note(line: Line) -> str:
    """Say what went wrong with a network, and what else is to be known of it."""
    problems = [f"{task}: {problem}" if task else problem for task, problem in line["problems"].items()]
    return " ".join(f"{sentence.rstrip('.')}." for sentence in (*problems, line["remark"]) if sentence)


def _cells(lines: list[Line]) -> tuple[list[str], list[list[str]]]:
    sets = columns(lines)
    head = ["network", "scale", "params (K)", "MACs (G)", "latency (ms)", "quartiles", "memory (MiB)"]
    head += [title for name in sets for title in (f"{name} PSNR", "SSIM")]
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
        for name in sets:
            scores = line["quality"].get(name)
            row += [
                cell(name, scores and f"{scores['psnr']:.3f}"),
                cell(name, scores and f"{scores['ssim']:.4f}"),
            ]
        body.append([*row, note(line)])
    return [*head, "note"], body


def _milliseconds(time: float) -> str:
    return f"{time:.2f}" if time < 10 else f"{time:.1f}"
